//! Requests of responses.

use adjutant_core::{Content, ContentPart, Json, Message, ModelRequest, Role, ToolCall, ToolSpec};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    chat::{read_choice, read_format},
    failure::Failure,
    thinking::from_opaque,
    wire::{self, Asked, Style, read_arguments, read_image, simplest, unsupported},
};

#[derive(Deserialize)]
struct Request {
    model: String,
    #[serde(default)]
    input: Value,
    instructions: Option<String>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<Value>,
    text: Option<Value>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_output_tokens: Option<u32>,
    reasoning: Option<Value>,
    stream: Option<bool>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
}

/// What is kept by a provider between requests, which a run's journal does not have.
const KEPT_ELSEWHERE: [&str; 4] = [
    "previous_response_id",
    "conversation",
    "background",
    "prompt",
];
/// What changes nothing in the answer here.
const MEANINGLESS: [&str; 6] = [
    "store",
    "include",
    "truncation",
    "stream_options",
    "metadata",
    "stop",
];

/// Reads a request's body.
pub fn read(body: &Value) -> Result<Asked, Failure> {
    let mut request: Request = wire::read(body)?;
    for field in KEPT_ELSEWHERE {
        let asked = request.extra.remove(field);
        if asked.is_some_and(|value| !value.is_null() && value != false) {
            let problem = format!(
                "`{field}`: nothing is kept between requests here; send the whole conversation"
            );
            return Err(Failure::bad_request(problem));
        }
    }
    for field in MEANINGLESS {
        request.extra.remove(field);
    }
    let format = request.text.as_ref().map(|text| &text["format"]);
    let effort = request
        .reasoning
        .as_ref()
        .and_then(|reasoning| reasoning["effort"].as_str());
    Ok(Asked {
        stream: request.stream.unwrap_or(false),
        style: Style::Responses {
            echo: Box::new(body.clone()),
        },
        request: ModelRequest {
            messages: messages(request.instructions, &request.input)?,
            tools: tools(request.tools.unwrap_or_default())?,
            tool_choice: read_choice(request.tool_choice.as_ref())?,
            response_format: read_format(format)?,
            temperature: request.temperature,
            top_p: request.top_p,
            max_output_tokens: request.max_output_tokens,
            reasoning_effort: effort.map(str::to_owned),
            extra: wire::extra(request.extra),
            model: request.model,
            ..ModelRequest::default()
        },
    })
}

fn messages(instructions: Option<String>, input: &Value) -> Result<Vec<Message>, Failure> {
    let mut conversation = Conversation::default();
    if let Some(text) = instructions {
        conversation.messages.push(Message::new(Role::System, text));
    }
    match input {
        Value::String(text) => conversation.messages.push(Message::user(text)),
        Value::Array(items) => {
            for item in items {
                conversation.item(item)?;
            }
        }
        _ => return Err(Failure::bad_request("`input` is neither text nor a list")),
    }
    Ok(conversation.messages)
}

/// Items joined to messages: here an answer's text, its calls and its thinking are items side by side.
#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
}

impl Conversation {
    fn item(&mut self, item: &Value) -> Result<(), Failure> {
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        match item["type"].as_str().unwrap_or("message") {
            "message" => self.said(item),
            "function_call" => {
                let call = ToolCall {
                    id: text("call_id"),
                    name: text("name"),
                    arguments: read_arguments(&text("arguments")),
                };
                self.answer().tool_calls.push(call);
                Ok(())
            }
            "function_call_output" => {
                self.messages.push(Message {
                    content: content(&item["output"])?,
                    tool_call_id: Some(text("call_id")),
                    ..Message::new(Role::Tool, "")
                });
                Ok(())
            }
            "reasoning" => {
                let opaque = text("encrypted_content");
                if let Some(thinking) = from_opaque(&opaque) {
                    self.answer().metadata = thinking;
                }
                Ok(())
            }
            other => Err(unsupported(&format!("an item of type `{other}`"))),
        }
    }

    fn said(&mut self, item: &Value) -> Result<(), Failure> {
        let content = content(&item["content"])?;
        let role = match item["role"].as_str().unwrap_or_default() {
            "user" => Role::User,
            "system" | "developer" => Role::System,
            "assistant" => {
                // Where the answer has begun with a call or a thought, this is its text.
                let answer = self.answer();
                if answer.content == Content::Text(String::new()) {
                    answer.content = content;
                } else {
                    let more = Message {
                        content,
                        ..Message::assistant("")
                    };
                    self.messages.push(more);
                }
                return Ok(());
            }
            other => return Err(unsupported(&format!("a message of role `{other}`"))),
        };
        self.messages.push(Message {
            content,
            ..Message::new(role, "")
        });
        Ok(())
    }

    /// The assistant's message that is being put together.
    fn answer(&mut self) -> &mut Message {
        let going = self
            .messages
            .last()
            .is_some_and(|last| last.role == Role::Assistant);
        if !going {
            self.messages.push(Message {
                metadata: Json::null(),
                ..Message::assistant("")
            });
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }
}

fn content(content: &Value) -> Result<Content, Failure> {
    match content {
        Value::Null => Ok(Content::Text(String::new())),
        Value::String(text) => Ok(Content::Text(text.clone())),
        Value::Array(parts) => Ok(simplest(parts.iter().map(part).collect::<Result<_, _>>()?)),
        _ => Err(Failure::bad_request("`content` is neither text nor a list")),
    }
}

fn part(part: &Value) -> Result<ContentPart, Failure> {
    let text = |field: &str| part[field].as_str().unwrap_or_default().to_owned();
    match part["type"].as_str().unwrap_or_default() {
        "input_text" | "output_text" | "text" => Ok(ContentPart::Text { text: text("text") }),
        "refusal" => Ok(ContentPart::Text {
            text: text("refusal"),
        }),
        "input_image" => read_image(&text("image_url")),
        other => Err(unsupported(&format!("content of type `{other}`"))),
    }
}

fn tools(tools: Vec<Tool>) -> Result<Vec<ToolSpec>, Failure> {
    let spec = |tool: Tool| {
        if tool.kind != "function" {
            return Err(unsupported(&format!(
                "the provider's own tool `{}`",
                tool.kind
            )));
        }
        let schema = tool
            .parameters
            .unwrap_or_else(|| json!({ "type": "object" }));
        Ok(ToolSpec::new(
            tool.name,
            tool.description.unwrap_or_default(),
            schema,
        ))
    };
    tools.into_iter().map(spec).collect()
}
