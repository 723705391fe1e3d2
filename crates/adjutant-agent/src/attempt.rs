//! One attempt under way, shared by the agent's code, the reader and the heartbeat.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use adjutant_wire::{
    Call, LlmDelta, Log, LogLevel, Request, RequestId, RpcError, RunEvent, RunHeartbeat,
    RunMessage, RunScope,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    error::{AgentError, RunError, RunResult},
    keys::Keys,
    link::{Link, Reply, lock},
};

pub(crate) struct Attempt {
    pub scope: RunScope,
    /// The id of `run/start`, which stays open until the attempt ends.
    pub request: RequestId,
    link: Arc<Link>,
    cancelled: Mutex<bool>,
    cancel_signal: Condvar,
    /// `run/start` itself was given up, so its answer is -32800.
    pub given_up: AtomicBool,
    /// The process is asked to exit soon.
    pub stopping: AtomicBool,
    /// Names of steps, waits and calls.
    keys: Mutex<Keys>,
    /// What ended the attempt early; every later call fails the same way, however the agent takes it.
    end: Mutex<Option<End>>,
    events: Mutex<u64>,
    began: Instant,
    /// Milliseconds from `began` to the last call of the agent's code.
    progress_at: AtomicU64,
    /// What the next heartbeat reports.
    progress: Mutex<(Option<f64>, Option<String>)>,
    /// What was said to the run while it works; taken by the agent's code.
    steering: Mutex<Vec<RunMessage>>,
    /// Who listens to which streamed call.
    listeners: Mutex<HashMap<String, DeltaListener>>,
}

/// Hears the pieces of one model's answer.
pub(crate) type DeltaListener = Box<dyn FnMut(&LlmDelta) + Send>;

/// More messages than this are not kept; the host hears of it in the log.
const MAX_STEERING: usize = 256;

/// Why an attempt ended before its code did.
#[derive(Clone)]
pub(crate) enum End {
    Parked,
    /// The same by the agent's own wish, with what the attempt is answered with.
    Suspended(Box<adjutant_wire::RunResult>),
    Stopped(RpcError),
}

impl Attempt {
    pub fn new(scope: RunScope, request: RequestId, link: Arc<Link>) -> Self {
        Self {
            scope,
            request,
            link,
            cancelled: Mutex::new(false),
            cancel_signal: Condvar::new(),
            given_up: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            keys: Mutex::default(),
            end: Mutex::new(None),
            events: Mutex::new(0),
            began: Instant::now(),
            progress_at: AtomicU64::new(0),
            progress: Mutex::default(),
            steering: Mutex::default(),
            listeners: Mutex::default(),
        }
    }

    /// Keeps what the host says until the agent's code takes it.
    pub fn steer(&self, messages: Vec<RunMessage>) {
        let mut steering = lock(&self.steering);
        let room = MAX_STEERING.saturating_sub(steering.len());
        let dropped = messages.len().saturating_sub(room);
        steering.extend(messages.into_iter().take(room));
        drop(steering);
        if dropped > 0 {
            let run_id = Some(self.scope.run_id.clone());
            let message = format!("{dropped} steering messages were dropped: nobody takes them");
            let _ = self.link.notify(&Log {
                level: LogLevel::Warn,
                message,
                run_id,
                ..Log::default()
            });
        }
    }

    pub fn take_steering(&self) -> Vec<RunMessage> {
        std::mem::take(&mut *lock(&self.steering))
    }

    /// Hands a piece of an answer to whoever listens to its call.
    pub fn delta(&self, delta: &LlmDelta) {
        if let Some(listener) = lock(&self.listeners).get_mut(&delta.call_id) {
            listener(delta);
        }
    }

    /// Sets, or with `None` takes away, who listens to a call.
    pub fn listen(&self, call_id: &str, listener: Option<DeltaListener>) {
        let mut listeners = lock(&self.listeners);
        match listener {
            Some(listener) => drop(listeners.insert(call_id.to_owned(), listener)),
            None => drop(listeners.remove(call_id)),
        }
    }

    /// Cancels the run and wakes what waits in it.
    pub fn cancel(&self) {
        *lock(&self.cancelled) = true;
        self.cancel_signal.notify_all();
        self.link.interrupt(&self.scope.run_id);
    }

    pub fn is_cancelled(&self) -> bool {
        *lock(&self.cancelled)
    }

    /// Waits for `time`, or until the run is cancelled.
    pub fn pause(&self, time: Duration) -> RunResult<()> {
        let guard = lock(&self.cancelled);
        let waited = self
            .cancel_signal
            .wait_timeout_while(guard, time, |cancelled| !*cancelled);
        match waited {
            Ok((cancelled, _)) if !*cancelled => Ok(()),
            _ => Err(RunError::Cancelled),
        }
    }

    pub fn end(&self) -> Option<End> {
        lock(&self.end).clone()
    }

    fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress_at.store(now, Ordering::Relaxed);
    }

    pub fn last_progress_ms(&self) -> u64 {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        now.saturating_sub(self.progress_at.load(Ordering::Relaxed))
    }

    pub fn heartbeat(&self) {
        let (progress, note) = lock(&self.progress).clone();
        // A host that is gone shows itself as EOF on stdin; there is no one else to tell.
        let _ = self.link.notify(&RunHeartbeat {
            scope: self.scope.clone(),
            progress,
            note,
        });
    }

    fn check(&self) -> RunResult<()> {
        self.touch();
        match self.end() {
            None => Ok(()),
            Some(End::Parked | End::Suspended(_)) => Err(RunError::Parked),
            Some(End::Stopped(error)) => Err(RunError::Stopped(error)),
        }
    }

    /// Ends the attempt with this answer, unless it has ended already.
    pub fn suspend(&self, answer: adjutant_wire::RunResult) {
        lock(&self.end).get_or_insert(End::Suspended(Box::new(answer)));
    }

    fn note(&self, error: RunError) -> RunError {
        let end = match &error {
            RunError::Parked => End::Parked,
            RunError::Stopped(error) => End::Stopped(error.clone()),
            RunError::Agent(_) | RunError::Cancelled => return error,
        };
        lock(&self.end).get_or_insert(end);
        error
    }

    /// A call that the host answers soon; it goes through even when the run is cancelled.
    pub fn call<C: Call>(&self, params: &C) -> RunResult<C::Answer> {
        self.send_call(params, false)
    }

    /// A call that may take days; cancelling the run ends it.
    pub fn call_waiting<C: Call>(&self, params: &C) -> RunResult<C::Answer> {
        self.send_call(params, true)
    }

    fn send_call<C: Call>(&self, params: &C, waits: bool) -> RunResult<C::Answer> {
        self.check()?;
        if waits && self.is_cancelled() {
            return Err(RunError::Cancelled);
        }
        let request = Request::call(self.link.next_id(), params).map_err(AgentError::from)?;
        let open = self.link.open(request, &self.scope.run_id, waits);
        let open = open.map_err(|error| self.note(RunError::from_answer(error)))?;
        if waits && self.is_cancelled() {
            // The cancel may have come before the call was there to be woken.
            self.link.interrupt(&self.scope.run_id);
        }
        let reply = self.link.wait(open);
        self.touch();
        match reply {
            Reply::Interrupted => Err(RunError::Cancelled),
            Reply::Outcome(Err(error)) => Err(self.note(RunError::from_answer(error))),
            Reply::Outcome(Ok(result)) => Ok(C::read_answer(result).map_err(AgentError::from)?),
        }
    }
}

/// What of a run can be used from anywhere: from inside a step, or from another thread. Cheap to clone.
///
/// Give calls that go on beside each other in several threads names of their own: a name that comes again is numbered in
/// the order of the calls, and that must not depend on chance.
#[derive(Clone)]
pub struct RunHandle(pub(crate) Arc<Attempt>);

impl fmt::Debug for RunHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RunHandle").field(&self.0.scope).finish()
    }
}

impl RunHandle {
    /// The key for a name: the same ones in the same order in every attempt.
    pub(crate) fn unique_key(&self, name: &str) -> String {
        lock(&self.0.keys).unique(name)
    }

    /// The run's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.scope.run_id
    }

    /// Which attempt this is, from 1. It counts up with every failure and every wait.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.scope.attempt
    }

    /// Whether the run is to be cancelled. Long work outside of the library's calls should look now and then.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Whether the process is asked to exit soon: a good moment for a checkpoint. The run itself is not cancelled; a
    /// later attempt goes on with it in another process.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// Ends the run's function when the run is to be cancelled: `run.check_cancelled()?`.
    ///
    /// # Errors
    ///
    /// [`RunError::Cancelled`] in that case.
    pub fn check_cancelled(&self) -> RunResult<()> {
        if self.cancelled() {
            Err(RunError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// What was said to the run since this was last called, oldest first; see
    /// [`Server::steerable`](crate::Server::steerable).
    #[must_use]
    pub fn steering(&self) -> Vec<RunMessage> {
        self.0.take_steering()
    }

    /// Emits an event: a dotted name of your own, such as `invoice.read`, and its content.
    ///
    /// # Errors
    ///
    /// When the content is no JSON or too large, or the attempt is over.
    pub fn emit<T: Serialize + ?Sized>(&self, event_type: &str, data: &T) -> RunResult<()> {
        self.0.check()?;
        let data = serde_json::to_value(data)?;
        // Held while sending: the numbers must rise on the wire.
        let mut seq = lock(&self.0.events);
        let event = RunEvent {
            scope: self.0.scope.clone(),
            seq: *seq + 1,
            kind: event_type.to_owned(),
            data,
        };
        let sent = self.0.link.notify(&event);
        sent.map_err(|error| self.0.note(RunError::from_answer(error)))?;
        *seq += 1;
        Ok(())
    }

    /// Tells the user something: the event `assistant.message`.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn message(&self, text: &str) -> RunResult<()> {
        self.emit(
            "assistant.message",
            &json!({"role": "assistant", "content": text}),
        )
    }

    /// Says how far the run is, in percent (clamped to 0 to 100), and what it is doing: the event `progress.update`.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn progress(&self, percent: f64, note: &str) -> RunResult<()> {
        let percent = percent.clamp(0.0, 100.0);
        *lock(&self.0.progress) = (Some(percent), Some(note.to_owned()));
        self.emit(
            "progress.update",
            &json!({"progress_percent": percent, "note": note}),
        )
    }

    /// Writes a log line. Never fails; a log is no reason to.
    pub fn log(&self, level: LogLevel, message: &str) {
        self.0.touch();
        let (message, run_id) = (message.to_owned(), Some(self.id().to_owned()));
        let _ = self.0.link.notify(&Log {
            level,
            message,
            run_id,
            ..Log::default()
        });
    }
}
