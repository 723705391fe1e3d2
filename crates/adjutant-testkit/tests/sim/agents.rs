//! One agent that performs whatever program its input holds.

use std::{sync::Arc, time::Duration};

use adjutant_core::{
    AgentError, AgentFn, AgentRegistry, ApprovalRequest, Delegate, FailurePolicy, RetryPolicy,
    RunContext, RunInput, RunResult,
};
use futures::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{dice::Dice, observer::Observer};

/// One thing that an agent does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Act {
    /// A step whose first tries fail.
    Step {
        name: String,
        fails: u32,
        millis: u64,
    },
    Sleep {
        name: String,
        millis: u64,
    },
    Signal {
        name: String,
        limit: Option<u64>,
    },
    Ask {
        name: String,
        limit: Option<u64>,
    },
    Save,
    Emit,
    Fan {
        name: String,
        policy: FailurePolicy,
        children: Vec<Vec<Act>>,
    },
    /// Both at the same time.
    Both(Vec<Act>, Vec<Act>),
    /// Attempts before this one fail.
    Fail(u32),
    /// Attempts before this one panic.
    Panic(u32),
    /// Fails for good.
    Refuse,
    /// Goes on until it is cancelled or its time is over.
    Hang,
}

/// The names of the signals that programs wait for.
pub const SIGNALS: [&str; 2] = ["red", "green"];
/// The one agent.
pub const AGENT: &str = "performer";

/// A program by chance.
pub fn program(dice: &mut Dice, depth: u32, names: &mut u64) -> Vec<Act> {
    let length = 1 + dice.below(if depth == 0 { 5 } else { 3 });
    (0..length).map(|_| act(dice, depth, names)).collect()
}

fn act(dice: &mut Dice, depth: u32, names: &mut u64) -> Act {
    *names += 1;
    let name = format!("n{names}");
    let limit = dice.percent(50).then(|| 100 + dice.below(8000));
    match dice.below(100) {
        0..45 => Act::Step {
            name,
            fails: u32::from(dice.percent(15)),
            millis: if dice.percent(50) {
                0
            } else {
                dice.below(3000)
            },
        },
        45..55 => Act::Sleep {
            name,
            millis: dice.below(8000),
        },
        55..62 => Act::Signal {
            name: SIGNALS[usize::from(dice.percent(50))].to_owned(),
            limit,
        },
        62..66 => Act::Ask { name, limit },
        66..71 => Act::Save,
        71..75 => Act::Emit,
        75..84 if depth < 2 => Act::Fan {
            name,
            policy: match dice.below(3) {
                0 => FailurePolicy::All,
                1 => FailurePolicy::FailFast,
                _ => FailurePolicy::Settle,
            },
            children: (0..1 + dice.below(3))
                .map(|_| program(dice, depth + 1, names))
                .collect(),
        },
        84..92 if depth < 2 => {
            let one = program(dice, depth + 1, names);
            Act::Both(one, program(dice, depth + 1, names))
        }
        92..95 => Act::Fail(2),
        95..97 => Act::Panic(2),
        97 => Act::Refuse,
        98 => Act::Hang,
        _ => Act::Save,
    }
}

/// The registry with the one agent, whose steps are seen by the observer.
pub fn registry(observer: &Arc<Observer>) -> AgentRegistry {
    let observer = Arc::clone(observer);
    AgentRegistry::new().with(AgentFn::new(AGENT, move |ctx| {
        let observer = Arc::clone(&observer);
        async move {
            let program: Vec<Act> = ctx.input_data()?;
            perform(&ctx, &observer, &program).await?;
            Ok(RunResult::output("performed"))
        }
    }))
}

fn perform<'a>(
    ctx: &'a RunContext,
    observer: &'a Observer,
    program: &'a [Act],
) -> BoxFuture<'a, Result<(), AgentError>> {
    async move {
        for act in program {
            perform_one(ctx, observer, act).await?;
        }
        Ok(())
    }
    .boxed()
}

async fn perform_one(ctx: &RunContext, observer: &Observer, act: &Act) -> Result<(), AgentError> {
    let limit = |limit: &Option<u64>| limit.map(Duration::from_millis);
    match act {
        Act::Step {
            name,
            fails,
            millis,
        } => step(ctx, observer, name, *fails, *millis).await,
        Act::Sleep { name, millis } => ctx.sleep(name, Duration::from_millis(*millis)).await,
        Act::Signal { name, limit: time } => ctx.wait_for_signal(name, limit(time)).await.map(drop),
        Act::Ask { name, limit: time } => {
            let mut request = ApprovalRequest::new(name, "May I?");
            request.expires_in = limit(time);
            ctx.request_approval(request).await.map(drop)
        }
        Act::Save => Ok(ctx.checkpoint(&ctx.epoch()).await.map(drop)?),
        Act::Emit => Ok(ctx.emit("sim.said", json!(null)).await.map(drop)?),
        Act::Fan {
            name,
            policy,
            children,
        } => {
            let mut fan = Delegate::new(name).policy(*policy);
            for child in children {
                fan = fan.child(AGENT, RunInput::data(json!(child)));
            }
            let outcomes = ctx.delegate(fan).await?;
            if outcomes.len() == children.len() {
                return Ok(());
            }
            Err(AgentError::permanent("mixed_up", "children went missing"))
        }
        Act::Both(one, other) => {
            let both = (perform(ctx, observer, one), perform(ctx, observer, other));
            futures::try_join!(both.0, both.1).map(drop)
        }
        Act::Fail(until) if ctx.attempt() < *until => {
            Err(AgentError::retriable("on_purpose", "try again"))
        }
        // Past the hook that prints panics: these are meant.
        Act::Panic(until) if ctx.attempt() < *until => {
            std::panic::resume_unwind(Box::new("on purpose"))
        }
        Act::Fail(_) | Act::Panic(_) => Ok(()),
        Act::Refuse => Err(AgentError::permanent("refused", "not this one")),
        Act::Hang => {
            ctx.cancellation().await;
            std::future::pending().await
        }
    }
}

async fn step(
    ctx: &RunContext,
    observer: &Observer,
    name: &str,
    fails: u32,
    millis: u64,
) -> Result<(), AgentError> {
    let retry = RetryPolicy {
        backoff_base: 0.5,
        ..RetryPolicy::default()
    };
    let tries = std::sync::atomic::AtomicU32::new(0);
    let body = || async {
        observer.effect(ctx, name).await;
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        if tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < fails {
            return Err(AgentError::retriable("on_purpose", "try again"));
        }
        Ok(name.to_owned())
    };
    let result = ctx.step_builder(name).retry(retry).run(body).await?;
    if result == name {
        return Ok(());
    }
    Err(AgentError::permanent(
        "mixed_up",
        format!("step `{name}` returned the result of `{result}`"),
    ))
}
