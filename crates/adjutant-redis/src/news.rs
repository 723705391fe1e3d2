//! What processes tell each other: with each transaction, what has changed by it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
};

use adjutant_core::{RunId, Timestamp};
use adjutant_engine::{Changes, Place, WakeUps};
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::{
    sync::{Notify, mpsc},
    time::{Duration, Instant, sleep, sleep_until},
};

use crate::{keys::Keys, link::Ear};

/// More runs than this in one piece of news, and it says only that there are many.
const MOST_RUNS: usize = 4096;

/// Pauses between tries to listen.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often a quiet connection is tried.
const PING: Duration = Duration::from_secs(5);

/// What a transaction has changed, for others.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// Runs have become ready.
    pub ready: bool,
    /// The earliest new time at which something is due.
    pub due: Option<i64>,
    pub settled: Vec<RunId>,
    pub changed: Vec<RunId>,
    /// There are too many runs to name.
    pub much: bool,
}

impl News {
    /// What others should hear of these changes.
    pub(crate) fn of(changes: &Changes<'_>) -> Self {
        let mut news = Self::default();
        for run in &changes.runs {
            let (before, after) = (run.before, Place::of(run.record));
            let was = |is: fn(Place) -> bool| before.is_some_and(is);
            news.ready |= after.ready && !was(|place| place.ready);
            if after.state.is_settled() && !was(|place| place.state.is_settled()) {
                news.settled.push(run.record.id);
            }
            if let Some(due) = after
                .due
                .filter(|_| before.and_then(|place| place.due) != after.due)
            {
                let due = due.as_micros();
                news.due = Some(news.due.map_or(due, |earlier| earlier.min(due)));
            }
        }
        news.changed = changes.added.events.iter().map(|(run, ..)| *run).collect();
        news.changed.sort_unstable();
        news.changed.dedup();
        news
    }

    /// `writer ready due settled changed ids…`, the ids as 16 bytes each.
    pub(crate) fn bytes(&self, writer: &[u8]) -> Vec<u8> {
        let much = self.much || self.settled.len() + self.changed.len() > MOST_RUNS;
        let (settled, changed) = match much {
            true => (&[][..], &[][..]),
            false => (&self.settled[..], &self.changed[..]),
        };
        let ready = if much { 2 } else { u8::from(self.ready) };
        let due = self.due.map(|due| due.to_string()).unwrap_or_default();
        let mut out = writer.to_vec();
        out.extend_from_slice(
            format!(" {ready} {due} {} {} ", settled.len(), changed.len()).as_bytes(),
        );
        for run in settled.iter().chain(changed) {
            out.extend_from_slice(run.as_bytes());
        }
        out
    }

    /// The number of the transaction, who made it, and its news.
    fn read(message: &[u8]) -> Option<(i64, &[u8], Self)> {
        let mut words = message.splitn(7, |byte| *byte == b' ');
        let mut text = || std::str::from_utf8(words.next()?).ok();
        let number = text()?.parse().ok()?;
        let writer = text()?.as_bytes();
        let ready: u8 = text()?.parse().ok()?;
        let due = text()?.parse().ok();
        let (settled, changed): (usize, usize) = (text()?.parse().ok()?, text()?.parse().ok()?);
        let runs = words.next()?.as_chunks::<16>().0;
        let runs: Vec<RunId> = runs.iter().map(|id| RunId::from_bytes(*id)).collect();
        if runs.len() != settled.checked_add(changed)? {
            return None;
        }
        let (settled, changed) = runs.split_at(settled);
        let news = Self {
            ready: ready > 0,
            due,
            settled: settled.to_vec(),
            changed: changed.to_vec(),
            much: ready > 1,
        };
        Some((number, writer, news))
    }
}

/// What has been heard, for the writer.
#[derive(Debug)]
pub(crate) struct Heard {
    /// The number of the latest transaction that was heard of; -1 while nothing is heard.
    pub number: AtomicI64,
    /// Anything may have changed.
    pub everything: AtomicBool,
    /// When to look at the line again, as runs that others have taken come free then.
    look_at: Mutex<Option<Instant>>,
    look: Notify,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            number: AtomicI64::new(-1),
            everything: AtomicBool::new(false),
            look_at: Mutex::default(),
            look: Notify::new(),
        }
    }
}

