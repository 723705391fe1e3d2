//! A sink that is slow, broken or gone never makes anybody wait.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use adjutant_core::{ModelRequest, RunId};
use adjutant_telemetry::{
    AttemptInfo, ConsoleExporter, ConsoleStyle, Exporter, Lost, Outcome, QUEUE_RECORDS, Queued,
    Record, TraceSink, Tracer, TracerOptions,
};
use async_trait::async_trait;

/// Waits in `export` until it is let go, or fails.
struct Slow {
    gate: mpsc::Receiver<()>,
    exported: Arc<AtomicUsize>,
    fails: bool,
}

#[async_trait]
impl Exporter for Slow {
    async fn export(&mut self, batch: Vec<Record>) -> Result<(), Lost> {
        // Blocks its whole thread, as a bad exporter may.
        let _ = self.gate.recv();
        self.exported.fetch_add(batch.len(), Ordering::SeqCst);
        match self.fails {
            true => Err(Lost {
                records: batch.len() as u64,
                reason: "out of order".into(),
            }),
            false => Ok(()),
        }
    }

    async fn flush(&mut self) {}
}

fn slow(fails: bool) -> (Arc<Queued>, mpsc::Sender<()>, Arc<AtomicUsize>) {
    let (open, gate) = mpsc::channel();
    let exported = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&exported);
    let make = move || {
        Ok(Slow {
            gate,
            exported: count,
            fails,
        })
    };
    (
        Arc::new(Queued::start("test", make).unwrap()),
        open,
        exported,
    )
}

fn step(tracer: &Tracer) {
    tracer
        .attempt(AttemptInfo::new(RunId::new(), "a", 1, 1))
        .end(Outcome::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stuck_sink_cannot_take_is_dropped_and_counted() {
    let (sink, open, exported) = slow(false);
    let tracer = Tracer::new(sink.clone(), TracerOptions::default());
    // An attempt is a span and four figures. All of this returns although nothing is ever taken away.
    let attempts = QUEUE_RECORDS;
    for _ in 0..attempts {
        step(&tracer);
    }
    let dropped = usize::try_from(sink.dropped()).unwrap();
    assert!(dropped > 0);
    drop(open);
    sink.flush().await;
    let dropped_at_end = usize::try_from(sink.dropped()).unwrap();
    assert_eq!(
        exported.load(Ordering::SeqCst) + dropped_at_end,
        attempts * 5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_exporter_loses_is_counted() {
    let (sink, open, _) = slow(true);
    drop(open);
    step(&Tracer::new(sink.clone(), TracerOptions::default()));
    sink.flush().await;
    assert_eq!(sink.dropped(), 5);
}

#[tokio::test]
async fn a_flush_passes_on_all_that_was_taken_before_it() {
    let (sink, open, exported) = slow(false);
    drop(open);
    let tracer = Tracer::new(sink.clone(), TracerOptions::default());
    for _ in 0..500 {
        step(&tracer);
    }
    tracer.flush().await;
    assert_eq!((exported.load(Ordering::SeqCst), sink.dropped()), (2500, 0));
}

/// Bytes that a test can look at.
#[derive(Clone, Default)]
struct Buffer(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn shown(style: ConsoleStyle, end: bool) -> String {
    let buffer = Buffer::default();
    let sink = Arc::new(ConsoleExporter::start(buffer.clone(), style).unwrap());
    let tracer = Tracer::new(sink, TracerOptions::default());
    let attempt = tracer.attempt(AttemptInfo::new(RunId::new(), "triage", 1, 1));
    let step = attempt.step("fetch");
    drop(step.scope().chat(&ModelRequest::default()));
    step.end(Ok(()));
    attempt.step("report").end(Ok(()));
    if end {
        attempt.end(Outcome::Succeeded);
    } else {
        tracer.flush().await;
    }
    tracer.flush().await;
    String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
}

#[tokio::test]
async fn the_console_shows_a_trace_as_a_tree() {
    let text = shown(ConsoleStyle::Tree, true).await;
    let heads: Vec<&str> = text
        .lines()
        .map(|line| line.split("  ").next().unwrap())
        .collect();
    assert_eq!(heads[0], "invoke_agent triage", "{text}");
    assert_eq!(heads[1], "├─ step fetch", "{text}");
    assert!(
        text.lines()
            .nth(2)
            .unwrap()
            .starts_with("│  └─ chat default"),
        "{text}"
    );
    assert_eq!(heads[3], "└─ step report", "{text}");
    assert!(
        text.contains("succeeded  run_") && text.contains("cancelled: "),
        "{text}"
    );
}

#[tokio::test]
async fn a_flush_shows_traces_that_are_not_over() {
    let text = shown(ConsoleStyle::Tree, false).await;
    assert!(
        text.starts_with("step fetch") && text.contains("step report"),
        "{text}"
    );
}

#[tokio::test]
async fn the_console_writes_a_json_object_a_line() {
    let text = shown(ConsoleStyle::Json, true).await;
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let named = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap();
    let root = named("invoke_agent triage");
    assert_eq!(named("step fetch")["parent"], root["span_id"]);
    assert_eq!(root["trace_id"].as_str().unwrap().len(), 32);
    assert!(
        lines
            .iter()
            .any(|line| line["metric"] == "gen_ai.client.operation.duration")
    );
}
