//! Answers what a server asks of its client.

use std::sync::Arc;

use rmcp::{
    ClientHandler, RoleClient,
    model::{ClientCapabilities, ClientConfig, ErrorCode, ErrorData, Implementation, RequestId},
    service::{InboundStreamOrigin, NotificationContext, RequestContext},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::sync::{Notify, oneshot};

use super::{Asked, PeerEvent, tickets::Tickets};

/// The client's side of one connection.
pub(super) struct Desk {
    pub(super) server: String,
    pub(super) client: Implementation,
    pub(super) roots: Vec<String>,
    pub(super) tickets: Arc<Tickets>,
    /// Told when the server's tools have changed.
    pub(super) changed: Arc<Notify>,
}

impl Desk {
    /// Asks whoever the server's question concerns.
    async fn ask<Q: Serialize + Send, A: DeserializeOwned>(
        &self,
        what: Asked,
        question: Q,
        context: RequestContext<RoleClient>,
    ) -> Result<A, ErrorData> {
        if is_modern(&context) {
            // The stateless revision has no requests of servers; they answer with what they need instead.
            return Err(refused("servers do not send requests in this revision"));
        }
        let origin = context.extensions.get::<InboundStreamOrigin>();
        let id: Option<RequestId> = match origin {
            Some(InboundStreamOrigin::OutboundRequest(id)) => Some(id.clone()),
            _ => None,
        };
        let Some(events) = self.tickets.asked(id.as_ref()) else {
            return Err(refused("no single call under way is meant"));
        };
        let params = serde_json::to_value(question).map_err(|error| broken(&error))?;
        let (reply, answer) = oneshot::channel();
        let event = PeerEvent::Asked {
            what,
            params,
            reply,
        };
        let gone = |()| refused("the call has ended");
        events.send(event).await.map_err(|_| gone(()))?;
        let answer = tokio::select! {
            answer = answer => answer.map_err(|_| gone(()))?,
            () = context.ct.cancelled() => return Err(gone(())),
        };
        let answer = answer.map_err(|why| refused(&why))?;
        serde_json::from_value(answer).map_err(|error| broken(&error))
    }
}

fn is_modern(context: &RequestContext<RoleClient>) -> bool {
    let info = context.peer.peer_info();
    info.is_some_and(|info| !info.protocol_version.has_initialize())
}

fn refused(why: &str) -> ErrorData {
    ErrorData::new(ErrorCode::INVALID_REQUEST, why.to_owned(), None)
}

fn broken(error: &serde_json::Error) -> ErrorData {
    ErrorData::new(ErrorCode::INTERNAL_ERROR, error.to_string(), None)
}

#[expect(
    deprecated,
    reason = "older servers ask for what the newest revision has given up"
)]
mod handler {
    use rmcp::model::{
        CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult,
        ListRootsResult, LoggingMessageNotificationParam, Root,
    };

    use super::*;

    impl ClientHandler for Desk {
        async fn create_message(
            &self,
            params: CreateMessageRequestParams,
            context: RequestContext<RoleClient>,
        ) -> Result<CreateMessageResult, ErrorData> {
            self.ask(Asked::Sample, params, context).await
        }

        async fn create_elicitation(
            &self,
            request: ElicitRequestParams,
            context: RequestContext<RoleClient>,
        ) -> Result<ElicitResult, ErrorData> {
            self.ask(Asked::Elicit, request, context).await
        }

        async fn list_roots(
            &self,
            context: RequestContext<RoleClient>,
        ) -> Result<ListRootsResult, ErrorData> {
            if is_modern(&context) {
                return Err(refused("servers do not send requests in this revision"));
            }
            let roots = self.roots.iter().map(|uri| Root::new(uri.clone()));
            Ok(ListRootsResult::new(roots.collect()))
        }

        async fn on_logging_message(
            &self,
            params: LoggingMessageNotificationParam,
            _context: NotificationContext<RoleClient>,
        ) {
            tracing::debug!(server = self.server, level = ?params.level, "{}", params.data);
        }

        async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
            self.changed.notify_one();
        }

        fn get_info(&self) -> ClientConfig {
            let mut able = json!({ "elicitation": {"form": {}, "url": {}}, "sampling": {} });
            if !self.roots.is_empty() {
                able["roots"] = json!({});
            }
            // What does not read is what a later version of the library calls otherwise: then nothing is offered.
            let able: ClientCapabilities = serde_json::from_value(able).unwrap_or_default();
            ClientConfig::new(able, self.client.clone())
        }
    }
}
