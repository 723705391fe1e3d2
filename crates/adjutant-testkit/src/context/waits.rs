//! What the executor would wait for: here the script has the answer.

use std::time::Duration;

use adjutant_core::{
    AgentError, ApprovalRequest, ChildOutcome, Decision, Delegate, ErrorInfo, EventType,
    FailurePolicy, Fingerprint, Json, RunHost, RunId, RunState, StepKind, StepOutcome,
};
use serde_json::json;

use super::host::MockHost;

impl MockHost {
    pub fn sleep_through(&self, name: &str, duration: Duration) -> Result<(), AgentError> {
        let (key, found) = self.look_up(name, StepKind::Sleep, Fingerprint(0));
        if found?.is_none() {
            let began = self.now();
            self.pass(duration);
            self.answered(&key, StepKind::Sleep, Json::null(), began);
        }
        Ok(())
    }

    pub fn take_signal(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Json>, AgentError> {
        let (key, found) =
            self.look_up(&format!("signal:{name}"), StepKind::Signal, Fingerprint(0));
        if let Some(result) = found? {
            return Ok(result.to()?);
        }
        let began = self.now();
        let scripted = {
            let mut inner = self.lock();
            let at = inner.signals.iter().position(|(sent, _)| sent == name);
            at.and_then(|at| inner.signals.remove(at))
        };
        let payload = match (scripted, timeout) {
            (Some((_, payload)), _) => Some(payload),
            (None, Some(timeout)) => {
                self.pass(timeout);
                None
            }
            (None, None) => return Err(missing("signal", name)),
        };
        self.answered(&key, StepKind::Signal, Json::from_value(&payload)?, began);
        Ok(payload)
    }

    pub fn decide(&self, request: &ApprovalRequest) -> Result<Decision, AgentError> {
        let name = format!("approval:{}", request.key);
        let (key, found) = self.look_up(&name, StepKind::Approval, Fingerprint(0));
        if let Some(decision) = found? {
            return Ok(decision.to()?);
        }
        let began = self.now();
        let public_key = key.strip_prefix("approval:").unwrap_or(&key).to_owned();
        let payload = json!({
            "key": public_key,
            "message": request.message,
            "data": request.data,
            "expires_at": request.expires_in.map(|limit| began + limit),
        });
        self.tell(EventType::ApprovalRequested, payload);
        let scripted = {
            let mut inner = self.lock();
            let answers = inner.decisions.get_mut(&request.key);
            answers.and_then(std::collections::VecDeque::pop_front)
        };
        let decision = match (scripted, request.expires_in) {
            (Some(decision), _) => decision,
            (None, Some(limit)) => {
                self.pass(limit);
                Decision {
                    approved: false,
                    by: None,
                    comment: None,
                    data: Json::null(),
                    expired: true,
                }
            }
            (None, None) => return Err(missing("decision", &request.key)),
        };
        let result = Json::from_value(&decision)?;
        self.answered(&key, StepKind::Approval, result, began);
        if decision.expired {
            self.tell(EventType::ApprovalExpired, json!({ "key": public_key }));
        } else {
            let payload = json!({
                "key": public_key,
                "approved": decision.approved,
                "by": decision.by,
                "comment": decision.comment,
            });
            self.tell(EventType::ApprovalDecided, payload);
        }
        Ok(decision)
    }

    pub fn run_children(&self, delegate: &Delegate) -> Result<Vec<ChildOutcome>, AgentError> {
        let asked: Vec<_> = delegate
            .children
            .iter()
            .map(|(agent, input)| (agent, input))
            .collect();
        let input = Json::from_value(&asked)?.fingerprint();
        let (key, found) = self.look_up(&delegate.name, StepKind::Delegate, input);
        if let Some(outcomes) = found? {
            return Ok(outcomes.to()?);
        }
        let began = self.now();
        let outcomes = self.outcomes(&key, delegate)?;
        let failed = outcomes
            .iter()
            .find(|child| child.status == RunState::Failed);
        let details = Json::from_value(&outcomes)?;
        let Some(failed) = failed.filter(|_| delegate.policy != FailurePolicy::Settle) else {
            let outcome = StepOutcome::Completed { result: details };
            self.record(&key, StepKind::Delegate, input, outcome, began, 1);
            return Ok(outcomes);
        };
        let why = failed.error.as_ref().map(ToString::to_string);
        let message = format!(
            "{} did not succeed: {}",
            failed.run_id,
            why.unwrap_or_default()
        );
        let error = ErrorInfo::permanent("child_failed", message).with_details(details);
        let outcome = StepOutcome::Failed {
            error: error.clone(),
        };
        self.record(&key, StepKind::Delegate, input, outcome, began, 1);
        Err(AgentError::from(error))
    }

    fn outcomes(&self, key: &str, delegate: &Delegate) -> Result<Vec<ChildOutcome>, AgentError> {
        let mut outcomes = Vec::with_capacity(delegate.children.len());
        for (agent, input) in &delegate.children {
            let child = self.lock().children.get(agent).cloned();
            let child = child.ok_or_else(|| missing("child", agent.as_str()))?;
            let run_id = RunId::new();
            self.lock().delegated.push((agent.clone(), input.clone()));
            let payload =
                json!({ "run_id": run_id, "agent_key": agent.as_str(), "step_name": key });
            self.tell(EventType::SubAgentStart, payload);
            outcomes.push((run_id, child, input));
        }
        let mut fast_failed = false;
        let ended = outcomes.into_iter().map(|(run_id, child, input)| {
            let outcome = one(run_id, fast_failed, || child(input));
            let failed = outcome.status == RunState::Failed;
            fast_failed |= failed && delegate.policy == FailurePolicy::FailFast;
            outcome
        });
        let ended: Vec<_> = ended.collect();
        for child in &ended {
            let payload =
                json!({ "run_id": child.run_id, "status": child.status, "step_name": key });
            self.tell(EventType::SubAgentEnd, payload);
        }
        Ok(ended)
    }

    fn answered(&self, key: &str, kind: StepKind, result: Json, began: adjutant_core::Timestamp) {
        let outcome = StepOutcome::Completed { result };
        self.record(key, kind, Fingerprint(0), outcome, began, 1);
    }
}

/// One child's end. Those that come after the failure which ends a fan-out are cancelled.
fn one(
    run_id: RunId,
    cancelled: bool,
    outcome: impl FnOnce() -> Result<Json, ErrorInfo>,
) -> ChildOutcome {
    let (status, output, error) = if cancelled {
        let error = ErrorInfo::permanent("cancelled", "a sibling failed");
        (RunState::Cancelled, Json::null(), Some(error))
    } else {
        match outcome() {
            Ok(output) => (RunState::Succeeded, output, None),
            Err(error) => (RunState::Failed, Json::null(), Some(error)),
        }
    };
    ChildOutcome {
        run_id,
        status,
        output,
        error,
    }
}

fn missing(what: &str, name: &str) -> AgentError {
    AgentError::permanent(
        format!("no_{what}"),
        format!("the test has no {what} `{name}`; give one to `TestContext::builder()`"),
    )
}
