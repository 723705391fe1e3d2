//! A provider that runs here and does as it is told.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::shape::{Answer, error_body, error_event, events};
use crate::Wire;

/// Largest request that is read.
const MAX_REQUEST: usize = 64 << 20;

/// What the provider does with one request.
#[derive(Debug, Clone)]
pub enum Scene {
    /// Answers.
    Answer(Answer),
    /// Ends the answer before its end, as if it were whole.
    EndEarly(Answer),
    /// Breaks the connection within the answer.
    Break(Answer),
    /// Sends something that is no JSON within an answer that is whole otherwise.
    Garbage(Answer),
    /// Begins to answer and tells of an error then.
    ErrorWithin(Answer),
    /// Sends the answer without its end, and then nothing.
    Hang(Answer),
    /// Sends nothing at all.
    Silence,
    /// Sends the answer without its end, and then comments for ever.
    Comments(Answer),
    /// Sends pieces of text for ever.
    Endless,
    /// Sends one event that never ends.
    EndlessEvent,
    /// Answers with some other JSON.
    NoStream,
    /// Fails with this status, and asks for so many seconds of patience.
    Fail(u16, Option<u32>),
    /// Sends the caller elsewhere.
    Redirect(String),
}

/// A request that the provider got.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Value,
}

/// A provider on loopback. It plays its scenes in order, one for each request, and the last one for ever. It ends with
/// this value.
pub struct FakeProvider {
    address: String,
    stage: Arc<Stage>,
    server: JoinHandle<()>,
}

struct Stage {
    wire: Wire,
    scenes: Mutex<VecDeque<Scene>>,
    heard: Mutex<Vec<Heard>>,
    /// Answers whose connection ended.
    closed: watch::Sender<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeProvider {
    /// Starts a provider that speaks `wire` and plays these scenes.
    ///
    /// # Errors
    /// When no port of loopback can be had.
    pub async fn start(
        wire: Wire,
        scenes: impl IntoIterator<Item = Scene> + Send,
    ) -> io::Result<Self> {
        let stage = Arc::new(Stage {
            wire,
            scenes: Mutex::new(scenes.into_iter().collect()),
            heard: Mutex::default(),
            closed: watch::Sender::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let router = Router::new().fallback(play).with_state(stage.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Ok(Self {
            address,
            stage,
            server,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What it was asked so far.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        lock(&self.stage.heard).clone()
    }

    /// Returns when the connections of so many answers have ended.
    pub async fn closed(&self, count: usize) {
        let mut closed = self.stage.closed.subscribe();
        let _sender_lives = closed.wait_for(|closed| *closed >= count).await;
    }
}

impl Drop for FakeProvider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Tells when it is dropped.
struct Open(Arc<Stage>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.send_modify(|closed| *closed += 1);
    }
}

async fn play(State(stage): State<Arc<Stage>>, request: Request) -> Response {
    let open = Open(stage.clone());
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_REQUEST).await.unwrap();
    lock(&stage.heard).push(Heard {
        path: head.uri.to_string(),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let scene = {
        let mut scenes = lock(&stage.scenes);
        match scenes.len() {
            0 | 1 => scenes.front().cloned().unwrap_or(Scene::NoStream),
            _ => scenes.pop_front().unwrap_or(Scene::NoStream),
        }
    };
    perform(stage.wire, scene, open).await
}

async fn perform(wire: Wire, scene: Scene, open: Open) -> Response {
    match scene {
        Scene::Answer(answer) => {
            let events = events(wire, &answer);
            sse(
                stream::iter(whole([events.body, events.end].concat())),
                open,
            )
        }
        Scene::EndEarly(answer) => sse(stream::iter(whole(events(wire, &answer).body)), open),
        Scene::Break(answer) => {
            let sent = whole(events(wire, &answer).body);
            let broken = Err(io::Error::other("broken on purpose"));
            sse(stream::iter(sent).chain(stream::iter([broken])), open)
        }
        Scene::Garbage(answer) => {
            let mut events = events(wire, &answer);
            events.body.push("data: {\"half\":\n\n".to_owned());
            sse(
                stream::iter(whole([events.body, events.end].concat())),
                open,
            )
        }
        Scene::ErrorWithin(answer) => {
            let mut events = events(wire, &answer).body;
            events.push(error_event(wire));
            sse(stream::iter(whole(events)), open)
        }
        Scene::Hang(answer) => {
            let sent = stream::iter(whole(events(wire, &answer).body));
            sse(sent.chain(stream::pending()), open)
        }
        Scene::Comments(answer) => {
            let sent = stream::iter(whole(events(wire, &answer).body));
            sse(sent.chain(comments()), open)
        }
        Scene::Endless => sse(endless(wire), open),
        Scene::EndlessEvent => {
            let begin = stream::iter([Ok(Bytes::from_static(b"data: \""))]);
            let more = stream::repeat_with(|| Ok(Bytes::from_static(b"xxxxxxxxxxxxxxxx")));
            sse(begin.chain(more.then(slowly)), open)
        }
        Scene::Silence => {
            std::future::pending::<Infallible>().await;
            drop(open);
            StatusCode::OK.into_response()
        }
        Scene::NoStream => axum::Json(serde_json::json!({"hello": "world"})).into_response(),
        Scene::Fail(status, after) => {
            let body = axum::Json(error_body(wire, status));
            let status = StatusCode::from_u16(status).unwrap();
            match after {
                Some(after) => {
                    (status, [(header::RETRY_AFTER, after.to_string())], body).into_response()
                }
                None => (status, body).into_response(),
            }
        }
        Scene::Redirect(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
        }
    }
}

type Piece = Result<Bytes, io::Error>;

fn whole(events: Vec<String>) -> Vec<Piece> {
    events
        .into_iter()
        .map(|event| Ok(Bytes::from(event)))
        .collect()
}

async fn slowly(piece: Piece) -> Piece {
    tokio::time::sleep(Duration::from_millis(5)).await;
    piece
}

fn comments() -> impl Stream<Item = Piece> + Send {
    stream::repeat_with(|| Ok(Bytes::from_static(b": still here\n\n"))).then(slowly)
}

/// A hundred thousand letters a piece.
fn endless(wire: Wire) -> impl Stream<Item = Piece> + Send {
    let answer = Answer::text(&[&"x".repeat(100_000)]);
    let body = events(wire, &answer).body;
    let piece = body.iter().position(|event| event.contains("xxx"));
    let (head, rest) = body.split_at(piece.unwrap_or(0));
    let head: Vec<Piece> = whole(head.to_vec());
    let piece = Bytes::from(rest.first().cloned().unwrap_or_default());
    stream::iter(head).chain(stream::repeat_with(move || Ok(piece.clone())))
}

fn sse(pieces: impl Stream<Item = Piece> + Send + 'static, open: Open) -> Response {
    let pieces = pieces.map(move |piece| {
        let _held_as_long_as_the_body = &open;
        piece
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::from_stream(pieces)).into_response()
}
