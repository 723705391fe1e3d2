//! What the dialects have in common: how a request is read and an answer is written.

use adjutant_core::{Content, ContentPart, Json, ModelRequest, ModelResponse};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{failure::Failure, pieces::Piece};

/// A request, read.
pub struct Asked {
    pub request: ModelRequest,
    /// Whether the client wants to see the answer while it is made.
    pub stream: bool,
    pub style: Style,
}

/// How the client wants its answer.
pub enum Style {
    Chat {
        /// Whether the stream ends with a chunk of figures.
        include_usage: bool,
    },
    Responses {
        /// The request, much of which an answer repeats.
        echo: Box<Value>,
    },
    Messages,
}

/// What an answer is called.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// Without the dialect's prefix.
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The model, as the client calls it.
    pub model: String,
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type, in dialects that name events.
    pub event: Option<String>,
    pub data: String,
}

impl Frame {
    /// An event that says its type in its data and nowhere else.
    pub fn plain(data: &Value) -> Self {
        Self {
            event: None,
            data: data.to_string(),
        }
    }

    /// An event that is named by its data's `type`.
    pub fn typed(data: &Value) -> Self {
        Self {
            event: data["type"].as_str().map(str::to_owned),
            data: data.to_string(),
        }
    }
}

/// Writes one answer in a dialect's form: either whole, or as a stream of `begin`, pieces and an end.
pub trait Writer: Send + Sync {
    /// The answer in one piece.
    fn whole(&self, response: &ModelResponse) -> Value;
    /// What comes before the first piece.
    fn begin(&mut self) -> Vec<Frame>;
    /// A piece.
    fn piece(&mut self, piece: Piece) -> Vec<Frame>;
    /// What comes after the last piece.
    fn end(&mut self, response: &ModelResponse) -> Vec<Frame>;
    /// What comes instead of an end.
    fn fail(&mut self, failure: &Failure) -> Vec<Frame>;
}

/// Reads JSON as a `T`.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(|error| Failure::bad_request(error.to_string()))
}

/// Reads the text of a call's arguments. What is no JSON stays text, as the model wrote it.
pub fn read_arguments(text: &str) -> Json {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => value.into(),
        Err(_) if text.trim().is_empty() => json!({}).into(),
        Err(_) => text.into(),
    }
}

/// An image in a `data:` URL.
pub fn read_image(url: &str) -> Result<ContentPart, Failure> {
    let refused = || {
        Failure::bad_request("images are taken as `data:<type>;base64,…` only; nothing is fetched")
    };
    let (head, data) = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(','))
        .ok_or_else(refused)?;
    let mime_type = head.strip_suffix(";base64").ok_or_else(refused)?;
    Ok(ContentPart::Image {
        data: data.to_owned(),
        mime_type: mime_type.to_owned(),
    })
}

/// A refusal of something that a request asks for.
pub fn unsupported(what: &str) -> Failure {
    Failure::bad_request(format!("{what} is not supported here"))
}

/// Content of one text as text.
pub fn simplest(mut parts: Vec<ContentPart>) -> Content {
    match parts.as_mut_slice() {
        [] => Content::Text(String::new()),
        [ContentPart::Text { text }] => Content::Text(std::mem::take(text)),
        _ => Content::Parts(parts),
    }
}

/// What only the provider understands; `null` where there is nothing.
pub fn extra(mut fields: Map<String, Value>) -> Json {
    fields.retain(|_, value| !value.is_null());
    if fields.is_empty() {
        return Json::null();
    }
    Value::Object(fields).into()
}
