//! An agent that needs no code: a model that calls tools until it has an answer.

mod compact;
mod constrained;
mod output;
mod spec;

use adjutant_core::{
    Agent, AgentError, AgentKey, Content, ContentPart, FinishReason, Message, ModelCall,
    ModelRequest, Role, RunContext, RunResult, ToolAnswer, ToolCall, ToolUse,
};
use adjutant_tools::{Asked, ToolView, in_order};
use async_trait::async_trait;
use futures::FutureExt;

pub use self::spec::{AssistantSpec, Compaction, ContextPolicy, ToolCalls};
use self::{constrained::Said, output::Judged};

/// How often an answer that is not of the form that was asked for is given back to the model.
const CORRECTIONS: u32 = 3;

/// What a result's messages may come to, in bytes; of longer conversations only the answer is kept with the run.
const MAX_MESSAGES: usize = 1 << 20;

/// A model with instructions and tools, as an agent. It needs a context that has them: wrap it in
/// [`Equipped`](crate::Equipped).
#[derive(Debug)]
pub struct Assistant {
    key: AgentKey,
    spec: AssistantSpec,
}

impl Assistant {
    /// An assistant of this name.
    pub fn new(key: impl Into<AgentKey>, spec: AssistantSpec) -> Self {
        Self {
            key: key.into(),
            spec,
        }
    }
}

#[async_trait]
impl Agent for Assistant {
    fn key(&self) -> AgentKey {
        self.key.clone()
    }

    async fn run(&self, ctx: &RunContext) -> Result<RunResult, AgentError> {
        let tools = ctx.tools().await?;
        let mut talk = Conversation::begin(ctx, &self.spec, tools)?;
        let mut corrections = 0;
        for turn in 1..=self.spec.max_turns.get() {
            if ctx.cancelled() {
                return Err(AgentError::permanent(
                    "cancelled",
                    "the run is being cancelled",
                ));
            }
            let answer = match talk.ask(turn).await? {
                Said::Calls(calls) => {
                    talk.call_tools(&calls).await?;
                    continue;
                }
                Said::Answer(answer) => answer,
            };
            match output::judge(&self.spec, &answer) {
                Judged::Good(output) => return Ok(talk.result(output)),
                Judged::Bad(why) if corrections < CORRECTIONS => {
                    corrections += 1;
                    talk.messages.push(Message::user(why));
                }
                Judged::Bad(why) => return Err(AgentError::permanent("invalid_output", why)),
            }
        }
        Err(AgentError::permanent(
            "max_turns",
            format!(
                "the model has no answer after {} turns; raise `max_turns` if it needs more",
                self.spec.max_turns
            ),
        ))
    }
}

/// A run's conversation with its model.
struct Conversation<'a> {
    ctx: &'a RunContext,
    spec: &'a AssistantSpec,
    view: ToolView,
    messages: Vec<Message>,
    /// How many messages were there before the model said anything; they are never left out.
    given: usize,
}

impl<'a> Conversation<'a> {
    fn begin(
        ctx: &'a RunContext,
        spec: &'a AssistantSpec,
        tools: Vec<adjutant_core::ToolSpec>,
    ) -> Result<Self, AgentError> {
        let view = ToolView::new(tools, spec.search_tools_above);
        let mut system = spec.instructions.trim().to_owned();
        if spec.tool_calls == ToolCalls::Constrained {
            system = format!("{system}\n\n{}", constrained::instructions(&view.specs()));
        }
        let mut messages = Vec::new();
        if !system.is_empty() {
            messages.push(Message::new(Role::System, system));
        }
        messages.extend(ctx.input_messages().iter().cloned());
        if !ctx.input().data.is_null() {
            messages.push(Message::user(ctx.input().data.as_str()));
        }
        if !messages.iter().any(|message| message.role != Role::System) {
            let message = "there is nothing to answer: give the run a text or data";
            return Err(AgentError::permanent("invalid_input", message));
        }
        Ok(Self {
            ctx,
            spec,
            view,
            given: messages.len(),
            messages,
        })
    }

