//! A whole attempt in a process: one that is started for it, beside one that a pool keeps warm.

use std::{
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_core::{
    Agent, AgentError, AgentKey, ApprovalRequest, ChildOutcome, ConversationId, Decision, Delegate,
    Error, HostStep, Json, NewEvent, RunContext, RunHost, RunId, StepBody, Timestamp,
};
use adjutant_process::{
    Environment, Manifest, NativeOptions, NativeProcesses, PoolConfig, ProcessAgent,
};
use anyhow::{Result, anyhow};

use crate::{
    bench::Bench,
    report::{Row, Times},
};

const COLD: &str = "pool: no-op attempt, cold process";
const WARM: &str = "pool: no-op attempt, warm process";

/// What this program is called as to be the agent.
const AGENT: &str = "pool-agent";
const COLD_RUNS: usize = 200;
const WARM_RUNS: usize = 20_000;

/// This program as an agent that does nothing, if it was started as one.
pub fn agent_main() -> Option<ExitCode> {
    let is_agent = std::env::args().nth(1).is_some_and(|word| word == AGENT);
    is_agent.then(|| adjutant_agent::serve(AGENT, |_| Ok("done".to_owned())))
}

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let names = |row| [50, 99].map(|percent| format!("{row}: p{percent}"));
    let wanted = [COLD, WARM].map(names).concat();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    if !bench.wants(&wanted) {
        return Ok(());
    }
    let processes = NativeProcesses::with(NativeOptions::default())?;
    let cold = agent(None, bench.disk(), &processes)?;
    let count = if bench.quick {
        COLD_RUNS / 4
    } else {
        COLD_RUNS
    };
    let cold = attempts(&cold, count).await?;
    let warm = agent(Some(pool()), bench.disk(), &processes)?;
    attempts(&warm, 100).await?;
    let count = if bench.quick {
        WARM_RUNS / 10
    } else {
        WARM_RUNS
    };
    let warm = attempts(&warm, count).await?;
    for percent in [50, 99] {
        let row = |name, times: &Times| {
            let name = format!("{name}: p{percent}");
            Row::new(name, times.percentile(percent), "us")
        };
        let cold = row(COLD, &cold);
        let warm = row(WARM, &warm).over(Some(&cold));
        bench.push(cold);
        bench.push(if percent == 99 {
            warm.at_most(1000.0)
        } else {
            warm
        });
    }
    Ok(())
}

/// No process of it is ever too old.
fn pool() -> PoolConfig {
    PoolConfig {
        min: 1,
        max: std::num::NonZeroU32::MIN,
        max_runs: std::num::NonZeroU32::MAX,
        ..PoolConfig::default()
    }
}

fn agent(
    pool: Option<PoolConfig>,
    dir: &Path,
    processes: &NativeProcesses,
) -> Result<ProcessAgent> {
    let program = std::env::current_exe()?;
    let program = program.to_str().ok_or_else(|| anyhow!("an odd path"))?;
    let manifest = Manifest {
        pool,
        ..Manifest::new(AGENT, [program, AGENT])
    };
    let base = Environment::default();
    let processes = Arc::new(processes.clone());
    Ok(ProcessAgent::new(manifest, dir, base, processes))
}

/// So many attempts, one after the other.
async fn attempts(agent: &ProcessAgent, count: usize) -> Result<Times> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let ctx = RunContext::new(Arc::new(Host::new()));
        let begin = Instant::now();
        let ended = agent.run(&ctx).await;
        times.push(begin.elapsed());
        ended.map_err(|error| anyhow!("{:?}", error.info()))?;
    }
    Ok(Times::new(times))
}

/// A host that keeps nothing, so that the process alone is measured.
struct Host {
    run: RunId,
    key: AgentKey,
    empty: Json,
}

impl Host {
    fn new() -> Self {
        Self {
            run: RunId::new(),
            key: AgentKey::new(AGENT),
            empty: Json::from(serde_json::json!({})),
        }
    }
}

fn not_here() -> AgentError {
    AgentError::permanent("not_here", "the agent asks for what nobody measures")
}

#[async_trait::async_trait]
impl RunHost for Host {
    fn run_id(&self) -> RunId {
        self.run
    }
    fn agent(&self) -> &AgentKey {
        &self.key
    }
    fn attempt(&self) -> u32 {
        1
    }
    fn epoch(&self) -> u64 {
        1
    }
    fn input(&self) -> &Json {
        &self.empty
    }
    fn metadata(&self) -> &Json {
        &self.empty
    }
    fn conversation_id(&self) -> Option<ConversationId> {
        None
    }
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
    fn cancelled(&self) -> bool {
        false
    }
    async fn cancellation(&self) {
        std::future::pending::<()>().await;
    }
    async fn emit(&self, _event: NewEvent) -> Result<u64, Error> {
        Ok(1)
    }
    fn note(&self, _event: NewEvent) {}
    async fn checkpoint(&self, _state: Json) -> Result<u64, Error> {
        Ok(1)
    }
    fn state(&self) -> Option<Json> {
        None
    }
    async fn step(&self, _: HostStep, _: &mut StepBody<'_>) -> Result<Json, AgentError> {
        Err(not_here())
    }
    async fn sleep(&self, _: &str, _: Duration) -> Result<(), AgentError> {
        Err(not_here())
    }
    async fn wait_for_signal(
        &self,
        _: &str,
        _: Option<Duration>,
    ) -> Result<Option<Json>, AgentError> {
        Err(not_here())
    }
    async fn request_approval(&self, _: ApprovalRequest) -> Result<Decision, AgentError> {
        Err(not_here())
    }
    async fn delegate(&self, _: Delegate) -> Result<Vec<ChildOutcome>, AgentError> {
        Err(not_here())
    }
}
