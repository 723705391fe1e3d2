//! What a response means to a model.

use adjutant_core::ToolAnswer;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::client::Incoming;

/// The response as a tool's answer. A status that is no success is the tool's own failure.
pub fn answer(incoming: &Incoming) -> ToolAnswer {
    let status = incoming.status;
    if !status.is_success() {
        let body = String::from_utf8_lossy(&incoming.body);
        return ToolAnswer::failed(format!("HTTP {status}\n{body}").trim_end());
    }
    if incoming.body.is_empty() {
        return ToolAnswer::text(format!("HTTP {status}"));
    }
    let mime = incoming.mime.as_str();
    if mime == "application/json" || mime.ends_with("+json") {
        return from_json(&incoming.body);
    }
    if let Some(block) = binary(mime, &incoming.body) {
        return ToolAnswer {
            content: vec![block],
            ..ToolAnswer::default()
        };
    }
    ToolAnswer::text(String::from_utf8_lossy(&incoming.body))
}

/// An object is structured content as well; whatever else is text.
fn from_json(body: &[u8]) -> ToolAnswer {
    match serde_json::from_slice(body) {
        Ok(data @ Value::Object(_)) => ToolAnswer::data(data),
        _ => ToolAnswer::text(String::from_utf8_lossy(body)),
    }
}

/// A block for what is not text.
fn binary(mime: &str, body: &[u8]) -> Option<Value> {
    let kind = mime.split('/').next().unwrap_or_default();
    let data = || BASE64_STANDARD.encode(body);
    match kind {
        "image" | "audio" if mime != "image/svg+xml" => {
            Some(json!({ "type": kind, "data": data(), "mimeType": mime }))
        }
        _ if std::str::from_utf8(body).is_err() => Some(json!({
            "type": "resource",
            "resource": { "uri": "response:", "mimeType": mime, "blob": data() },
        })),
        _ => None,
    }
}
