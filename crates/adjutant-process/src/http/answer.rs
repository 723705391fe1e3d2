//! From an answer of the agent's server to the run's result.

use std::time::Duration;

use adjutant_core::{AgentError, ErrorInfo, EventType, Json, RunContext, RunResult};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    StatusCode,
    body::Body,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use serde_json::{Value, json};
use sse_stream::SseStream;
use tokio::time::{Instant, sleep_until};

use super::server::Reply;
use crate::units::ByteSize;

/// More of what a refusing server says is not kept.
const MAX_REFUSAL: usize = 8 * 1024;

/// Pieces of text that come within this time, or until there are so many bytes, make one event.
const GATHER: Duration = Duration::from_millis(100);
const GATHER_BYTES: usize = 4096;

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Reads the whole answer.
pub(super) async fn read(
    ctx: &RunContext,
    limit: ByteSize,
    reply: Reply,
) -> Result<RunResult, AgentError> {
    let Reply {
        response,
        connection: _moves_the_bytes,
    } = reply;
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let body = Limited::new(body, MAX_REFUSAL).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        return Err(refused(head.status, &head.headers, &body));
    }
    let body = Limited::new(body, limit.0).map_err(Broken);
    let kind = kind(&head.headers);
    if kind == "text/event-stream" {
        return stream(ctx, limit, SseStream::new(body)).await;
    }
    let body = body
        .collect()
        .await
        .map_err(|error| broken(&error, limit))?;
    whole(kind, &body.to_bytes()).map(RunResult::output)
}

/// The media type without its parameters.
fn kind(headers: &HeaderMap) -> &str {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .unwrap_or_default()
        .trim()
}

fn whole(kind: &str, body: &[u8]) -> Result<Json, AgentError> {
    let is_json = kind.ends_with("/json") || kind.ends_with("+json");
    if is_json && !body.is_empty() {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            let why = format!("the agent's answer says that it is JSON, and is not: {error}");
            AgentError::permanent("protocol_error", why)
        })?;
        return Ok(value.into());
    }
    Ok(match body {
        [] => Json::null(),
        text => Json::from(&*String::from_utf8_lossy(text)),
    })
}

/// What a stream has told so far.
#[derive(Debug, Default)]
struct Story {
    /// Pieces of text since the last event.
    pending: String,
    text: String,
    values: Vec<Value>,
    result: Option<Value>,
}

impl Story {
    /// Takes in an event of the stream.
    fn hear(&mut self, event: &str, data: &str) -> Result<(), AgentError> {
        let value: Value = serde_json::from_str(data).unwrap_or_else(|_| data.into());
        let is = |name: &str| event == name || value.get("type").is_some_and(|kind| kind == name);
        if is("error") {
            return Err(failed(&value).into());
        }
        if is("result") {
            self.result = Some(value.get("output").cloned().unwrap_or(value));
            return Ok(());
        }
        match piece(&value) {
            Some(piece) => {
                self.pending.push_str(piece);
                self.text.push_str(piece);
            }
            None => self.values.push(value),
        }
        Ok(())
    }

    /// The result: what was called so, or all text, or all values.
    fn end(self) -> Value {
        match self.result {
            Some(result) => result,
            None if !self.text.is_empty() => self.text.into(),
            None => match <[Value; 1]>::try_from(self.values) {
                Ok([only]) => only,
                Err(values) if values.is_empty() => Value::Null,
                Err(values) => values.into(),
            },
        }
    }
}

/// The text in one event: a bare string, or the usual fields.
fn piece(value: &Value) -> Option<&str> {
    let fields = || {
        ["delta", "text", "content", "data"]
            .iter()
            .find_map(|name| value.get(name))
    };
    value.as_str().or_else(|| fields()?.as_str())
}

async fn stream<B>(
    ctx: &RunContext,
    limit: ByteSize,
    mut events: SseStream<B>,
) -> Result<RunResult, AgentError>
where
    B: Body<Data = Bytes, Error = Broken> + Unpin,
{
    let mut story = Story::default();
    let mut due: Option<Instant> = None;
    loop {
        let next = tokio::select! {
            next = events.next() => next,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                due = None;
                pass_on(ctx, &mut story.pending).await?;
                continue;
            }
        };
        let Some(event) = next else { break };
        let event = event.map_err(|error| broken(&error, limit))?;
        let Some(data) = event.data else { continue };
        story.hear(event.event.as_deref().unwrap_or_default(), &data)?;
        if story.pending.len() >= GATHER_BYTES {
            due = None;
            pass_on(ctx, &mut story.pending).await?;
        } else if !story.pending.is_empty() {
            due = due.or_else(|| Some(Instant::now() + GATHER));
        }
    }
    pass_on(ctx, &mut story.pending).await?;
    Ok(RunResult::output(Json::from(story.end())))
}

async fn pass_on(ctx: &RunContext, pending: &mut String) -> Result<(), AgentError> {
    if !pending.is_empty() {
        let text = std::mem::take(pending);
        ctx.emit(EventType::AssistantDelta, json!({ "text": text }))
            .await?;
    }
    Ok(())
}

/// The answer broke off, or was too long.
fn broken(error: &(dyn std::error::Error + 'static), limit: ByteSize) -> AgentError {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if inner.is::<LengthLimitError>() {
            let why = format!("the answer is longer than `max_output_bytes`, which is {limit}");
            return AgentError::permanent("output_too_large", why);
        }
        cause = inner.source();
    }
    AgentError::retriable(
        "agent_unreachable",
        format!("the agent's answer broke off: {error}"),
    )
}

/// The server answered, but not with success.
fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> AgentError {
    let told: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = || String::from_utf8_lossy(body).trim().to_owned();
    let why = message(&told).map_or_else(text, str::to_owned);
    let why = format!("the agent's server answered with {status}: {why}");
    let passes = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    let info = match passes {
        true => ErrorInfo::retriable("http_status", why),
        false => ErrorInfo::permanent("http_status", why),
    };
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let details = json!({ "status": status.as_u16(), "retry_after": retry_after, "body": told });
    info.with_details(details).into()
}

/// The stream told of an error.
fn failed(value: &Value) -> ErrorInfo {
    let retriable = value
        .get("retriable")
        .and_then(Value::as_bool)
        .unwrap_or(true);
    let why = message(value)
        .or_else(|| value.as_str())
        .unwrap_or("the agent told of an error");
    let info = match retriable {
        true => ErrorInfo::retriable("agent_failed", why),
        false => ErrorInfo::permanent("agent_failed", why),
    };
    info.with_details(value.clone())
}

/// What the usual shapes of errors say.
fn message(value: &Value) -> Option<&str> {
    let direct = ["message", "detail", "error", "title"];
    let found = direct.iter().find_map(|name| value.get(name)?.as_str());
    found.or_else(|| value.get("error")?.get("message")?.as_str())
}
