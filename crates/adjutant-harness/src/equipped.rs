//! An agent with models and tools.

use std::sync::Arc;

use adjutant_core::{Agent, AgentError, AgentKey, ErrorInfo, RunContext, RunResult, Usage};
use async_trait::async_trait;

use crate::{
    equipment::Equipment,
    host::{EquippedHost, context},
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

    fn equip(&self, ctx: &RunContext) -> (RunContext, Box<dyn Send + Sync>) {
        let host = |environment| {
            let inner = Arc::clone(ctx.host());
            context(Arc::new(EquippedHost::new(
                inner,
                self.equipment.clone(),
                environment,
            )))
        };
        match &self.equipment.grants {
            None => (host(Vec::new()), Box::new(())),
            Some(grants) => {
                // The endpoint calls through a context of its own, so that its names are counted apart from the agent's.
                let (environment, kept) = grants.open(&host(Vec::new()));
                (host(environment), kept)
            }
        }
    }
}

#[async_trait]
impl<A: Agent> Agent for Equipped<A> {
    fn key(&self) -> AgentKey {
        self.agent.key()
    }

    async fn run(&self, ctx: &RunContext) -> Result<RunResult, AgentError> {
        let (ctx, _kept) = self.equip(ctx);
        let mut result = self.agent.run(&ctx).await?;
        if result.usage == Usage::default() {
            result.usage = ctx.usage();
        }
        Ok(result)
    }

    async fn cancel(&self, ctx: &RunContext) {
        self.agent.cancel(ctx).await;
    }

    async fn on_error(&self, ctx: &RunContext, error: &AgentError) -> Option<ErrorInfo> {
        self.agent.on_error(ctx, error).await
    }
}
