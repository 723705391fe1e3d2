//! Model calls that are being made, and who waits for them.
//!
//! A client's library repeats a request when its connection fails, though the first may have gone through. The repeat must
//! not be paid again: it joins the first while that is in flight, and gets its answer afterwards. A request that only
//! happens to be the same is a call of its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use adjutant_core::{ModelCall, ModelRequest, ModelResponse, RunContext};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    failure::Failure,
    pieces::{Piece, Shown},
};

/// Calls of one attempt that are made at once at most.
const MAX_AT_ONCE: usize = 256;
/// Ended calls whose answers are kept for repeats.
const REMEMBERED: usize = 32;

/// How a call ended.
pub type End = Result<Arc<ModelResponse>, Failure>;

/// What is known of an answer.
#[derive(Default)]
struct Log {
    pieces: Vec<Piece>,
    end: Option<End>,
}

/// One model call.
struct Flight {
    /// Its name in the journal.
    key: String,
    /// Which call of that name this is, from 1.
    number: usize,
    log: watch::Sender<Log>,
    listeners: watch::Sender<usize>,
}

impl Flight {
    fn ended(&self) -> bool {
        self.log.borrow().end.is_some()
    }

    fn end(&self, end: End) {
        self.log.send_if_modified(|log| {
            let first = log.end.is_none();
            if first {
                log.end = Some(end);
            }
            first
        });
    }

    fn listen(self: &Arc<Self>) -> Listener {
        self.listeners.send_modify(|count| *count += 1);
        Listener {
            log: self.log.subscribe(),
            seen: 0,
            flight: self.clone(),
        }
    }
}

/// Someone who waits for a call's answer. A call to which nobody listens any more is given up after a while.
pub struct Listener {
    flight: Arc<Flight>,
    log: watch::Receiver<Log>,
    seen: usize,
}

/// What a listener hears.
pub enum Heard {
    /// More of the answer.
    Pieces(Vec<Piece>),
    /// The end. There is nothing after it.
    End(End),
}

impl Listener {
    /// A name for the answer, the same whenever the run comes to this call.
    pub fn id(&self) -> String {
        let key = self.flight.key.trim_start_matches("llm:");
        format!("{key}-{}", self.flight.number)
    }

    /// What comes next.
    pub async fn next(&mut self) -> Heard {
        loop {
            {
                let log = self.log.borrow_and_update();
                if self.seen < log.pieces.len() {
                    let pieces = log.pieces[self.seen..].to_vec();
                    self.seen = log.pieces.len();
                    return Heard::Pieces(pieces);
                }
                if let Some(end) = &log.end {
                    return Heard::End(end.clone());
                }
            }
            if self.log.changed().await.is_err() {
                return Heard::End(Err(Failure::unauthorized()));
            }
        }
    }

