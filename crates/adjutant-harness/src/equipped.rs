//! An agent with models and tools.

use std::sync::Arc;

use adjutant_core::{Agent, AgentError, AgentKey, ErrorInfo, RunContext, RunResult, Usage};
use adjutant_telemetry::{AttemptTrace, Scope};
use async_trait::async_trait;

use crate::{
    equipment::Equipment,
    host::{EquippedHost, context},
    purse::exceeded,
    trace,
};

/// Any agent, with models and tools in its context.
#[derive(Debug)]
pub struct Equipped<A> {
    agent: A,
    equipment: Equipment,
}

impl<A: Agent> Equipped<A> {
    /// Equips an agent.
    pub const fn new(agent: A, equipment: Equipment) -> Self {
        Self { agent, equipment }
    }

    /// A host with everything, and what is to be dropped at the attempt's end.
    fn equip(&self, ctx: &RunContext, scope: Option<Scope>) -> (Arc<EquippedHost>, Kept) {
        let traceparent = scope.as_ref().map(Scope::traceparent);
        let (inner, equipment) = (Arc::clone(ctx.host()), self.equipment.clone());
        let host = Arc::new(EquippedHost::new(inner, equipment, scope));
        let mut environment: Vec<_> = traceparent
            .into_iter()
            .map(|value| ("TRACEPARENT".to_owned(), value))
            .collect();
        let kept: Kept = match &self.equipment.attendant {
            None => Box::new(()),
            Some(attendant) => {
                let (more, kept) = attendant.attend(&context(&host));
                environment.extend(more);
                kept
            }
        };
        host.give(environment);
        (host, kept)
    }
}

/// What lasts as long as an attempt.
type Kept = Box<dyn Send + Sync>;

#[async_trait]
impl<A: Agent> Agent for Equipped<A> {
    fn key(&self) -> AgentKey {
        self.agent.key()
    }

    async fn run(&self, ctx: &RunContext) -> Result<RunResult, AgentError> {
        let tracer = self.equipment.tracer.as_ref();
        let trace = tracer.map(|tracer| trace::begin(tracer, ctx));
        let scope = trace.as_ref().map(AttemptTrace::scope);
        let (host, _kept) = self.equip(ctx, scope);
        let ctx = context(&host);
        let mut result = match host.settle_lost().await {
            Ok(()) => self.agent.run(&ctx).await,
            Err(error) => Err(error),
        };
        // An agent that knows nothing of budgets, such as a process, fails of a refusal in its own words; to try it again
        // would end the same way.
        if let Err(error) = &result
            && error.info().retriable
            && let Some(refusal) = host.refused.get()
        {
            result = Err(exceeded(refusal));
        }
        if let Ok(result) = &mut result
            && result.usage == Usage::default()
        {
            result.usage = ctx.usage();
        }
        if let Some(trace) = trace {
            trace::end(trace, &ctx, &result);
        }
        result
    }

    async fn cancel(&self, ctx: &RunContext) {
        self.agent.cancel(ctx).await;
    }

    async fn on_error(&self, ctx: &RunContext, error: &AgentError) -> Option<ErrorInfo> {
        self.agent.on_error(ctx, error).await
    }
}
