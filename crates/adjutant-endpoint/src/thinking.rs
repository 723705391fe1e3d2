//! What a model's provider needs back of its thinking, carried through a client that need not understand it.
//!
//! Models that think sign their thoughts and go on from them only if the signatures come back. They are in a message's
//! metadata; clients get them as text that they keep with the conversation and send back with it.

use adjutant_core::{Json, Message};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

const PREFIX: &str = "adjutant:";

/// The message's thinking as opaque text, where any has to come back.
pub fn to_opaque(message: &Message) -> Option<String> {
    if message.metadata.is_null() {
        return None;
    }
    let metadata: Value = message.metadata.to().ok()?;
    let thinking = &metadata["thinking"];
    if thinking["blocks"].is_null() && thinking["calls"].is_null() {
        return None;
    }
    let text = thinking.to_string();
    Some(format!("{PREFIX}{}", BASE64_STANDARD.encode(text)))
}

/// The metadata in such a text; `None` for text that is another's.
pub fn from_opaque(text: &str) -> Option<Json> {
    let bytes = BASE64_STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
    let thinking: Value = serde_json::from_slice(&bytes).ok()?;
    Some(json!({ "thinking": thinking }).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_come_back_comes_back_and_nothing_else_is_sent() {
        let mut message = Message::assistant("");
        assert_eq!(to_opaque(&message), None);
        message.metadata = json!({ "thinking": { "model": "m", "text": "hm" } }).into();
        assert_eq!(to_opaque(&message), None);
        let signed = json!({ "thinking": { "model": "m", "blocks": [{ "type": "signature" }] } });
        message.metadata = signed.into();
        let back = from_opaque(&to_opaque(&message).unwrap());
        assert_eq!(back, Some(message.metadata));
        assert_eq!(from_opaque("EqQBCgIYAhIM"), None);
    }
}
