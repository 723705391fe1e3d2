//! What nodes tell each other of their writes, so that waiters wake up on all of them.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{RunId, Timestamp};
use adjutant_engine::{Changes, Place};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::Instant};

/// The longest message that the server takes is 8000 bytes.
const MESSAGE_BYTES: usize = 7900;

/// Runs that a message can name at most; more of them are "everything".
const RUNS: usize = 220;

/// How often each node says that it is there.
pub(crate) const HELLO_EVERY: Duration = Duration::from_secs(10);

/// A node that has been silent for so long is not there any more.
pub(crate) const SILENT: Duration = Duration::from_secs(35);

/// How long to wait for the answer to a greeting before nobody is taken to be there.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);

/// What has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct News {
    /// Anything may have.
    #[serde(skip_serializing_if = "is_false")]
    pub everything: bool,
    /// Runs became ready.
    #[serde(skip_serializing_if = "is_false")]
    pub ready: bool,
    /// The earliest time at which something new is due, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<i64>,
    /// Settled runs; all of them have new events too.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "hex")]
    pub settled: Vec<RunId>,
    /// Other runs with new events.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "hex")]
    pub changed: Vec<RunId>,
    /// A node has come and wants to hear of the others.
    #[serde(skip_serializing_if = "is_false")]
    pub hello: bool,
    /// Only that the node is there.
    #[serde(skip_serializing_if = "is_false")]
    pub here: bool,
}

#[derive(Serialize, Deserialize)]
struct Message {
    from: String,
    #[serde(flatten)]
    news: News,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl News {
    /// What other nodes should hear of these changes.
    pub(crate) fn of(changes: &Changes<'_>) -> Self {
        let mut news = Self::default();
        for run in &changes.runs {
            let (before, after) = (run.before, Place::of(run.record));
            let was = |is: fn(Place) -> bool| before.is_some_and(is);
            news.ready |= after.ready && !was(|place| place.ready);
            if after.state.is_settled() && !was(|place| place.state.is_settled()) {
                news.settled.push(run.record.id);
            }
            let due = after.due.map(Timestamp::as_micros);
            if let Some(due) = due
                && before.and_then(|place| place.due) != after.due
            {
                news.due = Some(news.due.map_or(due, |earlier| earlier.min(due)));
            }
        }
        let changed = changes.added.events.iter().map(|(run, ..)| *run);
        news.changed.extend(changed);
        news.tidy();
        news
    }

    fn tidy(&mut self) {
        self.settled.sort_unstable();
        self.settled.dedup();
        self.changed.sort_unstable();
        self.changed.dedup();
        let settled = &self.settled;
        self.changed
            .retain(|run| settled.binary_search(run).is_err());
        if self.settled.len() + self.changed.len() > RUNS {
            self.everything = true;
        }
        if self.everything {
            (self.settled, self.changed) = (Vec::new(), Vec::new());
        }
    }

    fn merge(&mut self, other: Self) {
        self.everything |= other.everything;
        self.ready |= other.ready;
        self.hello |= other.hello;
        self.here |= other.here;
        self.due = match (self.due, other.due) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.or(another),
        };
        self.settled.extend(other.settled);
        self.changed.extend(other.changed);
        self.tidy();
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The text to send.
    pub(crate) fn message(self, node: &str) -> String {
        let message = Message {
            from: node.to_owned(),
            news: self,
        };
        // Both have a JSON form, and the bound on runs keeps it short enough.
        let text = serde_json::to_string(&message).unwrap_or_default();
        debug_assert!(text.len() <= MESSAGE_BYTES, "{} bytes", text.len());
        text
    }

    /// Reads a message of another node than this one. What cannot be read may be anything.
    pub(crate) fn read(text: &str, node: &str) -> Option<Self> {
        match serde_json::from_str::<Message>(text) {
            Ok(message) if message.from == node => None,
            Ok(message) => Some(message.news),
            Err(_) => Some(Self {
                everything: true,
                ..Self::default()
            }),
        }
    }
}

/// Ids as 32 hex digits.
mod hex {
    use adjutant_core::RunId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use sqlx::types::Uuid;

    use crate::args::uuid;

    pub(super) fn serialize<S: Serializer>(runs: &[RunId], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(
            runs.iter()
                .map(|run| uuid(run.as_bytes()).simple().to_string()),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RunId>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let ids = texts.iter().map(|text| Uuid::try_parse(text));
        let runs = ids.map(|id| id.map(|id| RunId::from_bytes(*id.as_bytes())));
        runs.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

/// News on their way to other nodes, and what is known of these. What piles up while a message is under way
/// becomes one message.
#[derive(Debug)]
pub(crate) struct Outbox {
    news: Mutex<News>,
    pub wake: Notify,
    /// Somebody else was at work on what we wanted: look again soon.
    pub again: Notify,
    peers_until: Mutex<Instant>,
    pub listening: AtomicBool,
    /// Something has happened here that is of interest to others.
    pub wrote: AtomicBool,
    closed: AtomicBool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            news: Mutex::default(),
            wake: Notify::new(),
            again: Notify::new(),
            // Until it is known that nobody is there, somebody may be.
            peers_until: Mutex::new(Instant::now() + ANSWER),
            listening: AtomicBool::new(false),
            wrote: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Takes news in, if there is anybody to tell.
    pub(crate) fn post(&self, news: News) {
        let greets = news.hello || news.here;
        if !greets && !news.is_empty() {
            self.wrote.store(true, SeqCst);
        }
        if news.is_empty() || !(greets || self.has_peers()) {
            return;
        }
        self.news().merge(news);
        self.wake.notify_one();
    }

    /// Everything that has come in.
    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut self.news())
    }

    /// Whether another node has been heard of lately.
    pub(crate) fn has_peers(&self) -> bool {
        Instant::now() < *self.peers_until()
    }

    /// Notes that another node is there, or may be, for this time at least.
    pub(crate) fn expect_peers(&self, time: Duration) {
        let mut until = self.peers_until();
        *until = (*until).max(Instant::now() + time);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    fn news(&self) -> std::sync::MutexGuard<'_, News> {
        // News are whole whatever happened around them.
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers_until(&self) -> std::sync::MutexGuard<'_, Instant> {
        // A time is whole whatever happened around it.
        self.peers_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    fn many(runs: usize) -> News {
        let mut news = News {
            changed: (0..runs).map(|_| RunId::new()).collect(),
            due: Some(i64::MAX),
            ready: true,
            hello: true,
            here: true,
            ..News::default()
        };
        news.tidy();
        news
    }

    #[test]
    fn the_longest_message_fits() {
        let text = many(RUNS).message("0123456789abcdef");
        assert!(text.len() <= MESSAGE_BYTES, "{}", text.len());
        assert!(!text.contains("everything"));
        assert!(many(RUNS + 1).message("0").contains("everything"));
    }

    #[test]
    fn a_message_comes_back_from_others_only() {
        let news = many(3);
        let text = news.clone().message("me");
        assert_eq!(News::read(&text, "me"), None);
        assert_eq!(News::read(&text, "you"), Some(news));
        assert!(News::read("nonsense", "me").unwrap().everything);
    }

    #[test]
    fn a_settled_run_is_named_once() {
        let run = RunId::new();
        let mut news = News {
            changed: vec![run, run],
            ..News::default()
        };
        news.merge(News {
            settled: vec![run],
            due: Some(5),
            ..News::default()
        });
        assert_eq!((news.settled.len(), news.changed.len()), (1, 0));
        assert_eq!(news.due, Some(5));
    }
}
