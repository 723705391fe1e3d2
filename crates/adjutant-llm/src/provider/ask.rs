//! From a request to the library's form of it.

use adjutant_core::{
    Content, ContentPart, Message, ModelRequest, ResponseFormat, Role, ToolCall, ToolChoice,
    ToolSpec,
};
use genai::{
    adapter::AdapterKind,
    chat::{
        ChatMessage, ChatOptions, ChatRequest, ChatResponseFormat, ContentPart as Part, JsonSpec,
        MessageContent, ReasoningEffort, Tool, ToolCall as ForeignCall,
        ToolChoice as ForeignChoice, ToolResponse,
    },
};
use serde_json::{Value, json};

use super::{Connection, thinking::Thinking, wants_responses};
use crate::{ModelError, ModelErrorKind, Result};

/// Said to models whose provider has no switch for it.
const JSON_ONLY: &str = "Answer with one JSON object and nothing else.";

/// A request in the library's form.
pub(super) struct Asked {
    pub request: ChatRequest,
    pub options: ChatOptions,
}

pub(super) fn ask(
    adapter: AdapterKind,
    request: &ModelRequest,
    connection: &Connection,
) -> Result<Asked> {
    if request.messages.is_empty() {
        return Err(invalid("the request has no messages"));
    }
    Ok(Asked {
        request: chat(adapter, request)?,
        options: options(adapter, request, connection)?,
    })
}

fn invalid(message: impl Into<String>) -> ModelError {
    ModelError::new(ModelErrorKind::InvalidRequest, message)
}

fn chat(adapter: AdapterKind, request: &ModelRequest) -> Result<ChatRequest> {
    let leading = request
        .messages
        .iter()
        .take_while(|message| message.role == Role::System)
        .count();
    let (instructions, rest) = request.messages.split_at(leading);
    let mut system: Vec<String> = instructions.iter().map(Message::text).collect();
    if adapter == AdapterKind::Anthropic && request.response_format == ResponseFormat::JsonObject {
        system.push(JSON_ONLY.to_owned());
    }
    let mut chat = ChatRequest::new(messages(adapter, &request.model, rest)?);
    chat.system = (!system.is_empty()).then(|| system.join("\n\n"));
    if !request.tools.is_empty() {
        let tools: Result<_> = request.tools.iter().map(tool).collect();
        chat.tools = Some(tools?);
    }
    Ok(chat)
}

fn messages(adapter: AdapterKind, model: &str, messages: &[Message]) -> Result<Vec<ChatMessage>> {
    let mut out = Vec::with_capacity(messages.len());
    for group in messages.chunk_by(|a, b| a.role == Role::Tool && b.role == Role::Tool) {
        match group {
            [message] if message.role != Role::Tool => out.push(match message.role {
                Role::System => ChatMessage::system(message.text()),
                Role::Assistant => assistant(adapter, model, message)?,
                Role::User | Role::Tool => ChatMessage::user(parts(&message.content)),
            }),
            // The answers to calls that were made together go back together.
            answers => out.extend(tool_answers(answers)?),
        }
    }
    Ok(out)
}

fn parts(content: &Content) -> MessageContent {
    match content {
        Content::Text(text) => MessageContent::from_text(text),
        Content::Parts(parts) => parts.iter().map(part).collect(),
    }
}

fn part(part: &ContentPart) -> Part {
    match part {
        ContentPart::Text { text } => Part::from_text(text),
        ContentPart::Image { data, mime_type } => {
            Part::from_binary_base64(mime_type, data.as_str(), None)
        }
        ContentPart::Data { data } => Part::from_text(data.to_string()),
    }
}

fn assistant(adapter: AdapterKind, model: &str, message: &Message) -> Result<ChatMessage> {
    let thinking = Thinking::from_message(message, model).unwrap_or_default();
    let mut parts: Vec<Part> = thinking.parts().collect();
    let text = message.text();
    if !text.is_empty() {
        parts.push(Part::from_text(text));
    }
    for call in &message.tool_calls {
        let mut foreign = foreign_call(call)?;
        foreign.thought_signatures = thinking.calls.get(&call.id).cloned();
        parts.push(Part::ToolCall(foreign));
    }
    let wants_text = adapter == AdapterKind::DeepSeek && !message.tool_calls.is_empty();
    if wants_text && !thinking.text.is_empty() {
        parts.push(Part::ReasoningContent(thinking.text));
    }
    Ok(ChatMessage::assistant(MessageContent::from_parts(parts)))
}

