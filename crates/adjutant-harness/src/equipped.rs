//! An agent with models and tools.

use std::sync::Arc;

use adjutant_core::{Agent, AgentError, AgentKey, ErrorInfo, RunContext, RunResult, Usage};
use adjutant_telemetry::{AttemptTrace, Scope};
use async_trait::async_trait;

use crate::{
    equipment::Equipment,
    host::{EquippedHost, context},
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

    fn equip(&self, ctx: &RunContext, scope: Option<&Scope>) -> (RunContext, Box<dyn Send + Sync>) {
        let host = |environment| {
            let (inner, equipment) = (Arc::clone(ctx.host()), self.equipment.clone());
            let host = EquippedHost::new(inner, equipment, environment, scope.cloned());
            context(Arc::new(host))
        };
        let mut environment: Vec<_> = scope
            .iter()
            .map(|scope| ("TRACEPARENT".to_owned(), scope.traceparent()))
            .collect();
        let Some(attendant) = &self.equipment.attendant else {
            return (host(environment), Box::new(()));
        };
        // The attendant calls through a context of its own, so that its names are counted apart from the agent's.
        let (more, kept) = attendant.attend(&host(Vec::new()));
        environment.extend(more);
        (host(environment), kept)
    }
}

#[async_trait]
impl<A: Agent> Agent for Equipped<A> {
    fn key(&self) -> AgentKey {
        self.agent.key()
    }

    async fn run(&self, ctx: &RunContext) -> Result<RunResult, AgentError> {
        let tracer = self.equipment.tracer.as_ref();
        let trace = tracer.map(|tracer| trace::begin(tracer, ctx));
        let scope = trace.as_ref().map(AttemptTrace::scope);
        let (ctx, _kept) = self.equip(ctx, scope.as_ref());
        let mut result = self.agent.run(&ctx).await;
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