    /// The whole answer.
    pub async fn end(&mut self) -> End {
        loop {
            if let Heard::End(end) = self.next().await {
                return end;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.flight.listeners.send_modify(|count| *count -= 1);
    }
}

/// The model calls of one attempt.
pub struct Flights {
    ctx: RunContext,
    /// Ends all of them.
    revoked: CancellationToken,
    /// How long a call goes on when nobody listens: time for a client to come back.
    linger: Duration,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Calls being made, and some that have ended; the oldest first.
    flights: VecDeque<Arc<Flight>>,
    /// Calls so far, by name.
    counts: HashMap<String, usize>,
}

impl Table {
    fn at_once(&self) -> usize {
        let flights = self.flights.iter();
        flights.filter(|flight| !flight.ended()).count()
    }

    /// The call that a request may join: for a client's repeat, the last one that has not failed; for any other, one whose
    /// client has gone away.
    fn joinable(&self, key: &str, repeat: bool) -> Option<Arc<Flight>> {
        let fits = |flight: &&Arc<Flight>| {
            flight.key == key
                && match &flight.log.borrow().end {
                    Some(end) => repeat && end.is_ok(),
                    None => repeat || *flight.listeners.borrow() == 0,
                }
        };
        self.flights.iter().rev().find(fits).cloned()
    }

    fn add(&mut self, key: &str) -> Arc<Flight> {
        let count = self.counts.entry(key.to_owned()).or_default();
        *count += 1;
        let flight = Arc::new(Flight {
            key: key.to_owned(),
            number: *count,
            log: watch::Sender::default(),
            listeners: watch::Sender::default(),
        });
        self.flights.push_back(flight.clone());
        self.forget_oldest();
        flight
    }

    fn forget_oldest(&mut self) {
        let ended = self.flights.iter().filter(|flight| flight.ended()).count();
        let mut surplus = ended.saturating_sub(REMEMBERED);
        self.flights.retain(|flight| {
            let forget = surplus > 0 && flight.ended();
            surplus -= usize::from(forget);
            !forget
        });
    }
}

impl Flights {
    pub fn new(ctx: RunContext, revoked: CancellationToken, linger: Duration) -> Self {
        Self {
            ctx,
            revoked,
            linger,
            table: Mutex::default(),
        }
    }

    /// Seconds since 1970, by the runtime's clock.
    pub fn now(&self) -> i64 {
        self.ctx.now().as_micros() / 1_000_000
    }

    /// Makes a call, or joins one that was made for the same request.
    ///
    /// # Errors
    /// When too many calls are being made.
    pub fn call(
        self: &Arc<Self>,
        request: ModelRequest,
        repeat: bool,
    ) -> Result<Listener, Failure> {
        let key = key_of(&request)?;
        let mut table = self.table();
        if self.revoked.is_cancelled() {
            return Err(Failure::unauthorized());
        }
        if let Some(flight) = table.joinable(&key, repeat) {
            return Ok(flight.listen());
        }
        if table.at_once() >= MAX_AT_ONCE {
            let message = format!("{MAX_AT_ONCE} model calls of this attempt are being made");
            let busy = Failure::new(429, "too_many_calls", message);
            return Err(Failure {
                retry: true,
                ..busy
            });
        }
        let flight = table.add(&key);
        let listener = flight.listen();
        tokio::spawn(self.clone().fly(flight, ModelCall { key, request }));
        Ok(listener)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one call. Ends when the call does, the token is revoked, or nobody waits for the answer any more.
    async fn fly(self: Arc<Self>, flight: Arc<Flight>, call: ModelCall) {
        // Whatever happens, a panic of the host included, who listens hears an end.
        let _ended = EndAtLast(&flight);
        let mut shown = Shown::default();
        let mut sink = |delta| {
            let pieces = shown.delta(delta);
            if !pieces.is_empty() {
                flight.log.send_modify(|log| log.pieces.extend(pieces));
            }
        };
        let answer = tokio::select! {
            biased;
            () = self.revoked.cancelled() => Err(Failure::unauthorized()),
            answer = self.ctx.generate_streaming(call, &mut sink) => answer.map_err(Failure::from),
            () = self.abandoned(&flight) => return,
        };
        let end = answer.and_then(|response| {
            let rest = shown.rest(&response)?;
            flight.log.send_modify(|log| log.pieces.extend(rest));
            Ok(Arc::new(response))
        });
        flight.end(end);
    }

    /// Returns once nobody has listened for a while, with the flight taken off the table.
    async fn abandoned(&self, flight: &Arc<Flight>) {
        let mut listeners = flight.listeners.subscribe();
        loop {
            // Neither can fail: the flight holds the sender.
            let _none = listeners.wait_for(|count| *count == 0).await.is_ok();
            let back = tokio::time::timeout(self.linger, listeners.wait_for(|count| *count > 0));
            if back.await.is_ok() {
                continue;
            }
            let mut table = self.table();
            // Whoever joins does so under the same lock.
            if *flight.listeners.borrow() == 0 {
                table.flights.retain(|other| !Arc::ptr_eq(other, flight));
                return;
            }
        }
    }
}

struct EndAtLast<'a>(&'a Flight);

impl Drop for EndAtLast<'_> {
    fn drop(&mut self) {
        let message = "the call ended without an answer";
        self.0.end(Err(Failure::new(500, "internal", message)));
    }
}

/// The call's name in the journal: by what is asked, so that an agent that starts again and asks the same gets the
/// recorded answer, in whatever order it asks.
fn key_of(request: &ModelRequest) -> Result<String, Failure> {
    let json = adjutant_core::Json::from_value(request)
        .map_err(|error| Failure::bad_request(error.to_string()))?;
    Ok(format!("llm:{:016x}", json.fingerprint().0))
}
