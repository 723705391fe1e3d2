//! Requests of chat completions.

use adjutant_core::{
    Content, ContentPart, Message, ModelRequest, ResponseFormat, Role, ToolCall, ToolChoice,
    ToolSpec,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    failure::Failure,
    wire::{self, Asked, Style, read_arguments, read_image, unsupported},
};

#[derive(Deserialize)]
struct Request {
    model: String,
    messages: Vec<Said>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<Value>,
    response_format: Option<Value>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    stop: Option<Stop>,
    seed: Option<u64>,
    reasoning_effort: Option<String>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u32>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    #[serde(default)]
    content: Value,
    name: Option<String>,
    tool_calls: Option<Vec<Call>>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    id: String,
    function: CalledFunction,
}

#[derive(Deserialize)]
struct CalledFunction {
    name: String,
    #[serde(default)]
    arguments: String,
}

#[derive(Deserialize)]
struct Tool {
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
}

/// What an answer could not keep, so that asking for it is refused rather than ignored.
const REFUSED: [&str; 5] = [
    "functions",
    "function_call",
    "audio",
    "web_search_options",
    "prediction",
];

/// Reads a request's body.
pub fn read(body: &Value) -> Result<Asked, Failure> {
    let request: Request = wire::read(body)?;
    for field in REFUSED {
        if request
            .extra
            .get(field)
            .is_some_and(|value| !value.is_null())
        {
            return Err(unsupported(&format!("`{field}`")));
        }
    }
    if request.n.is_some_and(|n| n != 1) || request.extra.get("logprobs") == Some(&json!(true)) {
        return Err(unsupported("`n` other than 1, or `logprobs`,"));
    }
    let include_usage = request
        .stream_options
        .and_then(|options| options.include_usage);
    Ok(Asked {
        stream: request.stream.unwrap_or(false),
        style: Style::Chat {
            include_usage: include_usage.unwrap_or(false),
        },
        request: ModelRequest {
            model: request.model,
            messages: request
                .messages
                .into_iter()
                .map(message)
                .collect::<Result<_, _>>()?,
            tools: tools(request.tools.unwrap_or_default())?,
            tool_choice: tool_choice(request.tool_choice.as_ref())?,
            response_format: response_format(request.response_format.as_ref())?,
            temperature: request.temperature,
            top_p: request.top_p,
            max_output_tokens: request.max_completion_tokens.or(request.max_tokens),
            stop: match request.stop {
                None => Vec::new(),
                Some(Stop::One(text)) => vec![text],
                Some(Stop::Many(texts)) => texts,
            },
            seed: request.seed,
            reasoning_effort: request.reasoning_effort,
            extra: wire::extra(request.extra),
        },
    })
}

fn message(said: Said) -> Result<Message, Failure> {
    let role = match said.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => return Err(unsupported(&format!("a message of role `{other}`"))),
    };
    let calls = said.tool_calls.unwrap_or_default().into_iter();
    Ok(Message {
        content: content(&said.content)?,
        name: said.name,
        tool_call_id: said.tool_call_id,
        tool_calls: calls
            .map(|call| ToolCall {
                id: call.id,
                name: call.function.name,
                arguments: read_arguments(&call.function.arguments),
            })
            .collect(),
        ..Message::new(role, "")
    })
}

fn content(content: &Value) -> Result<Content, Failure> {
    match content {
        Value::Null => Ok(Content::Text(String::new())),
        Value::String(text) => Ok(Content::Text(text.clone())),
        Value::Array(parts) => {
            let parts: Vec<_> = parts.iter().map(part).collect::<Result<_, _>>()?;
            Ok(wire::simplest(parts))
        }
        _ => Err(Failure::bad_request("`content` is neither text nor a list")),
    }
}

fn part(part: &Value) -> Result<ContentPart, Failure> {
    let text = |field: &str| part[field].as_str().unwrap_or_default().to_owned();
    match part["type"].as_str().unwrap_or_default() {
        "text" => Ok(ContentPart::Text { text: text("text") }),
        "refusal" => Ok(ContentPart::Text {
            text: text("refusal"),
        }),
        "image_url" => read_image(part["image_url"]["url"].as_str().unwrap_or_default()),
        other => Err(unsupported(&format!("content of type `{other}`"))),
    }
}

fn tools(tools: Vec<Tool>) -> Result<Vec<ToolSpec>, Failure> {
    let spec = |tool: Tool| {
        let function = tool
            .function
            .ok_or_else(|| unsupported("a tool that is no function"))?;
        let schema = function
            .parameters
            .unwrap_or_else(|| json!({ "type": "object" }));
        Ok(ToolSpec::new(
            function.name,
            function.description.unwrap_or_default(),
            schema,
        ))
    };
    tools.into_iter().map(spec).collect()
}

pub fn tool_choice(choice: Option<&Value>) -> Result<ToolChoice, Failure> {
    let Some(choice) = choice.filter(|choice| !choice.is_null()) else {
        return Ok(ToolChoice::Auto);
    };
    // Responses name the function at the top.
    let named = choice["function"]["name"]
        .as_str()
        .or(choice["name"].as_str());
    match (choice.as_str(), named) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("required"), _) => Ok(ToolChoice::Required),
        (None, Some(name)) => Ok(ToolChoice::Tool(name.to_owned())),
        _ => Err(unsupported(&format!("`tool_choice` {choice}"))),
    }
}

pub fn response_format(format: Option<&Value>) -> Result<ResponseFormat, Failure> {
    let Some(format) = format.filter(|format| !format.is_null()) else {
        return Ok(ResponseFormat::Text);
    };
    match format["type"].as_str().unwrap_or_default() {
        "text" => Ok(ResponseFormat::Text),
        "json_object" => Ok(ResponseFormat::JsonObject),
        "json_schema" => {
            // Responses have name and schema at the top.
            let inner = format.get("json_schema").unwrap_or(format);
            Ok(ResponseFormat::JsonSchema {
                name: inner["name"].as_str().unwrap_or("answer").to_owned(),
                schema: inner["schema"].clone(),
            })
        }
        other => Err(unsupported(&format!("`response_format` of type `{other}`"))),
    }
}
