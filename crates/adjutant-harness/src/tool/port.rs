//! What a tool may ask of the runtime while it works.

use std::sync::{Mutex, PoisonError};

use adjutant_core::{
    AgentError, FinishReason, Message, ModelCall, ModelRequest, ModelResponse, Role,
};
use adjutant_tools::{ClientPort, InputResume, ToolError};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::{host::EquippedHost, policy::OnExceeded, recorded::Recorded};

/// The port of one try of a call.
///
/// A tool that waits for a person would hold its process for days. So its question is cancelled, what it then says is
/// dropped, a person is asked without anything being held, and the call is made again: then the answer is there.
pub(super) struct Port<'a> {
    host: &'a EquippedHost,
    step: &'a str,
    resume: Option<&'a InputResume>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    elicited: u32,
    sampled: u32,
    open: Map<String, Value>,
}

impl<'a> Port<'a> {
    pub fn new(host: &'a EquippedHost, step: &'a str, resume: Option<&'a InputResume>) -> Self {
        let state = Mutex::default();
        Self {
            host,
            step,
            resume,
            state,
        }
    }

    /// The questions that nobody has answered yet.
    pub fn questions(&self) -> Option<Recorded> {
        let open = self.with(|state| std::mem::take(&mut state.open));
        (!open.is_empty()).then_some(Recorded::InputRequired {
            requests: open,
            state: None,
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl ClientPort for Port<'_> {
    async fn sample(&self, request: Value) -> Result<Value, ToolError> {
        let number = self.with(|state| {
            state.sampled += 1;
            state.sampled
        });
        let step = format!("{}/sampling{number}", self.step);
        // In the middle of a call nobody can be asked for more room.
        let sampled = self.host.sample(OnExceeded::Fail, &step, &request).await;
        sampled.map_err(|error| ToolError::denied("sampling", error.info().message.clone()))
    }

    async fn elicit(&self, request: Value) -> Result<Value, ToolError> {
        Ok(self.with(|state| {
            state.elicited += 1;
            let key = format!("elicitation{}", state.elicited);
            let answer = self.resume.and_then(|resume| resume.responses.get(&key));
            answer.cloned().unwrap_or_else(|| {
                let question = json!({ "method": "elicitation/create", "params": request });
                state.open.insert(key, question);
                json!({ "action": "cancel" })
            })
        }))
    }
}

impl EquippedHost {
    /// Has the agent's model answer a tool, in the shapes of MCP's `sampling/createMessage`.
    pub async fn sample(
        &self,
        on_exceeded: OnExceeded,
        step: &str,
        params: &Value,
    ) -> Result<Value, AgentError> {
        if !self.equipment.tool_policy.sampling {
            let message = "tools may not ask this agent's model; `tools.sampling: true` in its manifest allows it";
            return Err(AgentError::permanent("tool_denied", message));
        }
        let call = ModelCall {
            key: step.to_owned(),
            request: sampling_request(params),
        };
        let response = self.ask_model_or(on_exceeded, call, None).await?;
        Ok(sampling_result(&response))
    }
}

fn sampling_request(params: &Value) -> ModelRequest {
    let mut messages = Vec::new();
    if let Some(system) = params["systemPrompt"].as_str() {
        messages.push(Message::new(Role::System, system));
    }
    for message in params["messages"].as_array().into_iter().flatten() {
        let role = match message["role"].as_str() {
            Some("assistant") => Role::Assistant,
            _ => Role::User,
        };
        messages.push(Message::new(role, text_of(&message["content"])));
    }
    let stops = params["stopSequences"].as_array().into_iter().flatten();
    ModelRequest {
        messages,
        max_output_tokens: params["maxTokens"]
            .as_u64()
            .and_then(|most| u32::try_from(most).ok()),
        temperature: params["temperature"].as_f64(),
        stop: stops
            .filter_map(|stop| stop.as_str().map(str::to_owned))
            .collect(),
        ..ModelRequest::default()
    }
}

/// The text of one content block or several.
fn text_of(content: &Value) -> String {
    let blocks = match content {
        Value::Array(blocks) => blocks.as_slice(),
        block => std::slice::from_ref(block),
    };
    let texts = blocks.iter().filter_map(|block| block["text"].as_str());
    texts.collect::<Vec<_>>().join("\n")
}

fn sampling_result(response: &ModelResponse) -> Value {
    let stop = match response.finish_reason {
        FinishReason::Length => "maxTokens",
        FinishReason::ToolCalls => "toolUse",
        _ => "endTurn",
    };
    json!({
        "role": "assistant",
        "content": { "type": "text", "text": response.message.text() },
        "model": response.model,
        "stopReason": stop,
    })
}
