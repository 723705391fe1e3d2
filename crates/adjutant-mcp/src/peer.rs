//! The other end of a connection, and nothing of the library that speaks with it.

mod cancel;
mod desk;
mod http;
mod process;
mod rmcp;
mod stderr;
mod tickets;
mod width;
mod wire;

use std::sync::{Arc, atomic::AtomicBool};

use adjutant_tools::{InputResume, Progress, Reply};
use async_trait::async_trait;
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    http::{challenge, client_secret, reach},
    process::{Launch, launch},
    rmcp::{Dial, Mode, RmcpPeer, StartError, chain},
    stderr::Stderr,
};

/// Events of a call that wait to be heard; progress beyond that is left out.
pub(crate) const MAX_WAITING_EVENTS: usize = 64;

/// Which revisions of the protocol a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Era {
    /// Stateless: each request stands alone (2026-07-28 and later).
    Modern,
    /// With a handshake (2024-11-05 to 2025-11-25).
    Legacy,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeerInfo {
    /// Which revisions it speaks.
    pub era: Era,
    /// The revision that was agreed on.
    pub revision: String,
    /// Its name and version, where it tells.
    pub server: Option<String>,
    /// How to use it, for models.
    pub instructions: Option<String>,
    /// Its process, where it is one of ours.
    pub pid: Option<u32>,
    /// Whether it has tools.
    pub tools: bool,
    /// Whether it has resources.
    pub resources: bool,
    /// Whether it has prompts.
    pub prompts: bool,
}

/// One live server. Contract:
///
/// - Requests may be sent at any time and are answered in any order.
/// - Dropping a [`Pending`] tells the server that nobody waits any more.
/// - Once `closed` is cancelled, all answers that will ever come have come.
#[async_trait]
pub(crate) trait McpPeer: Send + Sync {
    /// What it says of itself.
    fn info(&self) -> &PeerInfo;

    /// Sends a request.
    async fn send(&self, ask: Ask) -> Result<Pending, PeerError>;

    /// Cancelled when it is gone.
    fn closed(&self) -> &CancellationToken;

    /// Why it is gone, for operators.
    async fn why(&self) -> String;

    /// Ends it: closes its input, asks, then kills. Returns whether something may be left of it.
    async fn end(&self) -> Ending;
}

/// How a server was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing is left.
    Clean,
    /// Something may be left.
    Survivors,
}

/// A request.
pub(crate) struct Ask {
    pub(crate) what: What,
    /// What goes into `_meta`.
    pub(crate) meta: Vec<(&'static str, String)>,
    /// Who hears what happens before the answer.
    pub(crate) events: Option<mpsc::Sender<PeerEvent>>,
}

/// What is asked.
pub(crate) enum What {
    /// `tools/call`.
    Call {
        tool: String,
        arguments: Map<String, Value>,
        resume: Option<InputResume>,
    },
    /// Anything else.
    Other { method: &'static str, params: Value },
}

/// What happens before an answer.
pub(crate) enum PeerEvent {
    /// The call is so far.
    Progress(Progress),
    /// The server wants to know something first.
    Asked {
        what: Asked,
        params: Value,
        reply: oneshot::Sender<Result<Value, String>>,
    },
    /// The answer came and was longer than is read.
    TooLong,
}

/// What a server may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Sample,
    Elicit,
}

/// A request under way.
pub(crate) struct Pending {
    pub(crate) answer: BoxFuture<'static, Result<Answer, PeerError>>,
    /// Whether the server may have it by now.
    pub(crate) sent: Arc<AtomicBool>,
}

/// An answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Of a tool.
    Tool(Reply),
    /// The result as the protocol has it.
    Json(Value),
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PeerError {
    /// The server went away; `sent` if it may have the request.
    #[error("{why}")]
    Lost { sent: bool, why: String },
    /// The server says no.
    #[error("{message} ({code})")]
    Refused { code: i32, message: String },
    /// What came is no answer.
    #[error("{0}")]
    Nonsense(String),
}

/// Status codes of HTTP, which no code of the protocol's equals: the server wants a token, or one that allows more.
pub(crate) const UNAUTHORIZED: i32 = 401;
pub(crate) const FORBIDDEN: i32 = 403;

impl PeerError {
    /// Whether nothing helps but that somebody logs in.
    pub(crate) const fn wants_login(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: UNAUTHORIZED | FORBIDDEN,
                ..
            }
        )
    }
}
