//! The contract of [`EventBus`] as tests that every engine runs, one case per sentence;
//! [`suite!`](crate::suite) expands to them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests: a case's name is its sentence, and a case may stop at the first surprise"
)]

use std::{any::Any, future::Future, sync::Arc, time::Duration};

use adjutant_core::{Error, Event, EventType, Json, Limits, NewEvent, RunId, Visibility};
use async_trait::async_trait;
use futures::{StreamExt, future::join};

use crate::{EventBus, TAIL_PAGE, tail};

/// How long cases wait for what must come.
const WAIT: Duration = Duration::from_secs(20);

/// Where runs with an event log come from.
#[async_trait]
pub trait Runs: Send + Sync {
    /// A run that has not ended. It may have events already.
    async fn begin(&self) -> RunId;
}

/// For a bus that knows no runs: any id is one.
pub struct AnyRun;

#[async_trait]
impl Runs for AnyRun {
    async fn begin(&self) -> RunId {
        RunId::new()
    }
}

/// A fresh engine, with limits as by default.
pub struct Fixture {
    /// The engine.
    pub engine: Arc<dyn EventBus>,
    /// Where its runs come from.
    pub runs: Box<dyn Runs>,
    /// What has to live as long as the engine.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Expands to a module `conformance` with one test per case of the event bus's contract. The argument is
/// an async expression that makes a `conformance::Fixture`.
#[macro_export]
macro_rules! suite {
    ($fixture:expr) => {
        $crate::suite! { @cases $fixture;
            events_are_numbered_without_gap_in_the_order_of_their_appends,
            an_event_comes_back_as_it_was_written,
            concurrent_appends_leave_no_gap_and_keep_each_batch_together,
            after_is_exclusive_and_limit_holds,
            reading_past_the_end_is_empty,
            an_event_over_the_limit_is_refused_with_its_whole_batch,
            appending_nothing_changes_nothing,
            runs_are_numbered_apart,
            a_wait_ends_with_the_next_event,
            a_wait_for_what_is_there_ends_at_once,
            a_wait_in_vain_ends_in_time,
            no_wake_up_is_lost,
            trimmed_events_are_gone_and_the_numbering_goes_on,
            a_tail_replays_and_then_follows_to_the_end,
            a_tail_resumes_with_each_event_once,
            a_tail_that_resumes_at_the_end_ends,
            a_tail_over_trimmed_events_says_so,
            a_tail_longer_than_its_page_is_complete,
            many_tails_see_the_same,
        }
    };
    (@cases $fixture:expr; $($case:ident,)*) => {
        mod conformance {
            #[allow(unused_imports, reason = "the fixture's expression may name anything of its place")]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let fixture: $crate::conformance::Fixture = $fixture.await;
                    $crate::conformance::in_time($crate::conformance::$case(&fixture)).await;
                }
            )*
        }
    };
}

/// Fails a case that hangs.
pub async fn in_time(case: impl Future<Output = ()>) {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, case)
        .await
        .expect("the case hangs");
}

fn note(text: &str) -> NewEvent {
    NewEvent::new("note", Json::from(text))
}

fn end() -> NewEvent {
    NewEvent::new(EventType::RunSucceeded, Json::null())
}

/// A run, and the number of the last event it has to begin with.
async fn begin(f: &Fixture) -> (RunId, u64) {
    let run = f.runs.begin().await;
    let events = f.engine.read(run, 0, 1000).await.unwrap();
    (run, events.last().map_or(0, |event| event.seq))
}

