//! An agent whose runs are told on the terminal, for people who watch a worker.

use adjutant::{Agent, AgentError, AgentKey, ErrorInfo, RunContext, RunResult, core::RunId};
use async_trait::async_trait;

use crate::{
    output::{Output, Paint},
    recovery,
};

/// The agent, and where its runs are told.
pub struct Told<A> {
    agent: A,
    out: Output,
}

impl<A> Told<A> {
    pub fn new(agent: A, out: Output) -> Self {
        Self { agent, out }
    }
}

#[async_trait]
impl<A: Agent> Agent for Told<A> {
    fn key(&self) -> AgentKey {
        self.agent.key()
    }

    async fn run(&self, ctx: &RunContext) -> Result<RunResult, AgentError> {
        let mut line = Line {
            out: &self.out,
            run: ctx.run_id(),
            agent: self.agent.key(),
            is_over: false,
        };
        // More claims than attempts: it was suspended or given back, and not begun anew.
        let verb = if ctx.epoch() > u64::from(ctx.attempt()) {
            "goes on"
        } else {
            "begins"
        };
        line.tell(&format!("{verb}, attempt {}", ctx.attempt()));
        let result = self.agent.run(ctx).await;
        line.is_over = true;
        match &result {
            Ok(_) => line.tell(&self.out.paint(Paint::Green, "done")),
            Err(error) => line.tell(&format!(
                "{} {error}",
                self.out.paint(Paint::Red, "failed:")
            )),
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

/// Tells of one execution.
struct Line<'a> {
    out: &'a Output,
    run: RunId,
    agent: AgentKey,
    is_over: bool,
}

impl Line<'_> {
    fn tell(&self, what: &str) {
        let now = recovery::now().to_string();
        let time = self
            .out
            .paint(Paint::Dim, now.get(11..19).unwrap_or_default());
        self.out
            .note(&format!("{time} {} {}: {what}", self.run, self.agent));
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        // The executor drops the future of a run that waits, is paused, cancelled or given back.
        if !self.is_over {
            self.tell(&self.out.paint(Paint::Dim, "suspended"));
        }
    }
}
