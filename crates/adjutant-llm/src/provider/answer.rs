//! From a stream of events to a whole answer, or none.

use adjutant_core::{FinishReason, Message, ModelDelta, ModelResponse, TokenUsage, ToolCall};
use futures::StreamExt;
use genai::chat::{ChatStream, ChatStreamEvent, MessageContent, StopReason, StreamEnd, Usage};
use tokio::time::{Instant, timeout_at};

use super::{Show, calls::Calls, classify, thinking::Thinking, watch::Watch};
use crate::{MAX_RESPONSE_BYTES, ModelError, ModelErrorKind as Kind, Result, Timeouts};

/// A whole answer.
pub(super) struct Answer {
    text: String,
    reasoning: String,
    content: MessageContent,
    calls: Vec<ToolCall>,
    finish: FinishReason,
    usage: TokenUsage,
}

impl Answer {
    /// Reads the stream to its end.
    pub(super) async fn collect(
        mut stream: ChatStream,
        watch: &Watch,
        timeouts: &Timeouts,
        show: &mut Show<'_, '_>,
    ) -> Result<Self> {
        let deadline = Instant::now() + timeouts.total;
        let mut text = String::new();
        let mut reasoning = String::new();
        let mut calls = Calls::default();
        loop {
            let event = next(&mut stream, watch, timeouts, deadline).await?;
            if watch.bytes() > MAX_RESPONSE_BYTES {
                return Err(too_large());
            }
            match event {
                ChatStreamEvent::Chunk(chunk) => {
                    text.push_str(&chunk.content);
                    show.piece(|| ModelDelta::Text {
                        text: chunk.content,
                    });
                }
                ChatStreamEvent::ReasoningChunk(chunk) => {
                    reasoning.push_str(&chunk.content);
                    show.piece(|| ModelDelta::Reasoning {
                        text: chunk.content,
                    });
                }
                ChatStreamEvent::ToolCallChunk(chunk) => {
                    if let Some(piece) = calls.pieces(&chunk.tool_call) {
                        show.piece(|| piece);
                    }
                }
                ChatStreamEvent::End(end) => {
                    return Self::finish(end, text, reasoning, calls, watch, show);
                }
                ChatStreamEvent::Start
                | ChatStreamEvent::ThoughtSignatureChunk(_)
                | ChatStreamEvent::Heartbeat => {}
            }
        }
    }

    fn finish(
        end: StreamEnd,
        text: String,
        reasoning: String,
        calls: Calls,
        watch: &Watch,
        show: &mut Show<'_, '_>,
    ) -> Result<Self> {
        if let Some(failure) = classify::failure(watch) {
            return Err(failure);
        }
        if watch.is_broken() {
            return Err(broken("part of the answer is no JSON"));
        }
        // Some adapters make an end of their own when the connection ends; it has no reason.
        let Some(stop) = end.captured_stop_reason else {
            return Err(broken("the answer ended before its end"));
        };
        if matches!(stop.raw(), "failed" | "cancelled" | "error") {
            return Err(broken("the provider gave up within the answer"));
        }
        let content = end.captured_content.unwrap_or_default();
        let foreign = content.tool_calls().into_iter().cloned().collect();
        let (calls, unseen) = calls.finish(foreign);
        for piece in unseen {
            show.piece(|| piece);
        }
        Ok(Self {
            finish: finish_reason(&stop, !calls.is_empty(), watch.is_filtered()),
            usage: end
                .captured_usage
                .map(|usage| token_usage(&usage))
                .unwrap_or_default(),
            text,
            reasoning,
            content,
            calls,
        })
    }

    /// The answer of `model`, which is what the request called it.
    pub(super) fn into_response(self, model: &str, watch: &Watch) -> ModelResponse {
        let mut message = Message::assistant(self.text);
        message.tool_calls = self.calls;
        message.metadata = Thinking::of(model, self.reasoning, &self.content).into_metadata();
        ModelResponse {
            message,
            finish_reason: self.finish,
            model: watch.model().unwrap_or_else(|| model.to_owned()),
            usage: self.usage,
            cost_usd: None,
            response_id: watch.id(),
        }
    }
}

fn broken(what: &str) -> ModelError {
    ModelError::new(Kind::Malformed, what).charged()
}

fn too_large() -> ModelError {
    let message = format!("the answer is over {MAX_RESPONSE_BYTES} bytes");
    ModelError::new(Kind::TooLarge, message).charged()
}

/// The next event, if it comes in time. A provider that sends comments to keep the connection counts as alive.
async fn next(
    stream: &mut ChatStream,
    watch: &Watch,
    timeouts: &Timeouts,
    deadline: Instant,
) -> Result<ChatStreamEvent> {
    loop {
        let patience = if watch.has_begun() {
            timeouts.idle
        } else {
            timeouts.first_byte
        };
        let quiet = watch.last();
        match timeout_at((quiet + patience).min(deadline), stream.next()).await {
            Ok(Some(Ok(event))) => return Ok(event),
            Ok(Some(Err(error))) => return Err(classify::error(&error, watch)),
            Ok(None) => return Err(ended(watch)),
            Err(_) if Instant::now() >= deadline => {
                return Err(late("no whole answer", "total", timeouts.total));
            }
            Err(_) if watch.last() > quiet => {}
            Err(_) if watch.has_begun() => {
                return Err(late("nothing more of the answer", "idle", timeouts.idle));
            }
            Err(_) => return Err(late("no answer", "first_byte", timeouts.first_byte)),
        }
    }
}

/// The connection ended without an end of the answer.
fn ended(watch: &Watch) -> ModelError {
    if let Some(failure) = classify::failure(watch) {
        return failure;
    }
    match watch.has_begun() {
        true => broken("the answer ended before its end"),
        false => broken("the answer is no stream of events"),
    }
}

fn late(what: &str, which: &str, time: std::time::Duration) -> ModelError {
    let message = format!("{what} within {time:?} (`timeout.{which}`)");
    ModelError::new(Kind::Timeout, message).charged()
}

fn finish_reason(stop: &StopReason, has_calls: bool, filtered: bool) -> FinishReason {
    match stop {
        _ if filtered => FinishReason::ContentFilter,
        StopReason::MaxTokens(_) => FinishReason::Length,
        StopReason::ContentFilter(_) => FinishReason::ContentFilter,
        // Some providers say that they are done when they want tools.
        _ if has_calls => FinishReason::ToolCalls,
        StopReason::ToolCall(_) => FinishReason::ToolCalls,
        StopReason::Completed(_) | StopReason::StopSequence(_) => FinishReason::Stop,
        StopReason::Other(_) => FinishReason::Other,
    }
}

fn token_usage(usage: &Usage) -> TokenUsage {
    let count = |figure: Option<i32>| figure.and_then(|figure| u64::try_from(figure).ok());
    let sent = usage.prompt_tokens_details.as_ref();
    let received = usage.completion_tokens_details.as_ref();
    let reasoning = received.and_then(|details| count(details.reasoning_tokens));
    TokenUsage {
        input_tokens: count(usage.prompt_tokens).unwrap_or(0),
        output_tokens: count(usage.completion_tokens).or(reasoning).unwrap_or(0),
        cache_read_tokens: sent.and_then(|details| count(details.cached_tokens)),
        cache_write_tokens: sent.and_then(|details| count(details.cache_creation_tokens)),
        reasoning_tokens: reasoning,
    }
}
