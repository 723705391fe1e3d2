//! Model calls, between the words of the wire and those of the runtime. Messages and tools may also come in the shapes of
//! OpenAI's chat completions, because that is what most agents have at hand.

use adjutant_core::{
    Json, Message, ModelDelta, ModelRequest, ModelResponse, ResponseFormat, ToolChoice, ToolSpec,
};
use adjutant_wire as wire;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{tree, value};

/// What `llm/generate` asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    model: String,
    messages: Vec<Value>,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default, alias = "tool_choice")]
    tool_choice: Value,
    #[serde(default, alias = "response_format")]
    response_format: Value,
    temperature: Option<f64>,
    #[serde(alias = "top_p")]
    top_p: Option<f64>,
    #[serde(
        alias = "max_output_tokens",
        alias = "max_completion_tokens",
        alias = "max_tokens"
    )]
    max_output_tokens: Option<u32>,
    #[serde(default)]
    stop: Stop,
    seed: Option<u64>,
    #[serde(alias = "reasoning_effort")]
    reasoning_effort: Option<String>,
    #[serde(default)]
    extra: Map<String, Value>,
    /// Fields that only some providers know go to the provider, rather than nowhere.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

impl Default for Stop {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

/// What a model is asked.
pub(crate) fn model_request(request: Map<String, Value>) -> Result<ModelRequest, wire::RpcError> {
    let request: Request = read("request", Value::Object(request))?;
    let mut extra = request.extra;
    extra.extend(request.rest);
    Ok(ModelRequest {
        model: request.model,
        messages: request
            .messages
            .into_iter()
            .map(message)
            .collect::<Result<_, _>>()?,
        tools: request
            .tools
            .into_iter()
            .map(tool)
            .collect::<Result<_, _>>()?,
        tool_choice: tool_choice(request.tool_choice)?,
        response_format: response_format(request.response_format)?,
        temperature: request.temperature,
        top_p: request.top_p,
        max_output_tokens: request.max_output_tokens,
        stop: match request.stop {
            Stop::One(text) => vec![text],
            Stop::Several(texts) => texts,
        },
        seed: request.seed,
        reasoning_effort: request.reasoning_effort,
        extra: if extra.is_empty() {
            Json::null()
        } else {
            Value::Object(extra).into()
        },
    })
}

fn read<T: for<'de> Deserialize<'de>>(what: &str, value: Value) -> Result<T, wire::RpcError> {
    serde_json::from_value(value).map_err(|error| {
        let why = format!("llm/generate: {what}: {error}");
        wire::RpcError::new(wire::ErrorCode::InvalidParams, why)
    })
}

fn message(mut message: Value) -> Result<Message, wire::RpcError> {
    if let Some(fields) = message.as_object_mut() {
        rename(fields, "toolCalls", "tool_calls");
        rename(fields, "toolCallId", "tool_call_id");
        if fields.get("role").is_some_and(|role| role == "developer") {
            fields.insert("role".to_owned(), json!("system"));
        }
        let content = fields.entry("content").or_insert(Value::Null);
        match content {
            Value::Null => *content = json!(""),
            Value::Array(parts) => parts.iter_mut().for_each(part),
            _ => {}
        }
        match fields.get_mut("tool_calls") {
            Some(Value::Array(calls)) => calls.iter_mut().for_each(tool_call),
            Some(Value::Null) => drop(fields.remove("tool_calls")),
            _ => {}
        }
    }
    read("messages", message)
}

fn rename(fields: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
}

/// Text and images as they are, or as OpenAI writes images; everything else is data.
fn part(part: &mut Value) {
    let image = part["image_url"]["url"]
        .as_str()
        .and_then(|url| url.strip_prefix("data:")?.split_once(";base64,"));
    if let Some((mime_type, data)) = image {
        *part = json!({ "type": "image", "data": data, "mimeType": mime_type });
    }
    if !matches!(part["type"].as_str(), Some("text" | "image" | "data")) {
        *part = json!({ "type": "data", "data": part.take() });
    }
}

/// `{id, name, arguments}`, from that or from `{id, type, function: {name, arguments}}` with the arguments as text.
fn tool_call(call: &mut Value) {
    if call["function"].is_object() {
        let mut function = call["function"].take();
        call["name"] = function["name"].take();
        call["arguments"] = function["arguments"].take();
    }
    if let Some(parsed) = call["arguments"]
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
    {
        call["arguments"] = parsed;
    }
}

/// As `tools/list` gives it, or `{type: "function", function: {name, description, parameters}}`.
fn tool(mut tool: Value) -> Result<ToolSpec, wire::RpcError> {
    if tool["function"].is_object() {
        tool = tool["function"].take();
    }
    if let Some(fields) = tool.as_object_mut() {
        rename(fields, "parameters", "inputSchema");
        rename(fields, "input_schema", "inputSchema");
        fields
            .entry("inputSchema")
            .or_insert_with(|| json!({ "type": "object" }));
    }
    read("tools", tool)
}

fn tool_choice(choice: Value) -> Result<ToolChoice, wire::RpcError> {
    let function = choice["function"]["name"].as_str();
    if let Some(name) = function.or(choice["name"].as_str()) {
        return Ok(ToolChoice::Tool(name.to_owned()));
    }
    if choice.is_null() {
        return Ok(ToolChoice::Auto);
    }
    read("toolChoice", choice)
}

fn response_format(mut format: Value) -> Result<ResponseFormat, wire::RpcError> {
    if format.is_null() {
        return Ok(ResponseFormat::Text);
    }
    let mut inner = format["json_schema"].take();
    if inner.is_object() {
        format["name"] = inner["name"].take();
        format["schema"] = inner["schema"].take();
    }
    read("responseFormat", format)
}

/// What a model answered.
pub(crate) fn model_answer(response: ModelResponse) -> wire::LlmAnswer {
    let said = response.message;
    wire::LlmAnswer {
        message: wire::GeneratedMessage {
            role: "assistant".to_owned(),
            content: value(&said.content),
            tool_calls: said
                .tool_calls
                .iter()
                .map(|call| {
                    json!({ "id": call.id, "name": call.name, "arguments": tree(&call.arguments) })
                })
                .collect(),
        },
        finish_reason: response.finish_reason.as_str().to_owned(),
        model: response.model,
        usage: wire::TokenUsage {
            input_tokens: response.usage.input_tokens,
            output_tokens: response.usage.output_tokens,
            cache_read_tokens: response.usage.cache_read_tokens,
            reasoning_tokens: response.usage.reasoning_tokens,
            cost_usd: None,
        },
        cost: response.cost_usd,
    }
}

/// A piece of an answer.
pub(crate) fn model_delta(delta: ModelDelta) -> wire::LlmDelta {
    let mut piece = wire::LlmDelta::default();
    match delta {
        ModelDelta::Text { text } => piece.text = Some(text),
        ModelDelta::Reasoning { text } => piece.reasoning = Some(text),
        ModelDelta::ToolCall {
            index,
            id,
            name,
            arguments,
        } => {
            let arguments = (!arguments.is_empty()).then_some(arguments);
            piece.tool_call = Some(wire::ToolCallDelta {
                index,
                id,
                name,
                arguments,
            });
        }
    }
    piece
}

#[cfg(test)]
mod tests {
    use adjutant_core::{Role, ToolCall};

