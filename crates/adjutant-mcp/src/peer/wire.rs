//! Looks at each message on its way between the library and the transport.

use std::{sync::Arc, time::Duration};

use rmcp::{
    RoleClient,
    model::{
        ClientRequest, ErrorCode, ErrorData, GetExtensions, GetMeta, JsonRpcMessage, RequestId,
        ServerJsonRpcMessage, ServerNotification,
    },
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::tickets::{Ticket, Tickets};

/// A transport that keeps the books: which requests have gone out, whose progress it is, when the other side is gone.
pub(super) struct Wire<T> {
    inner: T,
    tickets: Arc<Tickets>,
    closed: CancellationToken,
    /// How long a server may be silent when asked for the modern revision.
    patience: Duration,
    probe: Option<(RequestId, Instant)>,
    /// The question after whose answer nobody asks any more.
    unanswered: Option<RequestId>,
}

impl<T> Wire<T> {
    pub(super) const fn new(
        inner: T,
        tickets: Arc<Tickets>,
        closed: CancellationToken,
        patience: Duration,
    ) -> Self {
        Self {
            inner,
            tickets,
            closed,
            patience,
            probe: None,
            unanswered: None,
        }
    }

    /// Writes a request into the books.
    fn note(&mut self, message: &TxJsonRpcMessage<RoleClient>) -> Option<Ticket> {
        let JsonRpcMessage::Request(request) = message else {
            return None;
        };
        if let ClientRequest::DiscoverRequest(_) = request.request {
            self.probe = Some((request.id.clone(), Instant::now() + self.patience));
        }
        let ticket = request.request.extensions().get::<Ticket>()?.clone();
        let token = request.request.get_meta().get_progress_token();
        self.tickets.add(&ticket, request.id.clone(), token);
        Some(ticket)
    }

    /// What the library gets to see of a message.
    fn pass(&mut self, message: ServerJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
        let id = match &message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        if let Some(id) = id {
            if self.probe.as_ref().is_some_and(|(probe, _)| probe == id) {
                self.probe = None;
            }
            if self.unanswered.as_ref() == Some(id) {
                return None;
            }
        }
        match message {
            JsonRpcMessage::Notification(notice) => match notice.notification {
                ServerNotification::ProgressNotification(progress) => {
                    self.tickets.progress(progress.params);
                    None
                }
                notification => Some(ServerJsonRpcMessage::notification(notification)),
            },
            other => Some(other),
        }
    }

    /// Silence is an answer too: that of a server which knows only the handshake.
    fn give_up_probe(&mut self) -> Option<ServerJsonRpcMessage> {
        let (id, _) = self.probe.take()?;
        self.unanswered = Some(id.clone());
        let silence = ErrorData::new(
            ErrorCode::METHOD_NOT_FOUND,
            "the server does not answer `server/discover`",
            None,
        );
        Some(ServerJsonRpcMessage::error(silence, Some(id)))
    }
}

impl<T: Transport<RoleClient> + 'static> Transport<RoleClient> for Wire<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let ticket = self.note(&item);
        let sending = self.inner.send(item);
        async move {
            if let Some(ticket) = ticket {
                ticket.set_sent();
            }
            sending.await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let deadline = self.probe.as_ref().map(|(_, deadline)| *deadline);
            let received = match deadline {
                None => self.inner.receive().await,
                Some(deadline) => tokio::select! {
                    biased;
                    received = self.inner.receive() => received,
                    () = tokio::time::sleep_until(deadline) => return self.give_up_probe(),
                },
            };
            let Some(message) = received else {
                self.closed.cancel();
                return None;
            };
            if let Some(message) = self.pass(message) {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.closed.cancel();
        self.inner.close().await
    }
}
