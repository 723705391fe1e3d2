//! Requests of messages.

use adjutant_core::{
    Content, ContentPart, Message, ModelRequest, ResponseFormat, Role, ToolCall, ToolChoice,
    ToolSpec,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    failure::Failure,
    thinking::from_opaque,
    wire::{self, Asked, Style, simplest, unsupported},
};

#[derive(Deserialize)]
struct Request {
    model: String,
    max_tokens: u32,
    messages: Vec<Said>,
    #[serde(default)]
    system: Value,
    tools: Option<Vec<Tool>>,
    #[serde(default)]
    tool_choice: Value,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop_sequences: Option<Vec<String>>,
    stream: Option<bool>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: Value,
}

#[derive(Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: String,
    description: Option<String>,
    input_schema: Option<Value>,
}

/// Reads a request's body.
pub fn read(body: &Value) -> Result<Asked, Failure> {
    let mut request: Request = wire::read(body)?;
    let response_format = response_format(&mut request.extra);
    let mut messages = Vec::new();
    let system = simplest(parts(&request.system)?);
    if system != Content::Text(String::new()) {
        messages.push(Message {
            content: system,
            ..Message::new(Role::System, "")
        });
    }
    for said in &request.messages {
        match said.role.as_str() {
            "user" => user(&said.content, &mut messages)?,
            "assistant" => messages.push(assistant(&said.content)?),
            other => return Err(unsupported(&format!("a message of role `{other}`"))),
        }
    }
    Ok(Asked {
        stream: request.stream.unwrap_or(false),
        style: Style::Messages,
        request: ModelRequest {
            model: request.model,
            messages,
            tools: tools(request.tools.unwrap_or_default())?,
            tool_choice: tool_choice(&request.tool_choice)?,
            response_format,
            temperature: request.temperature,
            top_p: request.top_p,
            max_output_tokens: Some(request.max_tokens),
            stop: request.stop_sequences.unwrap_or_default(),
            seed: None,
            reasoning_effort: None,
            extra: wire::extra(request.extra),
        },
    })
}

/// The blocks of a content; text is a block by itself.
fn blocks(content: &Value) -> Result<Vec<Value>, Failure> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![json!({ "type": "text", "text": text })]),
        Value::Array(blocks) => Ok(blocks.clone()),
        _ => Err(Failure::bad_request("`content` is neither text nor a list")),
    }
}

fn parts(content: &Value) -> Result<Vec<ContentPart>, Failure> {
    blocks(content)?.iter().map(part).collect()
}

fn part(block: &Value) -> Result<ContentPart, Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match block["type"].as_str().unwrap_or_default() {
        "text" => Ok(ContentPart::Text {
            text: text(&block["text"]),
        }),
        "image" if block["source"]["type"] == "base64" => Ok(ContentPart::Image {
            data: text(&block["source"]["data"]),
            mime_type: text(&block["source"]["media_type"]),
        }),
        "image" => Err(unsupported("an image that is not sent in base64")),
        other => Err(unsupported(&format!("content of type `{other}`"))),
    }
}

/// The tools' answers in a user's message, each as a message of its own, and then what the user says.
fn user(content: &Value, messages: &mut Vec<Message>) -> Result<(), Failure> {
    let (results, said): (Vec<_>, Vec<_>) = blocks(content)?
        .into_iter()
        .partition(|block| block["type"] == "tool_result");
    let only_results = !results.is_empty() && said.is_empty();
    for result in results {
        messages.push(tool_result(&result)?);
    }
    if !only_results {
        let parts: Vec<_> = said.iter().map(part).collect::<Result<_, _>>()?;
        messages.push(Message {
            content: simplest(parts),
            ..Message::user("")
        });
    }
    Ok(())
}

fn tool_result(result: &Value) -> Result<Message, Failure> {
    let mut parts = parts(&result["content"])?;
    if result["is_error"] == true {
        // No other dialect has a place for this; a model understands it from the text.
        let text = "The tool failed:".to_owned();
        parts.insert(0, ContentPart::Text { text });
    }
    Ok(Message {
        content: simplest(parts),
        tool_call_id: result["tool_use_id"].as_str().map(str::to_owned),
        ..Message::new(Role::Tool, "")
    })
}

fn assistant(content: &Value) -> Result<Message, Failure> {
    let mut message = Message::assistant("");
    let mut parts = Vec::new();
    for block in blocks(content)? {
        let text = |field: &str| block[field].as_str().unwrap_or_default().to_owned();
        match block["type"].as_str().unwrap_or_default() {
            "tool_use" => message.tool_calls.push(ToolCall {
                id: text("id"),
                name: text("name"),
                arguments: block["input"].clone().into(),
            }),
            // Our own, see `thinking`; a provider's signatures are not in here, and thoughts without them are no use.
            "redacted_thinking" => {
                message.metadata = from_opaque(&text("data")).unwrap_or_default();
            }
            "thinking" => {}
            _ => parts.push(part(&block)?),
        }
    }
    message.content = simplest(parts);
    Ok(message)
}

fn tools(tools: Vec<Tool>) -> Result<Vec<ToolSpec>, Failure> {
    let spec = |tool: Tool| match tool.kind.as_deref() {
        None | Some("custom") => Ok(ToolSpec::new(
            tool.name,
            tool.description.unwrap_or_default(),
            tool.input_schema
                .unwrap_or_else(|| json!({ "type": "object" })),
        )),
        Some(kind) => Err(unsupported(&format!("the provider's own tool `{kind}`"))),
    };
    tools.into_iter().map(spec).collect()
}

fn tool_choice(choice: &Value) -> Result<ToolChoice, Failure> {
    match choice["type"].as_str() {
        None | Some("auto") => Ok(ToolChoice::Auto),
        Some("none") => Ok(ToolChoice::None),
        Some("any") => Ok(ToolChoice::Required),
        Some("tool") => Ok(ToolChoice::Tool(
            choice["name"].as_str().unwrap_or_default().to_owned(),
        )),
        Some(other) => Err(unsupported(&format!("`tool_choice` of type `{other}`"))),
    }
}

/// Takes the schema of the answer out of what is passed on: `output_config.format`, or `output_format` as it was before.
fn response_format(extra: &mut Map<String, Value>) -> ResponseFormat {
    let mut format = extra.remove("output_format").unwrap_or_default();
    if let Some(Value::Object(config)) = extra.get_mut("output_config") {
        format = config.remove("format").unwrap_or(format);
        if config.is_empty() {
            extra.remove("output_config");
        }
    }
    match format["schema"].take() {
        schema @ Value::Object(_) => ResponseFormat::JsonSchema {
            name: "answer".to_owned(),
            schema,
        },
        _ => ResponseFormat::Text,
    }
}
