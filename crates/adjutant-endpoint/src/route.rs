//! The doors: who may come in, and what is behind each.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use adjutant_core::ModelResponse;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, Request, State as Extract},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures::{Stream, stream};
use serde_json::{Value, json};

use crate::{
    chat::{self, ChatWriter},
    endpoint::{Dialect, EndpointOptions},
    failure::Failure,
    flight::{Flights, Heard, Listener},
    grant::Grants,
    messages::{self, MessagesWriter},
    responses::{self, ResponsesWriter},
    wire::{Asked, Frame, Stamp, Style, Writer},
};

/// Bytes of a request at most: images are sent within it.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// What all doors share.
#[derive(Clone)]
pub struct State {
    pub grants: Arc<Grants>,
    pub options: Arc<EndpointOptions>,
    pub port: u16,
}

/// All doors.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/responses", post(create_response))
        .route("/v1/messages", post(create_message))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .fallback(nothing)
        .layer(from_fn_with_state(state.clone(), only_loopback))
        .with_state(state)
}

/// Refuses requests that a web page made a browser send: their host is a name of the page's own choice.
async fn only_loopback(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let known = ["127.0.0.1", "localhost", "[::1]"];
    if known
        .iter()
        .any(|name| host == format!("{name}:{}", state.port))
    {
        return next.run(request).await;
    }
    let failure = Failure::new(
        403,
        "wrong_host",
        "this endpoint is for its own machine only",
    );
    told(dialect_of(request.uri().path()), &failure)
}

async fn chat_completions(Extract(state): Extract<State>, request: Request) -> Response {
    answer(&state, Dialect::Chat, request).await
}

async fn create_response(Extract(state): Extract<State>, request: Request) -> Response {
    answer(&state, Dialect::Responses, request).await
}

async fn create_message(Extract(state): Extract<State>, request: Request) -> Response {
    answer(&state, Dialect::Messages, request).await
}

async fn nothing(request: Request) -> Response {
    let path = request.uri().path();
    let failure = Failure::new(
        404,
        "not_found",
        format!("there is no {} {path} here", request.method()),
    );
    told(dialect_of(path), &failure)
}

/// Guesses the client from where it went.
fn dialect_of(path: &str) -> Dialect {
    if path.starts_with("/v1/messages") {
        return Dialect::Messages;
    }
    Dialect::Chat
}

async fn models(Extract(state): Extract<State>, headers: HeaderMap) -> Response {
    if let Err(failure) = admit(&state, &headers) {
        return told(Dialect::Chat, &failure);
    }
    let names = &state.options.models;
    let list: Vec<Value> = names.iter().map(|name| model_entry(name)).collect();
    // In both providers' words at once.
    axum::Json(json!({
        "object": "list",
        "data": list,
        "has_more": false,
        "first_id": names.first(),
        "last_id": names.last(),
    }))
    .into_response()
}

async fn model(
    Extract(state): Extract<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Err(failure) = admit(&state, &headers) {
        return told(Dialect::Chat, &failure);
    }
    if !state.options.models.contains(&id) {
        let failure = Failure::new(404, "model_unknown", format!("there is no model `{id}`"));
        return told(Dialect::Chat, &failure);
    }
    axum::Json(model_entry(&id)).into_response()
}

fn model_entry(name: &str) -> Value {
    json!({
        "id": name, "object": "model", "created": 0, "owned_by": "adjutant",
        "type": "model", "display_name": name, "created_at": "1970-01-01T00:00:00Z",
    })
}

/// The attempt in whose name the request comes.
fn admit(state: &State, headers: &HeaderMap) -> Result<Arc<Flights>, Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    [text("x-api-key"), bearer]
        .into_iter()
        .flatten()
        .find_map(|token| state.grants.find(token.trim()))
        .ok_or_else(Failure::unauthorized)
}

async fn answer(state: &State, dialect: Dialect, request: Request) -> Response {
    match listen(state, dialect, request).await {
        Ok(Waiting {
            listener,
            writer,
            stream: false,
        }) => whole(dialect, listener, &*writer).await,
        Ok(waiting) => streamed(dialect, waiting).await,
        Err(failure) => told(dialect, &failure),
    }
}

/// A call that has been begun.
struct Waiting {
    listener: Listener,
    writer: Box<dyn Writer>,
    stream: bool,
}

