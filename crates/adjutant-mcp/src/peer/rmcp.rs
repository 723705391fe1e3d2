//! The official library as a peer.

use std::{sync::Arc, time::Duration};

use adjutant_core::ToolAnswer;
use adjutant_tools::Reply;
use async_trait::async_trait;
use futures::future::BoxFuture;
use rmcp::{
    RoleClient,
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ErrorCode,
        Implementation, InputRequiredResult, ProtocolVersion, RequestMetaObject, ServerPeerInfo,
        ServerResult, SubscriptionFilter,
    },
    service::{
        ClientInitializeError, ClientLifecycleMode, ClientServiceExt, Peer, PeerRequestOptions,
        RunningService, ServiceError,
    },
    transport::Transport,
};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Ask, Ending, Era, McpPeer, PeerError, PeerInfo, Pending, What,
    cancel::CancelGuard,
    desk::Desk,
    process::{Keeper, Launched},
    tickets::{Ticket, Tickets},
    wire::Wire,
};
use crate::oauth::Access;

/// How long the library gets to end its task.
const CLOSE: Duration = Duration::from_secs(2);

/// Time between two tries to hear of changes.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// How often it is tried; a server whose streams end so often has nothing to tell.
const LISTENS: usize = 100;

/// How to begin to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Ask for the modern revision first; silence for so long means that there is only the handshake.
    Probe(Duration),
    /// With the handshake.
    Handshake,
}

/// Whom to greet, and as whom.
pub(crate) struct Dial {
    pub(crate) server: String,
    pub(crate) access: Access,
    pub(crate) client: (String, String),
    pub(crate) roots: Vec<String>,
    pub(crate) mode: Mode,
    /// Told when the server's tools have changed.
    pub(crate) changed: Arc<Notify>,
}

/// A server that was reached but could not be spoken with.
#[derive(Debug, Clone)]
pub(crate) struct StartError {
    pub(crate) why: String,
    /// Whether it will be the same the next time.
    pub(crate) lasting: bool,
    /// How to begin the next time, where it may be the beginning that it did not take.
    pub(crate) next: Option<Mode>,
}

/// How long a server may be silent that is known to be slow.
const LONG: Duration = Duration::from_secs(15);

impl Mode {
    /// What to try after this failed: some servers leave when they are asked what they do not know, others are slow.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Probe(_) => Self::Handshake,
            Self::Handshake => Self::Probe(LONG),
        }
    }
}

pub(crate) struct RmcpPeer {
    peer: Peer<RoleClient>,
    service: Mutex<Option<RunningService<RoleClient, Desk>>>,
    tickets: Arc<Tickets>,
    closed: CancellationToken,
    info: PeerInfo,
    keeper: Option<Keeper>,
    access: Access,
}

impl Dial {
    /// Speaks with a process.
    pub(crate) async fn process(self, launched: Launched) -> Result<RmcpPeer, StartError> {
        let Launched {
            pipes,
            keeper,
            tickets,
            closed,
            observer,
        } = launched;
        let line = (tickets, closed);
        match self.greet(pipes, line, Some(keeper.pid)).await {
            Ok(peer) => {
                observer.ready();
                Ok(RmcpPeer {
                    keeper: Some(keeper),
                    ..peer
                })
            }
            Err(error) => {
                let how = keeper.how().await;
                Err(StartError {
                    why: how.map_or(error.why.clone(), |how| format!("{}: {how}", error.why)),
                    ..error
                })
            }
        }
    }