    /// What the model says next.
    async fn ask(&mut self, turn: u32) -> Result<Said, AgentError> {
        self.make_room().await?;
        let may_call = turn < self.spec.max_turns.get();
        let call = ModelCall {
            key: "model".to_owned(),
            request: self.request(may_call),
        };
        let response = self.ctx.host().generate(call, None).await?;
        if response.finish_reason == FinishReason::ContentFilter {
            let message = "the model or its provider would not answer this";
            return Err(AgentError::permanent("model_content_filtered", message));
        }
        self.messages.push(response.message.clone());
        let message = response.message;
        Ok(match self.spec.tool_calls {
            ToolCalls::Constrained => constrained::read(&message.text(), turn),
            ToolCalls::Native if message.tool_calls.is_empty() => Said::Answer(message.text()),
            ToolCalls::Native => Said::Calls(message.tool_calls),
        })
    }

    fn request(&self, may_call: bool) -> ModelRequest {
        let request = ModelRequest {
            messages: self.messages.clone(),
            ..self.spec.settings.clone()
        };
        match self.spec.tool_calls {
            ToolCalls::Native => ModelRequest {
                tools: self.view.specs(),
                response_format: self.spec.response_format(),
                ..request
            },
            ToolCalls::Constrained => ModelRequest {
                response_format: constrained::format(&self.view.specs(), may_call),
                ..request
            },
        }
    }

    /// Makes the calls that the model asks for, several at a time, and puts the answers into the conversation in order.
    async fn call_tools(&mut self, calls: &[ToolCall]) -> Result<(), AgentError> {
        let answers = {
            let work: Vec<_> = calls
                .iter()
                .map(|call| self.call_tool(call).boxed())
                .collect();
            in_order(work, self.spec.parallel_tools.get() as usize).await
        };
        for (call, answer) in calls.iter().zip(answers) {
            let message = match self.spec.tool_calls {
                ToolCalls::Native => answered(call, &answer?),
                ToolCalls::Constrained => constrained::answered(call, &answer?),
            };
            self.messages.push(message);
        }
        Ok(())
    }

    async fn call_tool(&self, call: &ToolCall) -> Result<ToolAnswer, AgentError> {
        match self.view.asked(&call.name, &call.arguments) {
            Ok(Asked::Found(answer)) => Ok(answer),
            Ok(Asked::Call { name, arguments }) => {
                let call = ToolUse {
                    call_id: call.id.clone(),
                    ..ToolUse::new(name, arguments)
                };
                self.ctx.call_tool(call).await
            }
            Err(error) => Ok(ToolAnswer::failed(error.to_string())),
        }
    }

    fn result(mut self, output: adjutant_core::Json) -> RunResult {
        let mut added = self.messages.split_off(self.given);
        let bytes: usize = added
            .iter()
            .map(|message| adjutant_core::Json::from_value(message).map_or(0, |json| json.len()))
            .sum();
        if bytes > MAX_MESSAGES {
            added.drain(..added.len() - 1);
        }
        RunResult {
            final_messages: added,
            ..RunResult::output(output)
        }
    }
}

/// A tool's answer as a message. Text and pictures go to the model; what else there is was told as text.
fn answered(call: &ToolCall, answer: &ToolAnswer) -> Message {
    let mut parts = Vec::new();
    let text = answer.joined_text();
    let text = match (&answer.structured_content, text.is_empty()) {
        (Some(data), true) => data.to_string(),
        _ => text,
    };
    for block in &answer.content {
        if let (Some("image"), Some(data), Some(mime_type)) = (
            block["type"].as_str(),
            block["data"].as_str(),
            block["mimeType"].as_str(),
        ) {
            parts.push(ContentPart::Image {
                data: data.to_owned(),
                mime_type: mime_type.to_owned(),
            });
        }
    }
    let text = if answer.is_error {
        format!("Error: {text}")
    } else {
        text
    };
    let content = if parts.is_empty() {
        Content::Text(text)
    } else {
        parts.insert(0, ContentPart::Text { text });
        Content::Parts(parts)
    };
    Message {
        content,
        name: Some(call.name.clone()),
        tool_call_id: Some(call.id.clone()),
        ..Message::new(Role::Tool, "")
    }
}
