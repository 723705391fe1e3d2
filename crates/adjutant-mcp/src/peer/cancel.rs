//! Tells a server that nobody waits for an answer any more.

use std::sync::Arc;

use rmcp::{
    RoleClient,
    model::{CancelledNotificationParam, RequestId},
    service::Peer,
};
use tokio::runtime::Handle;

use super::tickets::{Ticket, Tickets};

/// Drops a request: forgets it here and, unless it has been answered, tells the server.
pub(super) struct CancelGuard {
    pub(super) tickets: Arc<Tickets>,
    pub(super) ticket: Ticket,
    pub(super) peer: Option<(Peer<RoleClient>, RequestId)>,
}

impl CancelGuard {
    /// The answer is there: there is nothing to tell.
    pub(super) fn answered(&mut self) {
        self.peer = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.tickets.remove(&self.ticket);
        let Some((peer, id)) = self.peer.take() else {
            return;
        };
        let notice = CancelledNotificationParam::new(
            Some(id),
            Some("nobody waits for the answer any more".to_owned()),
        );
        // Ends with the connection at the latest; without a runtime the connection has ended already.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = peer.notify_cancelled(notice).await;
            });
        }
    }
}
