//! Requests to the agent's server.

use std::{fmt, io, net::Ipv4Addr};

use adjutant_core::AgentError;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{ACCEPT, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// Longer answers to `/ping` are not read.
const MAX_PING: usize = 64 * 1024;

/// What an agent can answer with.
const ACCEPTED: &str = "application/json, text/event-stream, text/plain";

/// The agent's server.
pub(super) struct Server {
    port: u16,
}

/// How the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It takes requests, or is busy with one.
    Up,
    /// It answers, but not that it is well.
    Unwell,
    /// It does not answer.
    Silent,
}

/// An answer whose body is still on its way.
pub(super) struct Reply {
    pub response: Response<Incoming>,
    /// Moves the bytes.
    pub connection: AbortOnDropHandle<()>,
}

#[derive(Deserialize)]
struct Pong {
    status: String,
}

impl Server {
    pub(super) const fn on(port: u16) -> Self {
        Self { port }
    }

    async fn connect(&self) -> io::Result<(SendRequest<Full<Bytes>>, AbortOnDropHandle<()>)> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let moving = tokio::spawn(async move {
            // Whoever reads the body is told of what goes wrong.
            let _ = connection.await;
        });
        Ok((sender, AbortOnDropHandle::new(moving)))
    }

    async fn send(&self, request: hyper::http::Result<Request<Full<Bytes>>>) -> io::Result<Reply> {
        let request = request.map_err(io::Error::other)?;
        let (mut sender, connection) = self.connect().await?;
        let response = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        Ok(Reply {
            response,
            connection,
        })
    }

    /// Asks how it is.
    pub(super) async fn ping(&self) -> Health {
        let request = Request::get("/ping")
            .header(HOST, self.to_string())
            .body(Full::default());
        let Ok(reply) = self.send(request).await else {
            return Health::Silent;
        };
        let (head, body) = reply.response.into_parts();
        let Ok(body) = Limited::new(body, MAX_PING).collect().await else {
            return Health::Silent;
        };
        // A body that says nothing of its health is as good as none.
        let says_well = serde_json::from_slice::<Pong>(&body.to_bytes()).map_or(true, |pong| {
            pong.status.to_ascii_lowercase().starts_with("healthy")
        });
        match head.status.is_success() && says_well {
            true => Health::Up,
            false => Health::Unwell,
        }
    }

    /// Gives it a run. The answer's head comes when the agent begins to answer.
    pub(super) async fn invoke(
        &self,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Result<Reply, AgentError> {
        let mut request = Request::post("/invocations")
            .header(HOST, self.to_string())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, ACCEPTED);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let sent = self.send(request.body(Full::new(body.into()))).await;
        sent.map_err(|error| unreachable(self, &error))
    }
}

fn unreachable(server: &Server, error: &io::Error) -> AgentError {
    let why = format!("the agent's server on {server} did not answer `POST /invocations`: {error}");
    AgentError::retriable("agent_unreachable", why)
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "127.0.0.1:{}", self.port)
    }
}