    /// Speaks through a transport.
    pub(super) async fn greet<T: Transport<RoleClient> + 'static>(
        self,
        transport: T,
        (tickets, closed): (Arc<Tickets>, CancellationToken),
        pid: Option<u32>,
    ) -> Result<RmcpPeer, StartError> {
        let (name, version) = self.client;
        let access = self.access;
        let desk = Desk {
            server: self.server,
            client: Implementation::new(name, version),
            roots: self.roots,
            tickets: Arc::clone(&tickets),
            changed: Arc::clone(&self.changed),
        };
        let (lifecycle, patience) = match self.mode {
            Mode::Handshake => (ClientLifecycleMode::Initialize, CLOSE),
            Mode::Probe(patience) => {
                let modern = ClientLifecycleMode::Auto {
                    preferred_versions: vec![ProtocolVersion::V_2026_07_28],
                    legacy_version: Some(ProtocolVersion::V_2025_11_25),
                };
                (modern, patience)
            }
        };
        let wire = Wire::new(transport, Arc::clone(&tickets), closed.clone(), patience);
        // Boxed because the library's future is too general for the compiler to see that it may be sent.
        let greeting: BoxFuture<'static, Result<_, ClientInitializeError>> =
            Box::pin(desk.serve_with_lifecycle(wire, lifecycle));
        let greeted = greeting.await;
        let service = greeted.map_err(|error| start_error(&error, self.mode, &access))?;
        let peer = service.peer().clone();
        let info = info(peer.peer_info().as_deref(), pid);
        if info.era == Era::Modern && info.tools {
            // Ends with the connection.
            tokio::spawn(listen(peer.clone(), self.changed, closed.clone()));
        }
        Ok(RmcpPeer {
            peer,
            service: Mutex::new(Some(service)),
            tickets,
            closed,
            info,
            keeper: None,
            access,
        })
    }
}

fn start_error(error: &ClientInitializeError, mode: Mode, access: &Access) -> StartError {
    let refused = super::http::refusal(error, access);
    let lasting = refused.is_some()
        || matches!(
            error,
            ClientInitializeError::NoCompatibleProtocolVersion { .. }
        );
    StartError {
        why: refused.map_or_else(|| chain(error), |(_, why)| why),
        lasting,
        next: Some(if is_slow(error) {
            Mode::Probe(LONG)
        } else {
            mode.other()
        }),
    }
}

/// Whether a server is of the modern revision after all, and was only too slow to say so before it was greeted otherwise.
fn is_slow(error: &ClientInitializeError) -> bool {
    let ClientInitializeError::LegacyFallbackFailed { fallback, .. } = error else {
        return false;
    };
    let ClientInitializeError::JsonRpcError(error) = &**fallback else {
        return false;
    };
    error.code == ErrorCode::UNSUPPORTED_PROTOCOL_VERSION
}

/// An error with everything below it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

fn info(peer: Option<&ServerPeerInfo>, pid: Option<u32>) -> PeerInfo {
    let version = peer.map(|info| info.protocol_version.clone());
    let modern = version
        .as_ref()
        .is_some_and(|version| !version.has_initialize());
    let able = peer.map(|info| &info.capabilities);
    let server = peer.and_then(|info| info.server_info.as_ref());
    PeerInfo {
        era: if modern { Era::Modern } else { Era::Legacy },
        revision: version
            .map(|version| version.to_string())
            .unwrap_or_default(),
        server: server.map(|server| format!("{} {}", server.name, server.version)),
        instructions: peer.and_then(|info| info.instructions.clone()),
        pid,
        tools: able.is_some_and(|able| able.tools.is_some()),
        resources: able.is_some_and(|able| able.resources.is_some()),
        prompts: able.is_some_and(|able| able.prompts.is_some()),
    }
}