impl Heard {
    /// Asks for a look at the line at this time.
    pub(crate) fn look_again(&self, at: Instant) {
        let mut look_at = self.look_at.lock().unwrap_or_else(PoisonError::into_inner);
        *look_at = Some(look_at.map_or(at, |earlier| earlier.min(at)));
        self.look.notify_one();
    }

    fn look_at(&self) -> Option<Instant> {
        *self.look_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self) {
        *self.look_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Listens until it is dropped.
pub(crate) struct Listener {
    pub ear: Ear,
    pub keys: Keys,
    pub writer: Vec<u8>,
    pub heard: Arc<Heard>,
    pub wake_ups: WakeUps,
}

impl Listener {
    /// Listens, again and again.
    pub(crate) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let listened = Instant::now();
            let error = self.listen().await.err();
            if listened.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tracing::debug!(
                error = error.map(tracing::field::display),
                "news of other processes stopped"
            );
            self.heard.number.store(-1, SeqCst);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn listen(&mut self) -> RedisResult<()> {
        let (sender, mut pushes) = mpsc::unbounded_channel();
        let mut connection = self.ear.connect(sender).await?;
        let channel = self.keys.of(crate::keys::NEWS, "");
        connection.subscribe(channel).await?;
        // What came before is known to nobody here.
        self.heard.number.store(-1, SeqCst);
        self.everything();
        loop {
            let look = self.heard.look_at();
            tokio::select! {
                push = pushes.recv() => match push {
                    Some(push) if push.kind == PushKind::Message => self.hear(&push),
                    Some(push) if push.kind != PushKind::Disconnection => {}
                    _ => return Ok(()),
                },
                () = at(look) => {
                    self.heard.looked();
                    self.wake_ups.ready();
                }
                () = self.heard.look.notified() => {}
                () = sleep(PING) => {
                    redis::cmd("PING").exec_async(&mut connection).await?;
                }
            }
        }
    }

    fn hear(&self, push: &PushInfo) {
        let Some(Value::BulkString(message)) = push.data.last() else {
            return;
        };
        let Some((number, writer, news)) = News::read(message) else {
            tracing::warn!("news of another process that cannot be read");
            return self.everything();
        };
        let before = self.heard.number.swap(number, SeqCst);
        if before >= 0 && number != before + 1 {
            // Some were missed, or the server has lost some.
            return self.everything();
        }
        if writer == self.writer {
            return;
        }
        if news.much {
            return self.everything();
        }
        self.wake_ups.settled(&news.settled);
        self.wake_ups.changed(&news.changed);
        if let Some(due) = news.due {
            self.wake_ups.due(Timestamp::from_micros(due));
        }
        if news.ready {
            self.wake_ups.ready();
        }
    }

    fn everything(&self) {
        self.heard.everything.store(true, SeqCst);
        self.wake_ups.everything();
    }
}

/// Waits for the time, for ever if there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    #[test]
    fn news_come_as_they_were_sent() {
        // Among these are spaces as bytes of ids.
        let runs = |n: usize| {
            (0..n)
                .map(|_| RunId::from_bytes([b' '; 16]))
                .collect::<Vec<_>>()
        };
        for news in [
            News::default(),
            News {
                ready: true,
                due: Some(-5),
                settled: runs(1),
                changed: runs(3),
                much: false,
            },
        ] {
            let mut message = b"12 ".to_vec();
            message.extend(news.bytes(b"writer"));
            assert_eq!(News::read(&message), Some((12, &b"writer"[..], news)));
        }
        assert_eq!(News::read(b"12 writer 0  1 0 short"), None);
    }

    #[test]
    fn too_many_runs_are_not_named() {
        let news = News {
            changed: vec![RunId::new(); MOST_RUNS + 1],
            ..News::default()
        };
        let mut message = b"1 ".to_vec();
        message.extend(news.bytes(b"w"));
        assert!(message.len() < 100);
        assert!(News::read(&message).unwrap().2.much);
    }
}