fn foreign_call(call: &ToolCall) -> Result<ForeignCall> {
    let arguments: Value = call
        .arguments
        .to()
        .map_err(|error| invalid(format!("arguments of the call of {}: {error}", call.name)))?;
    let fn_arguments = match arguments {
        Value::Null => json!({}),
        // What was no object when the model said it must be one when it goes back.
        other if !other.is_object() => json!({ "arguments": other }),
        object => object,
    };
    Ok(ForeignCall {
        call_id: call.id.clone(),
        fn_name: call.name.clone(),
        fn_arguments,
        thought_signatures: None,
    })
}

/// The tools' answers; their images follow as the user's, since answers of tools are text in most providers' forms.
fn tool_answers(messages: &[Message]) -> Result<Vec<ChatMessage>> {
    let mut answers = Vec::new();
    let mut images = Vec::new();
    for message in messages {
        let id = message
            .tool_call_id
            .as_ref()
            .ok_or_else(|| invalid("a tool's message has no `tool_call_id`"))?;
        let (text, other) = split(message);
        images.extend(other);
        let mut answer = ToolResponse::new(id, text);
        answer.fn_name = message.name.clone();
        answers.push(answer);
    }
    let mut out = vec![ChatMessage::from(answers)];
    if !images.is_empty() {
        out.push(ChatMessage::user(MessageContent::from_parts(images)));
    }
    Ok(out)
}

fn split(message: &Message) -> (String, Vec<Part>) {
    let Content::Parts(parts) = &message.content else {
        return (message.text(), Vec::new());
    };
    let mut texts = Vec::new();
    let mut images = Vec::new();
    for each in parts {
        match each {
            ContentPart::Text { text } => texts.push(text.clone()),
            ContentPart::Data { data } => texts.push(data.to_string()),
            ContentPart::Image { .. } => images.push(part(each)),
        }
    }
    if !images.is_empty() {
        texts.push("(The images of this answer follow.)".to_owned());
    }
    (texts.join("\n"), images)
}

fn tool(spec: &ToolSpec) -> Result<Tool> {
    let schema: Value = spec
        .input_schema
        .to()
        .map_err(|error| invalid(format!("schema of tool {}: {error}", spec.name)))?;
    let tool = Tool::new(spec.name.as_str()).with_schema(schema);
    Ok(if spec.description.is_empty() {
        tool
    } else {
        tool.with_description(&spec.description)
    })
}

fn options(
    adapter: AdapterKind,
    request: &ModelRequest,
    connection: &Connection,
) -> Result<ChatOptions> {
    let effort = request
        .reasoning_effort
        .as_deref()
        .map(effort)
        .transpose()?;
    let reasoning = reasoning(
        adapter,
        &request.model,
        effort.is_some(),
        connection.reasoning,
    );
    Ok(ChatOptions {
        temperature: request.temperature,
        top_p: request.top_p,
        max_tokens: request.max_output_tokens,
        stop_sequences: request.stop.clone(),
        seed: request.seed,
        response_format: format(adapter, &request.response_format)?,
        tool_choice: tool_choice(request),
        reasoning_effort: effort.or_else(|| no_effort(adapter)),
        extra_body: extra(request)?,
        capture_usage: Some(true),
        capture_content: Some(true),
        capture_tool_calls: Some(true),
        capture_reasoning_content: Some(reasoning),
        ..ChatOptions::default()
    })
}

fn effort(text: &str) -> Result<ReasoningEffort> {
    text.parse().map_err(|_| {
        invalid(format!(
            "`reasoning_effort: {text}`: use none, minimal, low, medium, high, xhigh, max or a number of tokens"
        ))
    })
}

/// Without an effort the library reads one off the end of the model's name, and calls `qwen-max` by the name of `qwen`.
/// A budget says nothing in OpenAI's forms, and leaves the name alone.
const fn no_effort(adapter: AdapterKind) -> Option<ReasoningEffort> {
    match adapter {
        AdapterKind::Anthropic | AdapterKind::Gemini | AdapterKind::DeepSeek => None,
        _ => Some(ReasoningEffort::Budget(0)),
    }
}

