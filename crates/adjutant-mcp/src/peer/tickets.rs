//! The requests of one connection that are under way, found by the numbers that they have on the wire.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use adjutant_tools::Progress;
use rmcp::model::{ProgressNotificationParam, ProgressToken, RequestId};
use tokio::sync::mpsc;

use super::PeerEvent;

/// One request under way. Travels with it through the library, unseen on the wire.
#[derive(Clone)]
pub(super) struct Ticket(Arc<Inner>);

struct Inner {
    sent: Arc<AtomicBool>,
    events: Option<mpsc::Sender<PeerEvent>>,
    /// Set when the request is given to the wire.
    numbers: Mutex<Option<(RequestId, Option<ProgressToken>)>>,
}

impl Ticket {
    pub(super) fn new(events: Option<mpsc::Sender<PeerEvent>>) -> Self {
        Self(Arc::new(Inner {
            sent: Arc::default(),
            events,
            numbers: Mutex::new(None),
        }))
    }

    /// The server may have it from now on.
    pub(super) fn set_sent(&self) {
        self.0.sent.store(true, Ordering::Release);
    }

    pub(super) fn sent(&self) -> bool {
        self.0.sent.load(Ordering::Acquire)
    }

    /// The same, to be looked at later.
    pub(super) fn watch_sent(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.sent)
    }

    fn tell(&self, event: PeerEvent) {
        if let Some(events) = &self.0.events {
            // Progress is worth less than the call: what nobody hears in time is left out.
            let _ = events.try_send(event);
        }
    }
}

/// All requests of one connection that are under way.
#[derive(Default)]
pub(super) struct Tickets {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    by_id: HashMap<RequestId, Ticket>,
    by_token: HashMap<ProgressToken, RequestId>,
}

impl Tickets {
    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a request by its numbers, before it is sent.
    pub(super) fn add(&self, ticket: &Ticket, id: RequestId, token: Option<ProgressToken>) {
        let mut open = self.open();
        if let Some(token) = &token {
            open.by_token.insert(token.clone(), id.clone());
        }
        open.by_id.insert(id.clone(), ticket.clone());
        drop(open);
        let numbers = ticket.0.numbers.lock();
        *numbers.unwrap_or_else(PoisonError::into_inner) = Some((id, token));
    }

    /// Forgets a request that is over.
    pub(super) fn remove(&self, ticket: &Ticket) {
        let numbers = ticket.0.numbers.lock();
        let numbers = numbers.unwrap_or_else(PoisonError::into_inner).take();
        if let Some((id, token)) = numbers {
            let mut open = self.open();
            open.by_id.remove(&id);
            if let Some(token) = token {
                open.by_token.remove(&token);
            }
        }
    }

    /// Passes progress on to its request; in order, because the wire calls this.
    pub(super) fn progress(&self, notice: ProgressNotificationParam) {
        let ticket = {
            let open = self.open();
            let id = open.by_token.get(&notice.progress_token);
            id.and_then(|id| open.by_id.get(id)).cloned()
        };
        if let Some(ticket) = ticket {
            ticket.tell(PeerEvent::Progress(Progress {
                progress: notice.progress,
                total: notice.total,
                message: notice.message,
            }));
        }
    }

    /// Tells a request that its answer was too long to be read.
    pub(super) fn too_long(&self, id: &RequestId) {
        let ticket = self.open().by_id.get(id).cloned();
        if let Some(ticket) = ticket {
            ticket.tell(PeerEvent::TooLong);
        }
    }

    /// Whom a server's own request concerns: the request in whose answer it came, or the only one under way that can be
    /// asked. Where several might be meant nobody is asked, because what one caller says is not for another.
    pub(super) fn asked(&self, id: Option<&RequestId>) -> Option<mpsc::Sender<PeerEvent>> {
        let open = self.open();
        if let Some(id) = id {
            return open.by_id.get(id)?.0.events.clone();
        }
        let mut able = open.by_id.values().filter_map(|one| one.0.events.clone());
        let only = able.next()?;
        able.next().is_none().then_some(only)
    }
}
