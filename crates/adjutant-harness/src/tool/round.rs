//! One round of a tool call: the step, the tries, the money.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use adjutant_budget::Amount;
use adjutant_core::{
    AgentError, EFFECT_INDETERMINATE, Effect, EventType, HostStep, Json, RetryAdvice, RetryPolicy,
    StepKind, ToolAnswer, ToolSpec, ToolUse,
};
use adjutant_telemetry::{Failure, McpCall, ToolSpan};
use adjutant_tools::{
    ClientPort, DEFAULT_TIMEOUT, InputResume, Invocation, Progress, ToolError, ToolRegistry,
};
use serde_json::{Value, json};

use super::port::Port;
use crate::{host::EquippedHost, policy::OnExceeded, purse::Held, recorded::Recorded};

/// Tries of a call that failed and may be made again.
const TRIES: u32 = 3;

const ONE: Amount = Amount {
    tool_calls: 1,
    ..Amount::ZERO
};

pub(super) struct Round<'a> {
    pub host: &'a EquippedHost,
    pub registry: &'a Arc<ToolRegistry>,
    pub spec: &'a ToolSpec,
    pub call: &'a ToolUse,
    pub step: &'a str,
    pub resume: Option<&'a InputResume>,
}

impl Round<'_> {
    pub async fn run(&self) -> Result<Recorded, AgentError> {
        let host = self.host;
        let mut held = None;
        if !host.inner.is_recorded(self.step) {
            held = host
                .afford(host.equipment.budget.on_exceeded, self.step, ONE)
                .await?;
        }
        let policy = &host.equipment.tool_policy;
        let input = json!([self.call.name, self.call.arguments, self.resume]);
        let step = HostStep {
            input: Json::from(input).fingerprint(),
            retry: RetryPolicy {
                max_attempts: std::num::NonZeroU32::MIN.saturating_add(TRIES - 1),
                max_delay: Duration::from_secs(5),
                ..RetryPolicy::default()
            },
            description: Some(self.call.name.clone()),
            on_interrupt: policy.on_interrupt(&self.call.name, self.spec.effect),
            ..HostStep::new(self.step, StepKind::Tool)
        };
        let sent = AtomicU64::new(0);
        let mut executed = false;
        let result = {
            let (executed, sent, held) = (&mut executed, &sent, held.as_ref());
            host.inner
                .step(step, &mut |attempt| {
                    *executed = true;
                    Box::pin(self.attempt(attempt, sent, held))
                })
                .await
        };
        if let (false, Some(held), Some(purse)) = (executed, &held, &host.purse) {
            purse.settle(held, Amount::ZERO).await?;
        }
        Ok(Recorded::read(&result?))
    }

    /// One try. A failure that the model may read and do better is an answer.
    async fn attempt(
        &self,
        attempt: u32,
        sent: &AtomicU64,
        held: Option<&Held>,
    ) -> Result<Json, AgentError> {
        if attempt == 1 {
            self.tell_call();
        }
        let late;
        let held = match held {
            Some(held) => Some(held),
            // A person has it executed again.
            None => {
                late = self.host.afford(OnExceeded::Fail, self.step, ONE).await?;
                late.as_ref()
            }
        };
        let effect = self.spec.effect;
        let span = self.host.scope.as_ref().map(|scope| {
            let mut span = scope.tool(self.call);
            span.describe(self.spec);
            span
        });
        let traceparent = span.as_ref().map(ToolSpan::traceparent);
        let invoked = self.invoke(traceparent.as_deref()).await;
        if let Some(mut span) = span {
            if self.is_mcp().await {
                span.mcp(mcp_call(&self.call.name));
            }
            span_end(span, &invoked, effect);
        }
        let recorded = match invoked {
            Ok(recorded) => {
                sent.fetch_add(1, Relaxed);
                recorded
            }
            Err(error) => {
                if error.sent_unanswered() {
                    sent.fetch_add(1, Relaxed);
                }
                if error.sent_unanswered() && !effect.may_repeat() {
                    self.settle(held, sent).await?;
                    return Err(AgentError::permanent(
                        EFFECT_INDETERMINATE,
                        error.to_string(),
                    ));
                }
                if error.retry(effect) != RetryAdvice::Never && attempt < TRIES {
                    return Err(error.into_agent_error(effect));
                }
                let kind = error.kind(effect);
                let text = error.into_agent_error(effect).info().message.clone();
                Recorded::Answer(ToolAnswer::failed(format!("{kind}: {text}")))
            }
        };
        self.settle(held, sent).await?;
        self.tell_result(&recorded);
        Ok(Json::from_value(&recorded)?)
    }

    async fn invoke(&self, traceparent: Option<&str>) -> Result<Recorded, ToolError> {
        let host = self.host;
        let set = host
            .toolset(self.registry)
            .await
            .map_err(|error| ToolError::Unavailable {
                tool: self.call.name.clone(),
                problem: error.info().message.clone(),
                sent: false,
                source: None,
            })?;
        if set.find(&self.call.name).is_none()
            && let Some((source, problem)) = set.problems().first()
        {
            return Err(ToolError::Unavailable {
                tool: self.call.name.clone(),
                problem: format!("`{source}` cannot be asked: {problem}"),
                sent: false,
                source: None,
            });
        }
        let port = Port::new(host, self.step, self.resume);
        let progress = |progress: Progress| {
            let mut payload = json!(progress);
            payload["step_name"] = self.step.into();
            payload["tool_call_id"] = self.call.call_id.clone().into();
            host.note(EventType::ToolProgress, payload);
        };
        let key = format!("{}/{}", host.caller.run, self.step);
        let limits = [self.call.timeout, host.equipment.tool_timeout];
        let invocation = Invocation {
            timeout: limits
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(DEFAULT_TIMEOUT),
            traceparent,
            progress: Some(&progress),
            port: Some(&port as &dyn ClientPort),
            resume: self.resume,
            ..Invocation::new(&self.call.name, &self.call.arguments, &key)
        };
        let reply = set.call(invocation).await?;
        // What the tool said after a question that nobody has answered yet is not its answer.
        Ok(port.questions().unwrap_or_else(|| reply.into()))
    }

    /// Whether an MCP server has the tool.
    async fn is_mcp(&self) -> bool {
        let set = self.host.toolset(self.registry).await;
        set.is_ok_and(|set| set.source(&self.call.name) == Some(MCP))
    }

    async fn settle(&self, held: Option<&Held>, sent: &AtomicU64) -> Result<(), AgentError> {
        let (Some(held), Some(purse)) = (held, &self.host.purse) else {
            return Ok(());
        };
        let actual = Amount {
            tool_calls: sent.load(Relaxed),
            ..Amount::ZERO
        };
        for warning in purse.settle(held, actual).await? {
            self.host.note(EventType::BudgetWarning, json!(warning));
        }
        Ok(())
    }

    fn tell_call(&self) {
        let arguments: Value = self.call.arguments.to().unwrap_or_default();
        let payload = json!({
            "name": self.call.name,
            "arguments": arguments,
            "tool_call_id": self.call.call_id,
            "step_name": self.step,
        });
        self.host
            .note(EventType::ToolCall, shortened(payload, "arguments"));
    }

    fn tell_result(&self, recorded: &Recorded) {
        let Recorded::Answer(answer) = recorded else {
            return;
        };
        let payload = json!({
            "name": self.call.name,
            "tool_call_id": self.call.call_id,
            "step_name": self.step,
            "is_error": answer.is_error,
            "result": answer.joined_text(),
        });
        self.host
            .note(EventType::ToolResult, shortened(payload, "result"));
    }
}

/// What MCP's pool is called among the sources of tools.
const MCP: &str = "mcp";

/// The request behind a call of `server__tool`.
fn mcp_call(tool: &str) -> McpCall {
    let own = tool.split_once("__").map_or(tool, |(_, own)| own);
    McpCall {
        target: Some(own.to_owned()),
        ..McpCall::new("tools/call")
    }
}

fn span_end(span: ToolSpan, invoked: &Result<Recorded, ToolError>, effect: Effect) {
    match invoked {
        Ok(Recorded::Answer(answer)) => span.end(Ok(answer)),
        Ok(Recorded::InputRequired { .. }) => span.end(Ok(&ToolAnswer::default())),
        Err(error) => span.end(Err(Failure {
            kind: error.kind(effect),
            message: &error.to_string(),
        })),
    }
}

/// Longest arguments or result that an event tells, in bytes; the whole is in the journal.
const MAX_TOLD: usize = 16 << 10;

fn shortened(mut payload: Value, field: &str) -> Value {
    let text = match &payload[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.len() > MAX_TOLD {
        payload[field] = text[..text.floor_char_boundary(MAX_TOLD)].into();
        payload["shortened"] = true.into();
    }
    payload
}