/// Hears of changes of the tools, for as long as the connection lasts.
async fn listen(peer: Peer<RoleClient>, changed: Arc<Notify>, closed: CancellationToken) {
    let hear = async {
        for _ in 0..LISTENS {
            let filter = SubscriptionFilter::builder().tools_list_changed().build();
            match peer.listen(filter).await {
                Ok(mut subscription) => {
                    while let Ok(Some(_)) = subscription.next().await {
                        changed.notify_one();
                    }
                }
                // It has nothing to tell.
                Err(ServiceError::McpError(_)) => return,
                Err(_) => {}
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    };
    tokio::select! {
        () = hear => {}
        () = closed.cancelled() => {}
    }
}

#[async_trait]
impl McpPeer for RmcpPeer {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    async fn send(&self, ask: Ask) -> Result<Pending, PeerError> {
        let ticket = Ticket::new(ask.events);
        let request = request(ask.what, ticket.clone())?;
        let mut options = PeerRequestOptions::no_options();
        if !ask.meta.is_empty() {
            let mut meta = RequestMetaObject::new();
            for (key, value) in ask.meta {
                meta.insert(key.to_owned(), Value::String(value));
            }
            options = options.with_meta(meta);
        }
        let mut guard = CancelGuard {
            tickets: Arc::clone(&self.tickets),
            ticket: ticket.clone(),
            peer: None,
        };
        let handed = self.peer.send_request_with_option(request, options).await;
        let handle = handed.map_err(|error| peer_error(error, false, &self.access))?;
        guard.peer = Some((self.peer.clone(), handle.id));
        let answered = handle.rx;
        let sent = ticket.watch_sent();
        let closed = self.closed.clone();
        let access = self.access.clone();
        let answer = async move {
            let mut guard = guard;
            let lost = |ticket: &Ticket| PeerError::Lost {
                sent: ticket.sent(),
                why: "the connection ended".to_owned(),
            };
            let answered = tokio::select! {
                biased;
                answered = answered => answered.ok(),
                // All answers that came have been given out by then, or are about to be: see `settle`.
                () = closed.cancelled() => None,
            };
            guard.answered();
            match answered {
                Some(Ok(result)) => Ok(answer(result)),
                Some(Err(error)) => Err(peer_error(error, ticket.sent(), &access)),
                None => Err(lost(&ticket)),
            }
        };
        Ok(Pending {
            answer: Box::pin(answer),
            sent,
        })
    }

    fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    async fn why(&self) -> String {
        let how = match &self.keeper {
            Some(keeper) => keeper.how().await,
            None => None,
        };
        how.unwrap_or_else(|| "the connection ended".to_owned())
    }

    async fn end(&self) -> Ending {
        if let Some(mut service) = self.service.lock().await.take() {
            // Closes its input.
            let _ = service.close_with_timeout(CLOSE).await;
        }
        match &self.keeper {
            Some(keeper) => keeper.stop().await,
            None => Ending::Clean,
        }
    }
}

fn request(what: What, ticket: Ticket) -> Result<ClientRequest, PeerError> {
    match what {
        What::Call {
            tool,
            arguments,
            resume,
        } => {
            let mut params = CallToolRequestParams::new(tool).with_arguments(arguments);
            if let Some(resume) = resume {
                params.input_responses = Some(resume.responses.into_iter().collect());
                params.request_state = match resume.state {
                    Some(Value::String(state)) => Some(state),
                    Some(other) => Some(other.to_string()),
                    None => None,
                };
            }
            let mut request = CallToolRequest::new(params);
            request.extensions.insert(ticket);
            Ok(ClientRequest::CallToolRequest(request))
        }
        What::Other { method, params } => {
            use rmcp::model::GetExtensions;
            let message = json!({ "method": method, "params": params });
            let read: Result<ClientRequest, _> = serde_json::from_value(message);
            let mut request = read.map_err(|error| {
                PeerError::Nonsense(format!("`{method}` with these parameters: {error}"))
            })?;
            request.extensions_mut().insert(ticket);
            Ok(request)
        }
    }
}

fn answer(result: ServerResult) -> Answer {
    match result {
        ServerResult::CallToolResult(result) => Answer::Tool(Reply::Answer(tool_answer(result))),
        ServerResult::InputRequiredResult(result) => Answer::Tool(input_required(result)),
        other => Answer::Json(serde_json::to_value(other).unwrap_or_default()),
    }
}

fn tool_answer(result: CallToolResult) -> ToolAnswer {
    let block = |block| serde_json::to_value(block).unwrap_or_default();
    ToolAnswer {
        content: result.content.into_iter().map(block).collect(),
        structured_content: result.structured_content,
        is_error: result.is_error.unwrap_or_default(),
    }
}

fn input_required(result: InputRequiredResult) -> Reply {
    let requests = serde_json::to_value(result.input_requests);
    let requests: Map<String, Value> = match requests {
        Ok(Value::Object(requests)) => requests,
        _ => Map::new(),
    };
    Reply::InputRequired {
        requests,
        state: result.request_state.map(Value::String),
    }
}

fn peer_error(error: ServiceError, sent: bool, access: &Access) -> PeerError {
    if let Some((code, message)) = super::http::refusal(&error, access) {
        return PeerError::Refused { code, message };
    }
    match error {
        ServiceError::McpError(error) => PeerError::Refused {
            code: error.code.0,
            message: error.message.into_owned(),
        },
        ServiceError::TransportSend(error) => PeerError::Lost {
            sent: sent && super::http::may_have_arrived(&*error.error),
            why: chain(&error),
        },
        ServiceError::TransportClosed => PeerError::Lost {
            sent,
            why: "the connection ended".to_owned(),
        },
        other => PeerError::Nonsense(chain(&other)),
    }
}
