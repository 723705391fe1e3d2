//! The agents that are killed, and what they must have done in the end.

use std::{fs::OpenOptions, io::Write, path::Path, sync::Arc, time::Duration};

use adjutant_core::{
    AgentError, AgentFn, AgentRegistry, Clock, Delegate, RunContext, RunInput, RunResult,
    SystemClock,
};
use serde_json::{Value, json};

/// Steps, a checkpoint, a sleep, children and a signal.
pub const WHOLE: &str = "whole";
/// Fails its first attempt.
pub const FLAKY: &str = "flaky";
/// Does one step, which takes as long as its first worker is let.
pub const HELD: &str = "held";
const LEAF: &str = "leaf";

/// The signal that `WHOLE` waits for.
pub const SIGNAL: &str = "go";

/// The steps that write a line, in order, and the run's output.
pub fn expected(agent: &str) -> (&'static [&'static str], Value) {
    match agent {
        WHOLE => (
            &["one", "slow", "two", "three", "last"],
            json!({ "sum": 15, "children": [7, 7], "signal": "now" }),
        ),
        FLAKY => (&["first", "second"], json!(9)),
        LEAF => (&["leaf"], json!(7)),
        HELD => (&["hold", "after"], json!(2)),
        other => panic!("no agent `{other}`"),
    }
}

/// One line of the file that steps write to.
pub fn write_line(path: &Path, ctx: &RunContext, step: &str) -> Result<(), AgentError> {
    let line = format!(
        "{} {step} {} {} {}\n",
        ctx.run_id(),
        ctx.attempt(),
        ctx.epoch(),
        SystemClock.now().as_micros()
    );
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

async fn step(
    ctx: &RunContext,
    lines: &Path,
    name: &str,
    value: u64,
    pace: Duration,
) -> Result<u64, AgentError> {
    ctx.step(name, || async move {
        write_line(lines, ctx, name)?;
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        Ok(value)
    })
    .await
}

async fn whole(ctx: RunContext, lines: Arc<Path>) -> Result<RunResult, AgentError> {
    let pace = Duration::from_millis(ctx.input_data()?);
    let mut sum = step(&ctx, &lines, "one", 1, pace).await?;
    // Long enough to be announced while it runs.
    sum += step(&ctx, &lines, "slow", 2, Duration::from_millis(30)).await?;
    ctx.checkpoint(&sum).await?;
    ctx.sleep("nap", Duration::from_millis(50)).await?;
    sum += step(&ctx, &lines, "two", 3, pace).await?;
    let children = ctx
        .delegate(
            Delegate::new("both")
                .child(LEAF, ctx.input().clone())
                .child(LEAF, ctx.input().clone()),
        )
        .await?;
    let children: Vec<Value> = children
        .iter()
        .map(|child| child.output.to())
        .collect::<Result<_, _>>()?;
    sum += step(&ctx, &lines, "three", 4, pace).await?;
    let signal = ctx.wait_for_signal(SIGNAL, None).await?;
    sum += step(&ctx, &lines, "last", 5, pace).await?;
    ctx.checkpoint(&sum).await?;
    let signal: Value = signal.unwrap_or_default().to()?;
    Ok(RunResult::output(
        json!({ "sum": sum, "children": children, "signal": signal }),
    ))
}

async fn flaky(ctx: RunContext, lines: Arc<Path>) -> Result<RunResult, AgentError> {
    let pace = Duration::from_millis(ctx.input_data()?);
    let first = step(&ctx, &lines, "first", 4, pace).await?;
    if ctx.attempt() == 1 {
        return Err(AgentError::retriable("flaky", "the first attempt fails"));
    }
    let second = step(&ctx, &lines, "second", 5, pace).await?;
    Ok(RunResult::output(json!(first + second)))
}

async fn leaf(ctx: RunContext, lines: Arc<Path>) -> Result<RunResult, AgentError> {
    let pace = Duration::from_millis(ctx.input_data()?);
    let value = step(&ctx, &lines, "leaf", 7, pace).await?;
    Ok(RunResult::output(json!(value)))
}

async fn held(ctx: RunContext, lines: Arc<Path>) -> Result<RunResult, AgentError> {
    let gate: std::path::PathBuf = ctx.input_data()?;
    let (ctx, lines, gate) = (&ctx, &*lines, &*gate);
    let hold = ctx
        .step("hold", || async move {
            write_line(lines, ctx, "hold")?;
            while ctx.epoch() == 1 && !gate.exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(1)
        })
        .await?;
    let after = step(ctx, lines, "after", 1, Duration::ZERO).await?;
    Ok(RunResult::output(json!(hold + after)))
}

/// All of them, writing to this file.
pub fn registry(lines: &Path) -> AgentRegistry {
    let lines: Arc<Path> = Arc::from(lines);
    let [a, b, c, d] = [(); 4].map(|()| Arc::clone(&lines));
    AgentRegistry::new()
        .with(AgentFn::new(WHOLE, move |ctx| whole(ctx, Arc::clone(&a))))
        .with(AgentFn::new(FLAKY, move |ctx| flaky(ctx, Arc::clone(&b))))
        .with(AgentFn::new(LEAF, move |ctx| leaf(ctx, Arc::clone(&c))))
        .with(AgentFn::new(HELD, move |ctx| held(ctx, Arc::clone(&d))))
}

/// An input that makes each step take this long.
pub fn paced(millis: u64) -> RunInput {
    RunInput::data(json!(millis))
}
