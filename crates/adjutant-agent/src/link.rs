//! The connection: one writer, and the calls that wait for an answer.

use std::{
    collections::HashMap,
    io::Write,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use adjutant_wire::{
    CancelRequest, DEFAULT_MAX_LINE_BYTES, ErrorCode, Limits, Message, Method, Notice,
    Notification, Outcome, Request, RequestId, Response, RpcError, encode,
};

/// A poisoned lock means that another thread panicked; the maps and the writer behind ours are whole at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a waiting call wakes up to.
pub(crate) enum Reply {
    /// The answer.
    Outcome(Outcome),
    /// The run is cancelled; do not wait any longer.
    Interrupted,
}

struct Waiter {
    run_id: String,
    /// Whether cancelling the run ends the wait. Not for saves: an agent may tidy up after a cancel.
    interruptible: bool,
    reply: SyncSender<Reply>,
}

struct Pending {
    closed: bool,
    /// Most calls that the host takes at once.
    limit: usize,
    waiters: HashMap<RequestId, Waiter>,
}

/// A call under way.
pub(crate) struct OpenCall {
    id: RequestId,
    reply: Receiver<Reply>,
}

pub(crate) struct Link {
    out: Mutex<Box<dyn Write + Send>>,
    pending: Mutex<Pending>,
    /// A call has its answer, so that there is room for another.
    room: Condvar,
    next_id: AtomicI64,
    max_line_bytes: AtomicUsize,
}

impl Link {
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            out: Mutex::new(out),
            pending: Mutex::new(Pending {
                closed: false,
                limit: usize::try_from(Limits::default().max_inflight_calls).unwrap_or(usize::MAX),
                waiters: HashMap::new(),
            }),
            room: Condvar::new(),
            next_id: AtomicI64::new(1),
            max_line_bytes: AtomicUsize::new(DEFAULT_MAX_LINE_BYTES),
        }
    }

    /// What the host accepts from here on.
    pub fn set_limits(&self, limits: &Limits) {
        self.max_line_bytes
            .store(limits.max_line_bytes, Ordering::Relaxed);
        let calls = usize::try_from(limits.max_inflight_calls).unwrap_or(usize::MAX);
        lock(&self.pending).limit = calls.max(1);
        self.room.notify_all();
    }

    pub fn next_id(&self) -> i64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes one message. A message over the host's limit is not sent: the host would have to throw it away.
    pub fn send(&self, message: &Message) -> Result<(), RpcError> {
        let line = encode(message);
        let limit = self.max_line_bytes.load(Ordering::Relaxed);
        if line.len() > limit.saturating_add(1) {
            let text = format!("a message of {} bytes; the host takes {limit}", line.len());
            return Err(RpcError::new(ErrorCode::TooLarge, text));
        }
        let mut out = lock(&self.out);
        let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| {
            RpcError::new(
                ErrorCode::ProcessGone,
                format!("write to the host: {error}"),
            )
        })
    }

    /// Sends a notification.
    pub fn notify<N: Notice>(&self, notice: &N) -> Result<(), RpcError> {
        let notification = Notification::notice(notice)
            .map_err(|error| RpcError::new(ErrorCode::InvalidParams, error.to_string()))?;
        self.send(&notification.into())
    }

    /// Sends an answer; one that is too large becomes the error that says so, for an answer there must be.
    pub fn answer(&self, response: Response) {
        let id = response.id.clone();
        if let Err(error) = self.send(&response.into()) {
            // If the host is gone, nobody waits for this one either.
            let _ = self.send(&Response::error(id, error).into());
        }
    }

    /// Sends a request and registers who waits for its answer. Waits first while as many calls are open as the host
    /// takes; only the end of a step, which makes room, goes through at once.
    pub fn open(
        &self,
        request: Request,
        run_id: &str,
        interruptible: bool,
    ) -> Result<OpenCall, RpcError> {
        let (sender, reply) = sync_channel(1);
        let id = request.id.clone();
        {
            let ends_a_step = request.method == Method::STEP_END;
            let full = |pending: &mut Pending| {
                !ends_a_step && !pending.closed && pending.waiters.len() >= pending.limit
            };
            let mut pending = self
                .room
                .wait_while(lock(&self.pending), full)
                .unwrap_or_else(PoisonError::into_inner);
            if pending.closed {
                return Err(gone());
            }
            let waiter = Waiter {
                run_id: run_id.to_owned(),
                interruptible,
                reply: sender,
            };
            pending.waiters.insert(id.clone(), waiter);
        }
        if let Err(error) = self.send(&request.into()) {
            lock(&self.pending).waiters.remove(&id);
            self.room.notify_one();
            return Err(error);
        }
        Ok(OpenCall { id, reply })
    }

    /// Waits for the answer. Our own calls have no time limit: the host decides how long a wait takes, and says so.
    pub fn wait(&self, call: OpenCall) -> Reply {
        let reply = call
            .reply
            .recv()
            .unwrap_or_else(|_| Reply::Outcome(Err(gone())));
        if matches!(reply, Reply::Interrupted) {
            // The host may not know of a cancel that began here; a late answer finds no waiter and is dropped.
            let _ = self.notify(&CancelRequest {
                request_id: call.id,
            });
        }
        reply
    }

    /// Hands an answer to whoever waits for it; false when nobody does.
    pub fn resolve(&self, response: Response) -> bool {
        let waiter = response
            .id
            .and_then(|id| lock(&self.pending).waiters.remove(&id));
        self.room.notify_one();
        waiter.is_some_and(|waiter| {
            waiter
                .reply
                .try_send(Reply::Outcome(response.outcome))
                .is_ok()
        })
    }

    /// Ends the waits of a cancelled run.
    pub fn interrupt(&self, run_id: &str) {
        lock(&self.pending).waiters.retain(|_, waiter| {
            let hit = waiter.interruptible && waiter.run_id == run_id;
            if hit {
                let _ = waiter.reply.try_send(Reply::Interrupted);
            }
            !hit
        });
        self.room.notify_all();
    }

    /// Fails every wait, now and later: the host is gone.
    pub fn close(&self) {
        let mut pending = lock(&self.pending);
        pending.closed = true;
        // Dropping the senders wakes the receivers.
        pending.waiters.clear();
        self.room.notify_all();
    }
}