async fn listen(state: &State, dialect: Dialect, request: Request) -> Result<Waiting, Failure> {
    let (parts, body) = request.into_parts();
    let flights = admit(state, &parts.headers)?;
    let mut asked = read(dialect, &body_of(body).await?)?;
    let model = std::mem::take(&mut asked.request.model);
    asked.request.model = (state.options.names)(dialect, &model);
    let listener = flights.call(asked.request, is_repeat(&parts.headers))?;
    let stamp = Stamp {
        id: listener.id(),
        created: flights.now(),
        model,
    };
    let writer: Box<dyn Writer> = match asked.style {
        Style::Chat { include_usage } => Box::new(ChatWriter::new(stamp, include_usage)),
        Style::Responses { echo } => Box::new(ResponsesWriter::new(stamp, &echo)),
        Style::Messages => Box::new(MessagesWriter::new(stamp)),
    };
    Ok(Waiting {
        listener,
        writer,
        stream: asked.stream,
    })
}

async fn body_of(body: Body) -> Result<Value, Failure> {
    let bytes = to_bytes(body, MAX_BODY).await.map_err(|_| {
        let message = format!("the request is longer than {MAX_BODY} bytes, or was cut off");
        Failure::new(413, "payload_too_large", message)
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::bad_request(format!("the request is not JSON: {error}")))
}

fn read(dialect: Dialect, body: &Value) -> Result<Asked, Failure> {
    match dialect {
        Dialect::Chat => chat::read(body),
        Dialect::Responses => responses::read(body),
        Dialect::Messages => messages::read(body),
    }
}

/// Whether the client's library says that it has sent this request before.
fn is_repeat(headers: &HeaderMap) -> bool {
    let count = headers.get("x-stainless-retry-count");
    let count = count.and_then(|count| count.to_str().ok()?.parse::<u32>().ok());
    count.is_some_and(|count| count > 0)
}

async fn whole(dialect: Dialect, mut listener: Listener, writer: &dyn Writer) -> Response {
    match listener.end().await {
        Ok(response) => axum::Json(writer.whole(&response)).into_response(),
        Err(failure) => told(dialect, &failure),
    }
}

/// A stream that begins with the first piece, so that a failure before it still has a status of its own.
async fn streamed(dialect: Dialect, waiting: Waiting) -> Response {
    let Waiting {
        mut listener,
        mut writer,
        ..
    } = waiting;
    let first = listener.next().await;
    if let Heard::End(Err(failure)) = &first {
        return told(dialect, failure);
    }
    let mut frames = VecDeque::from(writer.begin());
    let mut speech = Speech {
        listener,
        writer,
        over: false,
    };
    frames.extend(speech.say(first));
    let mut response = Sse::new(events(speech, frames))
        .keep_alive(KeepAlive::default())
        .into_response();
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Speech {
    listener: Listener,
    writer: Box<dyn Writer>,
    over: bool,
}

impl Speech {
    fn say(&mut self, heard: Heard) -> Vec<Frame> {
        let pieces = match heard {
            Heard::Pieces(pieces) => pieces,
            Heard::End(end) => return self.conclude(end),
        };
        let pieces = pieces.into_iter();
        pieces.flat_map(|piece| self.writer.piece(piece)).collect()
    }

    fn conclude(&mut self, end: Result<Arc<ModelResponse>, Failure>) -> Vec<Frame> {
        self.over = true;
        match end {
            Ok(response) => self.writer.end(&response),
            Err(failure) => self.writer.fail(&failure),
        }
    }
}

fn events(
    speech: Speech,
    frames: VecDeque<Frame>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((speech, frames), |(mut speech, mut frames)| async move {
        while frames.is_empty() && !speech.over {
            let heard = speech.listener.next().await;
            frames.extend(speech.say(heard));
        }
        let frame = frames.pop_front()?;
        let mut event = Event::default().data(frame.data);
        if let Some(name) = frame.event {
            event = event.event(name);
        }
        Some((Ok(event), (speech, frames)))
    })
}

/// A failure in the client's own words.
fn told(dialect: Dialect, failure: &Failure) -> Response {
    let body = match dialect {
        Dialect::Messages => failure.anthropic(),
        Dialect::Chat | Dialect::Responses => failure.openai(),
    };
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(body)).into_response();
    let headers = response.headers_mut();
    let retry = if failure.retry { "true" } else { "false" };
    headers.insert("x-should-retry", HeaderValue::from_static(retry));
    if let Some(after) = failure.retry_after {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        headers.insert("retry-after-ms", HeaderValue::from(milliseconds));
    }
    response
}