async fn append(f: &Fixture, run: RunId, texts: &[&str]) -> u64 {
    let events = texts.iter().map(|text| note(text)).collect();
    f.engine.append(run, events).await.unwrap()
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

pub async fn events_are_numbered_without_gap_in_the_order_of_their_appends(f: &Fixture) {
    let (run, base) = begin(f).await;
    assert_eq!(append(f, run, &["a", "b"]).await, base + 2);
    assert_eq!(append(f, run, &["c"]).await, base + 3);
    let events = f.engine.read(run, base, 10).await.unwrap();
    assert_eq!(seqs(&events), [base + 1, base + 2, base + 3]);
    let texts: Vec<_> = events.iter().map(|event| event.payload.as_str()).collect();
    assert_eq!(texts, ["\"a\"", "\"b\"", "\"c\""]);
}

pub async fn an_event_comes_back_as_it_was_written(f: &Fixture) {
    let (run, base) = begin(f).await;
    let text = r#"{"b": [1.0, "é"], "a": null}"#;
    let event = NewEvent {
        event_type: EventType::from("invoice.read"),
        payload: Json::parse(text.to_owned()).unwrap(),
        visibility: Visibility::Internal,
    };
    f.engine.append(run, vec![event.clone()]).await.unwrap();
    let read = f.engine.read(run, base, 1).await.unwrap().remove(0);
    assert_eq!((read.run_id, read.event_type), (run, event.event_type));
    assert_eq!(
        (read.payload.as_str(), read.visibility),
        (text, event.visibility)
    );
}

pub async fn concurrent_appends_leave_no_gap_and_keep_each_batch_together(f: &Fixture) {
    let (run, base) = begin(f).await;
    let writers = (0..8).map(|writer| {
        let engine = Arc::clone(&f.engine);
        tokio::spawn(async move {
            for n in 0..20 {
                let text = format!("{writer}/{n}");
                let batch = vec![note(&text), note(&text), note(&text)];
                engine.append(run, batch).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let events = f.engine.read(run, base, 1000).await.unwrap();
    assert_eq!(seqs(&events), (base + 1..=base + 480).collect::<Vec<_>>());
    for batch in events.chunks(3) {
        assert!(batch.iter().all(|event| event.payload == batch[0].payload));
    }
}

pub async fn after_is_exclusive_and_limit_holds(f: &Fixture) {
    let (run, base) = begin(f).await;
    append(f, run, &["a", "b", "c", "d"]).await;
    let read = async |after, limit| seqs(&f.engine.read(run, after, limit).await.unwrap());
    assert_eq!(read(base + 1, 2).await, [base + 2, base + 3]);
    assert_eq!(read(base + 3, 10).await, [base + 4]);
    assert!(read(base, 0).await.is_empty());
}

pub async fn reading_past_the_end_is_empty(f: &Fixture) {
    let (run, base) = begin(f).await;
    for after in [base, base + 1, base + 1000] {
        assert!(f.engine.read(run, after, 10).await.unwrap().is_empty());
    }
}

pub async fn an_event_over_the_limit_is_refused_with_its_whole_batch(f: &Fixture) {
    let (run, base) = begin(f).await;
    let big = note(&"x".repeat(Limits::default().event));
    let error = f
        .engine
        .append(run, vec![note("a"), big])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(f.engine.read(run, base, 10).await.unwrap().is_empty());
}

pub async fn appending_nothing_changes_nothing(f: &Fixture) {
    let (run, base) = begin(f).await;
    assert_eq!(f.engine.append(run, Vec::new()).await.unwrap(), base);
    assert_eq!(append(f, run, &["a"]).await, base + 1);
}

pub async fn runs_are_numbered_apart(f: &Fixture) {
    let ((a, base_a), (b, base_b)) = (begin(f).await, begin(f).await);
    append(f, a, &["a", "a"]).await;
    assert_eq!(append(f, b, &["b"]).await, base_b + 1);
    assert_eq!(append(f, a, &["a"]).await, base_a + 3);
    assert_eq!(f.engine.read(b, base_b, 10).await.unwrap().len(), 1);
}

pub async fn a_wait_ends_with_the_next_event(f: &Fixture) {
    let (run, base) = begin(f).await;
    let (_, last) = join(
        async {
            while f.engine.read(run, base, 1).await.unwrap().is_empty() {
                f.engine.changed(run, base, WAIT).await.unwrap();
            }
        },
        async {
            tokio::task::yield_now().await;
            append(f, run, &["a"]).await
        },
    )
    .await;
    assert_eq!(last, base + 1);
}

pub async fn a_wait_for_what_is_there_ends_at_once(f: &Fixture) {
    let (run, base) = begin(f).await;
    append(f, run, &["a"]).await;
    let waiting = f.engine.changed(run, base, Duration::MAX);
    tokio::time::timeout(WAIT, waiting)
        .await
        .expect("it is there")
        .unwrap();
}

pub async fn a_wait_in_vain_ends_in_time(f: &Fixture) {
    let (run, base) = begin(f).await;
    for wait in [Duration::ZERO, Duration::from_millis(20)] {
        let waiting = f.engine.changed(run, base, wait);
        tokio::time::timeout(WAIT, waiting)
            .await
            .expect("it ends")
            .unwrap();
    }
}

/// A reader that reads and waits in turn keeps up with a writer that never waits for it.
pub async fn no_wake_up_is_lost(f: &Fixture) {
    let (run, base) = begin(f).await;
    let engine = Arc::clone(&f.engine);
    let writer = tokio::spawn(async move {
        for n in 0..200 {
            engine
                .append(run, vec![note(&n.to_string())])
                .await
                .unwrap();
            if n % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let mut after = base;
    while after < base + 200 {
        let events = f.engine.read(run, after, 3).await.unwrap();
        match events.last() {
            Some(event) => after = event.seq,
            None => f.engine.changed(run, after, Duration::MAX).await.unwrap(),
        }
    }
    writer.await.unwrap();
}

pub async fn trimmed_events_are_gone_and_the_numbering_goes_on(f: &Fixture) {
    let (run, base) = begin(f).await;
    append(f, run, &["a", "b", "c"]).await;
    f.engine.trim(run, base + 2).await.unwrap();
    for after in 0..base + 2 {
        let error = f.engine.read(run, after, 10).await.unwrap_err();
        assert!(
            matches!(error, Error::Pruned { first, .. } if first == base + 3),
            "{error}"
        );
    }
    assert_eq!(
        seqs(&f.engine.read(run, base + 2, 10).await.unwrap()),
        [base + 3]
    );
    f.engine.trim(run, base + 1).await.unwrap();
    assert_eq!(append(f, run, &["d"]).await, base + 4);
    f.engine.trim(run, base + 4).await.unwrap();
    assert_eq!(append(f, run, &["e"]).await, base + 5);
    assert_eq!(
        seqs(&f.engine.read(run, base + 4, 10).await.unwrap()),
        [base + 5]
    );
}

async fn collect(f: &Fixture, run: RunId, after: u64, limit: usize) -> Vec<Event> {
    let events = tail(Arc::clone(&f.engine), run, after).take(limit);
    events.map(|event| event.unwrap()).collect().await
}

pub async fn a_tail_replays_and_then_follows_to_the_end(f: &Fixture) {
    let (run, base) = begin(f).await;
    append(f, run, &["a", "b"]).await;
    let (events, ()) = join(collect(f, run, base, 100), async {
        for text in ["c", "d"] {
            tokio::task::yield_now().await;
            append(f, run, &[text]).await;
        }
        f.engine.append(run, vec![end()]).await.unwrap();
    })
    .await;
    assert_eq!(seqs(&events), (base + 1..=base + 5).collect::<Vec<_>>());
}

pub async fn a_tail_resumes_with_each_event_once(f: &Fixture) {
    let (run, base) = begin(f).await;
    let engine = Arc::clone(&f.engine);
    let writer = tokio::spawn(async move {
        for n in 0..50 {
            engine
                .append(run, vec![note(&n.to_string())])
                .await
                .unwrap();
            tokio::task::yield_now().await;
        }
        engine.append(run, vec![end()]).await.unwrap();
    });
    let mut seen: Vec<u64> = Vec::new();
    loop {
        let after = seen.last().copied().unwrap_or(base);
        let events = collect(f, run, after, 7).await;
        seen.extend(seqs(&events));
        if events.iter().any(|event| event.event_type.is_terminal()) {
            break;
        }
    }
    writer.await.unwrap();
    assert_eq!(seen, (base + 1..=base + 51).collect::<Vec<_>>());
}

pub async fn a_tail_that_resumes_at_the_end_ends(f: &Fixture) {
    let (run, _) = begin(f).await;
    let last = f.engine.append(run, vec![note("a"), end()]).await.unwrap();
    assert!(collect(f, run, last, 10).await.is_empty());
}

pub async fn a_tail_over_trimmed_events_says_so(f: &Fixture) {
    let (run, base) = begin(f).await;
    append(f, run, &["a", "b"]).await;
    f.engine.trim(run, base + 1).await.unwrap();
    let mut events = std::pin::pin!(tail(Arc::clone(&f.engine), run, base));
    assert!(matches!(
        events.next().await,
        Some(Err(Error::Pruned { .. }))
    ));
    assert!(events.next().await.is_none());
}

pub async fn a_tail_longer_than_its_page_is_complete(f: &Fixture) {
    let (run, base) = begin(f).await;
    let many = TAIL_PAGE * 2 + 3;
    let events = (0..many).map(|n| note(&n.to_string())).chain([end()]);
    let last = f.engine.append(run, events.collect()).await.unwrap();
    let events = collect(f, run, base, usize::MAX).await;
    assert_eq!(seqs(&events), (base + 1..=last).collect::<Vec<_>>());
}

pub async fn many_tails_see_the_same(f: &Fixture) {
    let (run, base) = begin(f).await;
    let tails: Vec<_> = (0..5)
        .map(|_| {
            let engine = Arc::clone(&f.engine);
            let events = tail(engine, run, base).map(|event| event.unwrap().seq);
            tokio::spawn(events.collect::<Vec<_>>())
        })
        .collect();
    for n in 0..20 {
        append(f, run, &[&n.to_string()]).await;
    }
    f.engine.append(run, vec![end()]).await.unwrap();
    for tail in tails {
        assert_eq!(
            tail.await.unwrap(),
            (base + 1..=base + 21).collect::<Vec<_>>()
        );
    }
}