    use super::*;

    fn request(request: Value) -> ModelRequest {
        let Value::Object(request) = request else {
            panic!("no object")
        };
        model_request(request).unwrap()
    }

    #[test]
    fn messages_may_come_in_the_shape_of_chat_completions() {
        let ours = json!({"messages": [
            {"role": "system", "content": "s"},
            {"role": "assistant", "content": "", "toolCalls": [{"id": "1", "name": "t", "arguments": {"x": 1}}]},
            {"role": "tool", "content": "r", "toolCallId": "1"},
        ]});
        let theirs = json!({"messages": [
            {"role": "developer", "content": "s"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "t", "arguments": "{\"x\": 1}"}},
            ]},
            {"role": "tool", "content": "r", "tool_call_id": "1"},
        ]});
        let read = request(ours);
        assert_eq!(read, request(theirs));
        assert_eq!(read.messages[0].role, Role::System);
        let call = ToolCall {
            id: "1".to_owned(),
            name: "t".to_owned(),
            arguments: json!({"x": 1}).into(),
        };
        assert_eq!(read.messages[1].tool_calls, [call]);
        assert_eq!(read.messages[2].tool_call_id.as_deref(), Some("1"));
    }

    #[test]
    fn tools_choices_and_formats_may_come_in_both_shapes() {
        let ours = json!({"messages": [], "tools": [{"name": "t", "description": "d", "inputSchema": {"a": 1}}],
            "toolChoice": {"tool": "t"}, "responseFormat": {"type": "json_schema", "name": "n", "schema": {}},
            "maxOutputTokens": 7, "stop": ["x"]});
        let theirs = json!({"messages": [],
            "tools": [{"type": "function", "function": {"name": "t", "description": "d", "parameters": {"a": 1}}}],
            "tool_choice": {"type": "function", "function": {"name": "t"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": true}},
            "max_tokens": 7, "stop": "x"});
        let read = request(ours);
        assert_eq!(read, request(theirs));
        assert_eq!(read.tool_choice, ToolChoice::Tool("t".to_owned()));
        assert_eq!(read.max_output_tokens, Some(7));
        assert_eq!(
            request(json!({"messages": [], "toolChoice": "none"})).tool_choice,
            ToolChoice::None
        );
    }

    #[test]
    fn what_only_a_provider_knows_reaches_it() {
        let read = request(json!({"messages": [], "top_k": 4, "extra": {"a": 1}}));
        assert_eq!(
            read.extra.to::<Value>().unwrap(),
            json!({"a": 1, "top_k": 4})
        );
    }

    #[test]
    fn images_and_unknown_parts_are_kept() {
        let read = request(json!({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
            {"type": "input_audio", "input_audio": {"data": "x"}},
        ]}]}));
        let parts = value(&read.messages[0].content);
        assert_eq!(
            parts[1],
            json!({"type": "image", "data": "QUJD", "mimeType": "image/png"})
        );
        assert_eq!(parts[2]["type"], "data");
        assert_eq!(parts[2]["data"]["input_audio"]["data"], "x");
    }

    #[test]
    fn a_request_of_the_wrong_shape_is_refused_as_such() {
        for wrong in [
            json!({}),
            json!({"messages": [{"content": "x"}]}),
            json!({"messages": 1}),
            json!({"messages": [], "toolChoice": 3}),
        ] {
            let Value::Object(wrong) = wrong else {
                continue;
            };
            let error = model_request(wrong).unwrap_err();
            assert!(error.is(wire::ErrorCode::InvalidParams), "{error}");
        }
    }
}
