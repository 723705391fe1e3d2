//! Where answers go once what they tell of is durable.

use std::sync::{Arc, Mutex, PoisonError};

use adjutant_core::{Error, Result};
use adjutant_queue::{Claimed, Disposition};
use tokio::sync::{mpsc, oneshot};

use crate::request::Request;

/// Where an answer goes. All clones are one: a request that is tried again is answered once.
#[derive(Debug)]
pub(crate) struct Reply<T>(Arc<Mutex<Option<oneshot::Sender<Result<T>>>>>);

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Reply<T> {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<T>>) {
        let (sender, answer) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), answer)
    }

    /// Answers, or gives the answer back if nobody waits for it any more.
    pub(crate) fn send(&self, answer: Result<T>) -> Result<(), Result<T>> {
        match self.sender().take() {
            Some(sender) => sender.send(answer),
            None => Err(answer),
        }
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender()
            .as_ref()
            .is_none_or(oneshot::Sender::is_closed)
    }

    fn sender(&self) -> std::sync::MutexGuard<'_, Option<oneshot::Sender<Result<T>>>> {
        // An option is whole whatever happened around it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same error for one more of those whose requests shared a transaction.
#[must_use]
pub fn again(error: &Error) -> Error {
    match error {
        Error::StorageFull { location } => Error::StorageFull {
            location: location.clone(),
        },
        Error::ReadOnly { location } => Error::ReadOnly {
            location: location.clone(),
        },
        Error::Corrupt { location, problem } => Error::Corrupt {
            location: location.clone(),
            problem: problem.clone(),
        },
        Error::Closed => Error::Closed,
        Error::Backend {
            action,
            transient,
            source,
        } => Error::Backend {
            action,
            transient: *transient,
            source: source.to_string().into(),
        },
        other => Error::Backend {
            action: "write a group of changes",
            transient: false,
            source: other.to_string().into(),
        },
    }
}

/// An answer that waits for its transaction.
pub(crate) trait Answer: Send {
    /// Sends it, or the error that the transaction ended with.
    fn deliver(self: Box<Self>, failure: Option<&Error>);
}

struct Pending<T> {
    reply: Reply<T>,
    result: Result<T>,
}

impl<T: Send> Answer for Pending<T> {
    fn deliver(self: Box<Self>, failure: Option<&Error>) {
        let result = match failure {
            None => self.result,
            Some(error) => Err(again(error)),
        };
        // A caller that has gone needs no answer.
        let _gone = self.reply.send(result);
    }
}

/// Runs on their way to a claimer.
struct HandOver {
    reply: Reply<Vec<Claimed>>,
    claimed: Vec<Claimed>,
    own: mpsc::WeakSender<Request>,
}

impl Answer for HandOver {
    fn deliver(self: Box<Self>, failure: Option<&Error>) {
        let answer = failure.map_or(Ok(self.claimed), |error| Err(again(error)));
        let Err(Ok(claimed)) = self.reply.send(answer) else {
            return;
        };
        if let Some(own) = self.own.upgrade() {
            give_back(claimed, &own);
        }
    }
}

/// Gives runs back whose claimer has gone, so that they need not wait until the leases expire. If there
/// is no room for that now, they do.
pub(crate) fn give_back(claimed: Vec<Claimed>, requests: &mpsc::Sender<Request>) {
    for claimed in claimed {
        let reason = "the claimer has gone".to_owned();
        let end = Box::new(Disposition::Released { reason });
        let (reply, _nobody) = Reply::new();
        let _no_room = requests.try_send(Request::Settle(claimed.lease, end, reply));
    }
}

/// Keeps runs for a claimer until their transaction is through.
pub(crate) fn hand_over(
    reply: Reply<Vec<Claimed>>,
    claimed: Vec<Claimed>,
    own: mpsc::WeakSender<Request>,
) -> Box<dyn Answer> {
    Box::new(HandOver {
        reply,
        claimed,
        own,
    })
}

/// Keeps an answer until its transaction is through.
pub(crate) fn answer<T: Send + 'static>(reply: Reply<T>, result: Result<T>) -> Box<dyn Answer> {
    Box::new(Pending { reply, result })
}