/// Whether to ask for the reasoning. Where asking is part of the request, models without reasoning refuse it.
fn reasoning(adapter: AdapterKind, model: &str, effort: bool, wanted: Option<bool>) -> bool {
    let by_name = match adapter {
        AdapterKind::OpenAIResp => {
            wants_responses(model) || ["o1", "o3", "o4"].iter().any(|o| model.starts_with(o))
        }
        AdapterKind::Gemini => !["gemini-1", "gemini-2.0", "gemma"]
            .iter()
            .any(|old| model.starts_with(old)),
        // Here it only means to keep what comes.
        _ => return true,
    };
    wanted.unwrap_or(effort || by_name)
}

fn format(adapter: AdapterKind, format: &ResponseFormat) -> Result<Option<ChatResponseFormat>> {
    Ok(match format {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => match adapter {
            AdapterKind::Anthropic => None,
            AdapterKind::Gemini => {
                Some(JsonSpec::new("object", json!({ "type": "object" })).into())
            }
            _ => Some(ChatResponseFormat::JsonMode),
        },
        ResponseFormat::JsonSchema { name, schema } => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            let name = name.replace(|c: char| !allowed(c), "_");
            Some(JsonSpec::new(name, schema.clone()).into())
        }
    })
}

fn tool_choice(request: &ModelRequest) -> Option<ForeignChoice> {
    if request.tools.is_empty() {
        return None;
    }
    match &request.tool_choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(ForeignChoice::None),
        ToolChoice::Required => Some(ForeignChoice::Required),
        ToolChoice::Tool(name) => Some(ForeignChoice::tool(name)),
    }
}

fn extra(request: &ModelRequest) -> Result<Option<Value>> {
    if request.extra.is_null() {
        return Ok(None);
    }
    let extra: Value = request
        .extra
        .to()
        .map_err(|error| invalid(format!("`extra`: {error}")))?;
    if extra.is_object() {
        Ok(Some(extra))
    } else {
        Err(invalid("`extra` has to be an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_calls_made_together_go_back_together() {
        let answer = |id: &str| Message {
            tool_call_id: Some(id.into()),
            ..Message::new(Role::Tool, id)
        };
        let conversation = [
            Message::user("go"),
            Message::assistant("calling"),
            answer("a"),
            answer("b"),
            Message::user("and"),
        ];
        let out = messages(AdapterKind::Anthropic, "m", &conversation).unwrap();
        assert_eq!(out.len(), 4);
        assert_eq!(out[2].content.tool_responses().len(), 2);
    }

    #[test]
    fn images_of_tools_follow_their_answers() {
        let message = Message {
            tool_call_id: Some("a".into()),
            content: Content::Parts(vec![
                ContentPart::Text {
                    text: "a plot".into(),
                },
                ContentPart::Image {
                    data: "aGk=".into(),
                    mime_type: "image/png".into(),
                },
            ]),
            ..Message::new(Role::Tool, "")
        };
        let out = messages(AdapterKind::OpenAI, "m", &[message]).unwrap();
        assert_eq!(out.len(), 2);
        assert!(
            out[0].content.tool_responses()[0]
                .content
                .contains("a plot")
        );
        assert!(out[1].content.parts()[0].is_image());
    }

    #[test]
    fn a_tools_message_without_a_call_is_refused() {
        let error = messages(AdapterKind::OpenAI, "m", &[Message::new(Role::Tool, "x")]);
        assert_eq!(error.unwrap_err().kind, ModelErrorKind::InvalidRequest);
    }

    #[test]
    fn reasoning_is_asked_for_where_the_model_has_it() {
        for (adapter, model, asked) in [
            (AdapterKind::OpenAIResp, "gpt-4.1", false),
            (AdapterKind::OpenAIResp, "gpt-5", true),
            (AdapterKind::OpenAIResp, "o3", true),
            (AdapterKind::Gemini, "gemini-2.0-flash", false),
            (AdapterKind::Gemini, "gemini-2.5-pro", true),
            (AdapterKind::Anthropic, "claude-sonnet-4-5", true),
        ] {
            assert_eq!(reasoning(adapter, model, false, None), asked, "{model}");
        }
        assert!(!reasoning(
            AdapterKind::OpenAIResp,
            "gpt-5",
            true,
            Some(false)
        ));
    }

    #[test]
    fn unknown_efforts_are_refused_by_name() {
        assert!(effort("hard").unwrap_err().message.contains("hard"));
        assert!(effort("none").is_ok());
        assert!(effort("2048").is_ok());
    }
}
