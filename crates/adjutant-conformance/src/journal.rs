//! What a runtime remembers of a run, and how it answers from that.

use std::collections::HashMap;

use adjutant_wire::{
    AgentFailure, AgentRequest, CheckpointSaved, Empty, ErrorCode, Outcome, RpcError, StepDecision,
};
use serde_json::{Value, json};

/// The memory of one run. Waits that it holds no answer for are parked.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) steps: HashMap<String, StepDecision>,
    /// Keys of steps that were recorded, in order.
    pub(crate) done: Vec<String>,
    /// Fingerprints by step.
    pub(crate) hashes: HashMap<String, Option<String>>,
    /// Numbers of saved checkpoints, in order.
    pub(crate) saves: Vec<u64>,
    pub(crate) state: Option<Value>,
    /// Answers to waits and routed calls, by key or call id.
    pub(crate) answers: HashMap<String, Value>,
    /// Ids of routed calls, in order.
    pub(crate) calls: Vec<String>,
    /// Whether a wait without an answer is answered like a host that has all the time in the world.
    pub(crate) generous: bool,
}

impl Journal {
    /// A host for an agent that nobody knows: every wait is over at once.
    pub(crate) fn generous() -> Self {
        Self {
            generous: true,
            ..Self::default()
        }
    }

    pub(crate) fn with(answers: &[(&str, Value)]) -> Self {
        let mut journal = Self::default();
        for (key, answer) in answers {
            journal.answers.insert((*key).to_owned(), answer.clone());
        }
        journal
    }

    pub(crate) fn answer(&mut self, request: &AgentRequest) -> Outcome {
        match request {
            AgentRequest::StepBegin(begin) => {
                self.hashes
                    .insert(begin.key.clone(), begin.input_hash.clone());
                let known = self.steps.get(&begin.key).cloned();
                Ok(json!(known.unwrap_or(StepDecision::Execute { attempt: 1 })))
            }
            AgentRequest::StepEnd(end) => {
                self.done.push(end.key.clone());
                let decision = match end.clone().outcome() {
                    Ok(result) => StepDecision::Replay { result },
                    Err(error) => StepDecision::Failed { error },
                };
                self.steps.insert(end.key.clone(), decision);
                Ok(json!(Empty {}))
            }
            AgentRequest::CheckpointSave(save) => {
                self.saves.push(save.seq);
                self.state = Some(save.state.clone());
                Ok(json!(CheckpointSaved { seq: save.seq }))
            }
            AgentRequest::CheckpointLoad(_) => Ok(match &self.state {
                Some(state) => json!({"seq": self.saves.last(), "state": state}),
                None => Value::Null,
            }),
            AgentRequest::Sleep(call) => self.wait(&call.key, || json!({})),
            AgentRequest::SignalWait(call) => self.wait(&call.key, || Value::Null),
            AgentRequest::InputRequest(call) => {
                self.wait(&call.key, || json!({"action": "decline"}))
            }
            AgentRequest::Delegate(call) => {
                let count = call.children.len();
                self.wait(&call.key, || children(count))
            }
            AgentRequest::ToolsList(_) => Ok(self
                .answers
                .get("tools/list")
                .cloned()
                .unwrap_or_else(|| json!({"tools": []}))),
            AgentRequest::ToolsCall(call) => self.routed(&call.call_id),
            AgentRequest::LlmGenerate(call) => self.routed(&call.call_id),
            _ => Err(RpcError::method_not_found("that")),
        }
    }

    fn wait(&self, key: &str, generous: impl FnOnce() -> Value) -> Outcome {
        match self.answers.get(key) {
            Some(answer) => Ok(answer.clone()),
            None if self.generous => Ok(generous()),
            None => Err(RpcError::park("not yet")),
        }
    }

    fn routed(&mut self, call_id: &str) -> Outcome {
        self.calls.push(call_id.to_owned());
        let unavailable = || RpcError::new(ErrorCode::ToolUnavailable, "nothing behind it");
        self.answers.get(call_id).cloned().ok_or_else(unavailable)
    }

    /// The step failed for good in an earlier attempt.
    pub(crate) fn fail_step(&mut self, key: &str, kind: &str) {
        let error = AgentFailure {
            kind: kind.to_owned(),
            message: "as recorded".to_owned(),
            ..AgentFailure::default()
        };
        self.steps
            .insert(key.to_owned(), StepDecision::Failed { error });
    }
}

fn children(count: usize) -> Value {
    let child =
        |n: usize| json!({"runId": format!("child-{n}"), "status": "succeeded", "output": {}});
    json!({"results": (1..=count).map(child).collect::<Vec<_>>()})
}
