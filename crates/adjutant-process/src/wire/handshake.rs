//! The two requests that the host makes: what goes out, and what the answers mean.

use adjutant_core::{AgentError, AgentKey, RunContext};
use adjutant_wire as wire;
use adjutant_wire::{Call, StopReason};
use serde_json::{Map, Value};

use super::{
    calls::MAX_CHECKPOINT_BYTES,
    desk::latest,
    failure::{Failure, protocol_error},
    session::Conclusion,
    turn::Turn,
};
use crate::{convert, manifest::Manifest, port::StopCause};

/// `initialize`.
pub(super) fn offer(key: &AgentKey, instance: &str, manifest: &Manifest) -> wire::Initialize {
    wire::Initialize {
        protocol_version: wire::PROTOCOL_VERSION,
        info: wire::Info {
            name: "adjutant".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        instance: wire::Instance {
            agent_id: key.to_string(),
            instance_id: instance.to_owned(),
        },
        capabilities: wire::HostCapabilities {
            steps: true,
            tools: true,
            llm: Some(wire::LlmAbility { stream: true }),
            input: true,
            steer: true,
            checkpoint: Some(wire::CheckpointAbility {
                max_bytes: Some(MAX_CHECKPOINT_BYTES as u64),
            }),
        },
        limits: wire::Limits::default(),
        endpoints: None,
        heartbeat_ms: u64::try_from(manifest.heartbeat.as_millis()).unwrap_or(u64::MAX),
    }
}

/// The answer to `initialize`.
pub(super) fn greeting(outcome: wire::Outcome) -> Result<wire::Initialized, AgentError> {
    let answer: wire::Initialized = read::<wire::Initialize>(outcome)?;
    if !(1..=wire::PROTOCOL_VERSION).contains(&answer.protocol_version) {
        let version = answer.protocol_version;
        return Err(protocol_error(format!(
            "the agent wants version {version} of the wire"
        )));
    }
    Ok(answer)
}

/// `run/start`, after the answer to `initialize`.
pub(super) fn start(
    ctx: &RunContext,
    answer: &wire::Initialized,
    resume: Option<Map<String, Value>>,
) -> Result<wire::RunStart, AgentError> {
    Ok(wire::RunStart {
        scope: convert::scope(ctx),
        agent: name_among(ctx, &answer.agents)?,
        session: ctx.conversation_id().map(|id| id.to_string()),
        input: convert::input(ctx)?,
        params: convert::tree(ctx.params()),
        metadata: convert::tree(ctx.metadata()),
        checkpoint: latest(ctx, 0),
        resume,
        deadline: convert::deadline(ctx),
        budget: convert::budget(ctx.host().budget_left()),
        environment: ctx.host().environment().into_iter().collect(),
        ..wire::RunStart::default()
    })
}

/// The agent's name in a program that may hold several.
fn name_among(ctx: &RunContext, agents: &[wire::AgentDescription]) -> Result<String, AgentError> {
    let key = ctx.agent_key().as_str();
    match agents {
        [only] => Ok(only.name.clone()),
        several if several.is_empty() || several.iter().any(|agent| agent.name == key) => {
            Ok(key.to_owned())
        }
        several => {
            let names: Vec<&str> = several.iter().map(|agent| agent.name.as_str()).collect();
            let why = format!(
                "the program has no agent `{key}`; it has {}",
                names.join(", ")
            );
            Err(AgentError::permanent("unknown_agent", why))
        }
    }
}

/// The attempt's end, after the answer to `run/start`.
pub(super) fn conclude(manifest: &Manifest, outcome: wire::Outcome) -> Result<Conclusion, Failure> {
    let answer: wire::RunResult = read::<wire::RunStart>(outcome)?;
    match answer.stop_reason {
        StopReason::EndTurn | StopReason::MaxTokens | StopReason::MaxTurns => {}
        StopReason::Refusal => {
            let why = answer
                .output
                .text
                .unwrap_or_else(|| "the agent declined".to_owned());
            return Err(AgentError::permanent("refusal", why).into());
        }
        StopReason::Cancelled => {
            let error = AgentError::permanent("cancelled", "the agent stopped the run");
            let cause = StopCause::Cancelled;
            return Err(Failure { error, cause });
        }
        StopReason::InputRequired => return Ok(Conclusion::Turn(Turn::input(answer)?)),
        StopReason::Yield => return Ok(Conclusion::Turn(Turn::yielded(answer)?)),
    }
    let result = convert::result(answer.output, answer.usage)?;
    let (bytes, limit) = (result.final_output.len(), manifest.max_output_bytes);
    if bytes > limit.0 {
        let why = format!(
            "the output is {bytes} bytes; `max_output_bytes` is {limit}: write it to a file and return its name"
        );
        return Err(AgentError::permanent("output_too_large", why).into());
    }
    Ok(Conclusion::Result(Box::new(result)))
}

/// An answer, or the failure that came instead.
fn read<C: Call>(outcome: wire::Outcome) -> Result<C::Answer, AgentError> {
    let answer = outcome.map_err(|error| convert::agent_error(error.into()))?;
    C::read_answer(answer).map_err(|error| protocol_error(&AgentError::from(error).info().message))
}