fn gone() -> RpcError {
    RpcError::new(ErrorCode::ProcessGone, "the runtime closed the connection")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn link() -> Link {
        Link::new(Box::new(std::io::sink()))
    }

    fn open(link: &Link, id: i64, interruptible: bool) -> OpenCall {
        let request = Request {
            id: id.into(),
            method: "m".into(),
            params: Value::Null,
        };
        link.open(request, "r", interruptible).unwrap()
    }

    #[test]
    fn answers_find_their_call_in_any_order() {
        let link = link();
        let (first, second) = (open(&link, 1, true), open(&link, 2, true));
        assert!(link.resolve(Response::ok(2.into(), json!("two"))));
        assert!(link.resolve(Response::ok(1.into(), json!("one"))));
        assert!(matches!(link.wait(first), Reply::Outcome(Ok(value)) if value == "one"));
        assert!(matches!(link.wait(second), Reply::Outcome(Ok(value)) if value == "two"));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_dropped() {
        let link = link();
        let call = open(&link, 1, true);
        assert!(!link.resolve(Response::ok(9.into(), Value::Null)));
        assert!(link.resolve(Response::ok(1.into(), Value::Null)));
        assert!(
            !link.resolve(Response::ok(1.into(), Value::Null)),
            "answered twice"
        );
        assert!(matches!(link.wait(call), Reply::Outcome(Ok(_))));
    }

    #[test]
    fn an_interrupt_ends_waits_and_spares_saves() {
        let link = link();
        let (wait, save) = (open(&link, 1, true), open(&link, 2, false));
        link.interrupt("another run");
        link.interrupt("r");
        assert!(matches!(link.wait(wait), Reply::Interrupted));
        assert!(link.resolve(Response::ok(2.into(), Value::Null)));
        assert!(matches!(link.wait(save), Reply::Outcome(Ok(_))));
    }

    #[test]
    fn calls_over_the_hosts_limit_wait_for_room_and_the_end_of_a_step_does_not() {
        let link = std::sync::Arc::new(link());
        link.set_limits(&Limits {
            max_inflight_calls: 1,
            ..Limits::default()
        });
        let first = open(&link, 1, true);
        let (opened, told) = sync_channel(1);
        let other = link.clone();
        let waiting = std::thread::spawn(move || {
            let call = open(&other, 2, true);
            opened.send(()).unwrap();
            other.wait(call)
        });
        let end = Request {
            id: 3.into(),
            method: Method::STEP_END.into(),
            params: Value::Null,
        };
        let end = link.open(end, "r", false).unwrap();
        assert!(told.try_recv().is_err(), "the second call did not wait");
        assert!(link.resolve(Response::ok(3.into(), Value::Null)));
        assert!(matches!(link.wait(end), Reply::Outcome(Ok(_))));
        assert!(link.resolve(Response::ok(1.into(), json!("one"))));
        assert!(matches!(link.wait(first), Reply::Outcome(Ok(_))));
        told.recv().unwrap();
        assert!(link.resolve(Response::ok(2.into(), json!("two"))));
        assert!(matches!(waiting.join().unwrap(), Reply::Outcome(Ok(value)) if value == "two"));
    }

    #[test]
    fn calls_fail_once_the_host_is_gone() {
        let link = link();
        let call = open(&link, 1, false);
        link.close();
        assert!(
            matches!(link.wait(call), Reply::Outcome(Err(error)) if error.is(ErrorCode::ProcessGone))
        );
        let request = Request {
            id: 2.into(),
            method: "m".into(),
            params: Value::Null,
        };
        assert!(link.open(request, "r", false).is_err());
    }

    #[test]
    fn a_message_over_the_limit_is_an_error_here_and_not_at_the_host() {
        let link = link();
        link.set_limits(&Limits {
            max_line_bytes: 50,
            ..Limits::default()
        });
        let long = Notification {
            method: "x".repeat(60),
            params: Value::Null,
        };
        assert!(
            link.send(&long.into())
                .is_err_and(|error| error.is(ErrorCode::TooLarge))
        );
    }
}
