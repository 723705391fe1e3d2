//! What an agent is given.

use std::{sync::Arc, time::Duration};

use adjutant_budget::BudgetLedger;
use adjutant_core::{ModelRequest, RunContext};
use adjutant_llm::{Cost, LanguageModel, ModelRouter};
use adjutant_telemetry::Tracer;
use adjutant_tools::ToolRegistry;

use crate::policy::{BudgetPolicy, ToolPolicy};

/// What a model call may cost at most.
pub trait Estimates: Send + Sync {
    /// The cost in millionths of a dollar; `None` where prices are not known.
    fn micro_usd(&self, request: &ModelRequest) -> Option<u64>;
}

impl Estimates for ModelRouter {
    fn micro_usd(&self, request: &ModelRequest) -> Option<u64> {
        self.estimate_cost(request).map(Cost::micro_usd)
    }
}

/// Who is there while an attempt lasts: gives its process access to something, and takes it back at the end.
pub trait Attendant: Send + Sync {
    /// An attempt begins. Returns environment variables for its process, and what is to be dropped at its end.
    fn attend(&self, ctx: &RunContext) -> (Vec<(String, String)>, Box<dyn Send + Sync>);
}

/// What an agent is given. Cheap to clone; agents share what is in it.
#[derive(Clone, Default)]
pub struct Equipment {
    /// Who answers for models.
    pub models: Option<Arc<dyn LanguageModel>>,
    /// The model of calls that name none.
    pub model: String,
    /// Longest time for one model call, repeats included. Default 10 minutes.
    pub model_timeout: Option<Duration>,
    /// Tools.
    pub tools: Option<Arc<ToolRegistry>>,
    /// Other agents that it may call as tools `agent__NAME`, with what they do.
    pub agents: Vec<(String, String)>,
    /// How it may use its tools.
    pub tool_policy: ToolPolicy,
    /// Longest time for one try of a tool call. Default 60 s.
    pub tool_timeout: Option<Duration>,
    /// What it may spend.
    pub budget: BudgetPolicy,
    /// Where that is kept.
    pub ledger: Option<Arc<dyn BudgetLedger>>,
    /// What calls cost.
    pub prices: Option<Arc<dyn Estimates>>,
    /// Who is told of calls.
    pub tracer: Option<Tracer>,
    /// Who is there while an attempt lasts.
    pub attendant: Option<Arc<dyn Attendant>>,
}

impl std::fmt::Debug for Equipment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Equipment")
            .field("model", &self.model)
            .field("tool_policy", &self.tool_policy)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
