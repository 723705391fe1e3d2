//! An eye on every frame of an answer, for what the library does not hand on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use genai::{
    adapter::AdapterKind,
    chat::{ChatFrameSink, FrameCtx, RawFrameRef},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Frames that are looked at for the answer's id and model.
const HEAD_FRAMES: u32 = 8;

/// What the frames of one answer tell.
pub(super) struct Watch {
    adapter: AdapterKind,
    seen: Mutex<Seen>,
}

struct Seen {
    last: Instant,
    frames: u32,
    bytes: usize,
    id: Option<String>,
    model: Option<String>,
    /// A frame was no JSON: whatever comes after it, the answer is not whole.
    broken: bool,
    failure: Option<Value>,
    filtered: bool,
}

/// Where providers put id and model.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Head {
    id: Option<String>,
    model: Option<String>,
    #[serde(rename = "responseId")]
    response_id: Option<String>,
    #[serde(rename = "modelVersion")]
    model_version: Option<String>,
    /// Anthropic.
    message: Option<Inner>,
    /// OpenAI's responses.
    response: Option<Inner>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Inner {
    id: Option<String>,
    model: Option<String>,
}

impl Watch {
    pub(super) fn new(adapter: AdapterKind) -> Self {
        Self {
            adapter,
            seen: Mutex::new(Seen {
                last: Instant::now(),
                frames: 0,
                bytes: 0,
                id: None,
                model: None,
                broken: false,
                failure: None,
                filtered: false,
            }),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the last frame came, or the call began.
    pub(super) fn last(&self) -> Instant {
        self.seen().last
    }

    pub(super) fn has_begun(&self) -> bool {
        self.seen().frames > 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.seen().bytes
    }

    pub(super) fn is_broken(&self) -> bool {
        self.seen().broken
    }

    /// A failure that a frame told, in the form of an error body.
    pub(super) fn failure(&self) -> Option<Value> {
        self.seen().failure.clone()
    }

    /// Whether a filter ended the answer where the library sees only its end.
    pub(super) fn is_filtered(&self) -> bool {
        self.seen().filtered
    }

    pub(super) fn id(&self) -> Option<String> {
        self.seen().id.clone()
    }

    pub(super) fn model(&self) -> Option<String> {
        self.seen().model.clone()
    }

    /// Looks into the few frames that end an answer in a way of their own.
    fn look_for_end(&self, seen: &mut Seen, data: &str) {
        let marks: &[&str] = match self.adapter {
            AdapterKind::OpenAIResp => &["\"response.failed\"", "\"response.incomplete\""],
            AdapterKind::Gemini => &["\"promptFeedback\"", "\"MALFORMED_FUNCTION_CALL\""],
            _ => return,
        };
        if !marks.iter().any(|mark| data.contains(mark)) {
            return;
        }
        let Ok(frame) = serde_json::from_str::<Value>(data) else {
            return;
        };
        let response = &frame["response"];
        match frame["type"].as_str() {
            Some("response.failed") => seen.failure = Some(json!({ "error": response["error"] })),
            Some("response.incomplete") => {
                seen.filtered = response["incomplete_details"]["reason"] == "content_filter";
            }
            _ => {}
        }
        if let Some(reason) = frame["promptFeedback"]["blockReason"].as_str() {
            let message = format!("the prompt was blocked: {reason}");
            seen.failure = Some(json!({"error": {"code": "prompt_blocked", "message": message}}));
        }
        if frame["candidates"][0]["finishReason"] == "MALFORMED_FUNCTION_CALL" {
            seen.broken = true;
        }
    }
}

impl Seen {
    fn read(&mut self, data: &str) {
        let wants_head = self.id.is_none() || self.model.is_none();
        if !wants_head || self.frames > HEAD_FRAMES {
            self.broken |= serde_json::from_str::<IgnoredAny>(data).is_err();
            return;
        }
        // A frame of another shape than a head is still JSON.
        let Ok(value) = serde_json::from_str::<Value>(data) else {
            self.broken = true;
            return;
        };
        let head: Head = serde_json::from_value(value).unwrap_or_default();
        let inner = head.message.or(head.response).unwrap_or_default();
        self.id = self.id.take().or(inner.id).or(head.id).or(head.response_id);
        let model = inner.model.or(head.model).or(head.model_version);
        self.model = self.model.take().or(model);
    }
}

impl ChatFrameSink for Watch {
    fn on_frame(&self, _context: &FrameCtx, frame: RawFrameRef<'_>) {
        let mut seen = self.seen();
        seen.last = Instant::now();
        seen.frames = seen.frames.saturating_add(1);
        seen.bytes = seen.bytes.saturating_add(frame.data.len());
        if frame.data.is_empty() || frame.data == "[DONE]" {
            return;
        }
        seen.read(frame.data);
        self.look_for_end(&mut seen, frame.data);
    }
}
