//! What a person is asked before a call is made, or in the middle of one.

use adjutant_budget::Refusal;
use adjutant_core::{
    AgentError, ApprovalRequest, Decision, EventType, HostStep, Json, StepKind, Timestamp,
};
use serde_json::{Map, Value, json};

use crate::{
    host::EquippedHost,
    policy::OnExceeded,
    purse::{Held, Shortage, exceeded},
};

/// What a person said to a tool call.
pub(crate) enum Answered {
    /// It may be made, with these arguments.
    Yes(Json),
    /// It may not.
    No(String),
}

impl EquippedHost {
    /// Has a person agree to a tool call.
    pub async fn ask_before(
        &self,
        step: &str,
        tool: &str,
        arguments: &Json,
    ) -> Result<Answered, AgentError> {
        let arguments_shown: Value = arguments.to().unwrap_or_default();
        let request = ApprovalRequest {
            data: json!({ "tool": tool, "arguments": arguments_shown }).into(),
            ..ApprovalRequest::new(step, format!("May `{tool}` be called?"))
        };
        let decision = self.inner.request_approval(request).await?;
        if !decision.approved {
            let why = decision.comment.filter(|comment| !comment.is_empty());
            let why = why.unwrap_or_else(|| "a person declined the call".to_owned());
            return Ok(Answered::No(why));
        }
        // Whoever agrees may say with which arguments.
        let edited = decision.data.to::<Map<String, Value>>().ok();
        let edited = edited.and_then(|mut data| data.remove("arguments"));
        Ok(Answered::Yes(
            edited.map_or_else(|| arguments.clone(), Json::from),
        ))
    }

    /// Has a person answer what a tool asks in the middle of a call. The answer has the shape of MCP's `ElicitResult`.
    pub async fn elicit(&self, step: &str, key: &str, params: &Value) -> Result<Value, AgentError> {
        let message = params["message"]
            .as_str()
            .unwrap_or("A tool asks for input.");
        let kind = match params["mode"].as_str() {
            Some("url") => "url",
            _ => "form",
        };
        let request = ApprovalRequest {
            data: json!({
                "kind": kind,
                "schema": params.get("requestedSchema"),
                "url": params.get("url"),
            })
            .into(),
            ..ApprovalRequest::new(format!("{step}/{key}"), message)
        };
        let decision = self.inner.request_approval(request).await?;
        Ok(elicited(&decision))
    }

    /// Reserves room for a step, or has a person make some, where the policy says so.
    pub async fn afford(
        &self,
        on_exceeded: OnExceeded,
        step: &str,
        amount: adjutant_budget::Amount,
    ) -> Result<Option<Held>, AgentError> {
        let Some(purse) = &self.purse else {
            return Ok(None);
        };
        loop {
            let refusal = match purse.reserve(step, amount).await {
                Ok(held) => {
                    self.warn(held.as_ref());
                    return Ok(held);
                }
                Err(Shortage::Broken(error)) => return Err(error),
                Err(Shortage::Refused(refusal)) => refusal,
            };
            self.note(
                EventType::BudgetExceeded,
                json!({ "refusal": refusal, "step_name": step }),
            );
            if on_exceeded == OnExceeded::Fail {
                // The first one stays.
                let _ = self.refused.set(refusal.clone());
                return Err(exceeded(&refusal));
            }
            self.ask_for_room(step, &refusal).await?;
        }
    }

    async fn ask_for_room(&self, step: &str, refusal: &Refusal) -> Result<(), AgentError> {
        let request = ApprovalRequest {
            data: json!({ "refusal": refusal }).into(),
            ..ApprovalRequest::new(
                format!("budget:{step}"),
                format!(
                    "{refusal}. Make room (`agent budgets reset {}`), then approve.",
                    refusal.account
                ),
            )
        };
        let decision = self.inner.request_approval(request).await?;
        if decision.approved {
            Ok(())
        } else {
            Err(exceeded(refusal))
        }
    }

    fn warn(&self, held: Option<&Held>) {
        for warning in held.iter().flat_map(|held| &held.warnings) {
            self.note(EventType::BudgetWarning, json!(warning));
        }
    }

    /// Refuses a call when the run's time is over.
    pub async fn check_time(&self) -> Result<(), AgentError> {
        if self.equipment.budget.wall_seconds.is_none() {
            return Ok(());
        }
        let began = self.began.get_or_try_init(|| async {
            let now = self.inner.now();
            let step = HostStep::new("first call", StepKind::Code);
            let recorded = self
                .inner
                .step(step, &mut |_| {
                    Box::pin(async move { Ok(Json::from_value(&now)?) })
                })
                .await?;
            Ok::<Timestamp, AgentError>(recorded.to()?)
        });
        crate::guard::in_time(&self.equipment.budget, *began.await?, self.inner.now())
    }
}

/// A decision in the shape of MCP's `ElicitResult`.
fn elicited(decision: &Decision) -> Value {
    let action = match (decision.approved, decision.expired) {
        (true, _) => "accept",
        (false, false) => "decline",
        (false, true) => "cancel",
    };
    let content: Value = decision.data.to().unwrap_or_default();
    match (action, content) {
        ("accept", Value::Object(content)) => json!({ "action": action, "content": content }),
        _ => json!({ "action": action }),
    }
}
