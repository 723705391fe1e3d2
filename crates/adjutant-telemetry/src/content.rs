//! What people, models and tools said to each other, as the conventions write it. Only by opt-in, without secrets, bounded.

use adjutant_core::{
    Content, ContentPart, FinishReason, Json, Message, Role, ToolAnswer, ToolSpec,
};
use serde_json::{Value, json};

use crate::Redactor;

/// Longest single text, in bytes.
const TEXT_BYTES: usize = 16 * 1024;
/// Longest content attribute, in bytes. The oldest messages are left out first.
const CONTENT_BYTES: usize = 256 * 1024;

/// Whether content is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Capture {
    /// Figures and names only.
    #[default]
    None,
    /// Messages, and the arguments and results of tools, too.
    Content,
}

/// The instructions among the messages.
pub(crate) fn instructions(messages: &[Message], redactor: &Redactor) -> Option<String> {
    let system = messages.iter().filter(|it| it.role == Role::System);
    let parts: Vec<Value> = system.flat_map(|it| parts(&it.content)).collect();
    (!parts.is_empty()).then(|| bounded(parts, redactor))
}

/// The messages that are no instructions.
pub(crate) fn messages(messages: &[Message], redactor: &Redactor) -> String {
    let others = messages.iter().filter(|it| it.role != Role::System);
    bounded(others.map(message).collect(), redactor)
}

/// A model's answer.
pub(crate) fn output(
    answer: &Message,
    reason: Option<FinishReason>,
    redactor: &Redactor,
) -> String {
    let mut value = message(answer);
    if let (Some(reason), Value::Object(fields)) = (reason, &mut value) {
        // The conventions say `tool_call` where others say `tool_calls`.
        let word = match reason {
            FinishReason::ToolCalls => "tool_call",
            other => other.as_str(),
        };
        fields.insert("finish_reason".into(), word.into());
    }
    bounded(vec![value], redactor)
}

/// The tools that a model may use.
pub(crate) fn definitions(tools: &[ToolSpec], redactor: &Redactor) -> String {
    let definition = |tool: &ToolSpec| {
        json!({
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": value(&tool.input_schema),
        })
    };
    bounded(tools.iter().map(definition).collect(), redactor)
}

/// A tool's arguments.
pub(crate) fn arguments(arguments: &Json, redactor: &Redactor) -> String {
    one(value(arguments), redactor)
}

/// A tool's answer.
pub(crate) fn answer(answer: &ToolAnswer, redactor: &Redactor) -> String {
    one(tool_result(answer), redactor)
}

fn tool_result(answer: &ToolAnswer) -> Value {
    match &answer.structured_content {
        Some(data) => data.clone(),
        None => Value::Array(answer.content.iter().map(without_data).collect()),
    }
}

/// A content block of MCP; images and sounds by their size.
fn without_data(block: &Value) -> Value {
    let mut block = block.clone();
    if let Some(Value::String(data)) = block.get_mut("data") {
        *data = format!("[{} bytes of base64]", data.len());
    }
    block
}

fn message(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut all = Vec::new();
    match &message.tool_call_id {
        Some(id) => {
            let response = message.text();
            all.push(json!({"type": "tool_call_response", "id": id, "response": response}));
        }
        None => all.extend(parts(&message.content)),
    }
    all.extend(message.tool_calls.iter().map(|call| {
        let arguments = value(&call.arguments);
        json!({"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments})
    }));
    json!({"role": role, "parts": all})
}

fn parts(content: &Content) -> Vec<Value> {
    let text = |text: &String| json!({"type": "text", "content": text});
    match content {
        Content::Text(it) if it.is_empty() => Vec::new(),
        Content::Text(it) => vec![text(it)],
        Content::Parts(parts) => parts
            .iter()
            .map(|part| match part {
                ContentPart::Text { text: it } => text(it),
                ContentPart::Image { data, mime_type } => json!({
                    "type": "blob", "modality": "image", "mime_type": mime_type,
                    "content": format!("[{} bytes of base64]", data.len()),
                }),
                ContentPart::Data { data } => json!({"type": "data", "content": data}),
            })
            .collect(),
    }
}

fn value(json: &Json) -> Value {
    json.to().unwrap_or_default()
}

/// Redacts first, for half a secret is not recognised.
fn clean(value: &mut Value, redactor: &Redactor) {
    redactor.json(value);
    shorten(value);
}

fn one(mut value: Value, redactor: &Redactor) -> String {
    clean(&mut value, redactor);
    let text = value.to_string();
    match text.len() > CONTENT_BYTES {
        true => json!(format!("[{} bytes left out]", text.len())).to_string(),
        false => text,
    }
}

/// A list of as many of the last items as there is room for.
fn bounded(items: Vec<Value>, redactor: &Redactor) -> String {
    let count = items.len();
    let (mut room, mut kept) = (CONTENT_BYTES, Vec::new());
    for mut item in items.into_iter().rev() {
        clean(&mut item, redactor);
        let text = item.to_string();
        let Some(rest) = room.checked_sub(text.len()) else {
            let left_out = count - kept.len();
            let note = json!({"type": "text", "content": format!("[{left_out} earlier left out]")});
            kept.push(json!({"role": "system", "parts": [note]}).to_string());
            break;
        };
        room = rest;
        kept.push(text);
    }
    kept.reverse();
    format!("[{}]", kept.join(","))
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT_BYTES => {
            let rest = text.len() - TEXT_BYTES;
            text.truncate(text.floor_char_boundary(TEXT_BYTES));
            text.push_str(&format!("… [{rest} bytes left out]"));
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use adjutant_core::ToolCall;

    use super::*;

    fn read(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn messages_have_the_conventions_shape() {
        let mut asked = Message::assistant("");
        asked.tool_calls.push(ToolCall {
            id: "1".into(),
            name: "add".into(),
            arguments: Json::from(json!({"a": 1})),
        });
        let mut answered = Message::new(Role::Tool, "2");
        answered.tool_call_id = Some("1".into());
        let all = [
            Message::new(Role::System, "be brief"),
            Message::user("1+1?"),
            asked,
            answered,
        ];
        let redactor = Redactor::default();
        assert_eq!(
            read(&messages(&all, &redactor)),
            json!([
                {"role": "user", "parts": [{"type": "text", "content": "1+1?"}]},
                {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "add", "arguments": {"a": 1}}]},
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "2"}]},
            ])
        );
        let system = instructions(&all, &redactor).unwrap();
        assert_eq!(
            read(&system),
            json!([{"type": "text", "content": "be brief"}])
        );
    }

    #[test]
    fn long_texts_and_long_conversations_stay_within_their_bounds_and_stay_json() {
        let redactor = Redactor::default();
        let all: Vec<Message> = (0..100)
            .map(|index| Message::user(format!("{index} {}", "ä".repeat(TEXT_BYTES))))
            .collect();
        let text = messages(&all, &redactor);
        assert!(text.len() < CONTENT_BYTES + 1024, "{}", text.len());
        let kept = read(&text);
        let kept = kept.as_array().unwrap();
        assert_eq!(kept[0]["role"], "system");
        let last = kept.last().unwrap()["parts"][0]["content"]
            .as_str()
            .unwrap();
        assert!(last.starts_with("99 ") && last.ends_with("bytes left out]"));
    }

    #[test]
    fn images_are_told_by_their_size() {
        let image = ToolAnswer {
            content: vec![json!({"type": "image", "data": "QUJD", "mimeType": "image/png"})],
            ..ToolAnswer::default()
        };
        assert!(!answer(&image, &Redactor::default()).contains("QUJD"));
    }
}
