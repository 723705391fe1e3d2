//! From whoever is traced to a sink that may be slow, without making the former wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc as std_mpsc,
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{Error, Measurement, Result, Span, TraceSink};

/// Spans and figures that wait to be passed on. What comes when so many wait is dropped.
pub const QUEUE_RECORDS: usize = 4096;

/// Spans and figures that are passed on at once.
const BATCH_RECORDS: usize = 512;

/// How long a batch waits for more.
const LINGER: Duration = Duration::from_millis(500);

/// Longest that a flush takes.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// A span or a figure on its way.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A span.
    Span(Box<Span>),
    /// A figure.
    Measurement(Measurement),
}

/// The far end of a [`Queued`] sink. It lives on a thread and a runtime of its own, so it may take its time.
#[async_trait]
pub trait Exporter: Send {
    /// Passes on a batch, in order.
    ///
    /// # Errors
    /// When some of the batch is lost.
    async fn export(&mut self, batch: Vec<Record>) -> Result<(), Lost>;
    /// Passes on whatever it still holds, within a bounded time.
    async fn flush(&mut self);
    /// The last call: passes on whatever it still holds, and lets go of the rest.
    async fn close(&mut self) {
        self.flush().await;
    }
}

/// What an exporter could not pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// How many spans and figures.
    pub records: u64,
    /// Why, for the log.
    pub reason: String,
}

enum Message {
    Record(Record),
    Flush(oneshot::Sender<()>),
}

/// A sink with a bounded queue before an [`Exporter`].
#[derive(Debug)]
pub struct Queued {
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
    /// Whether the log has been told that the queue was full.
    told: AtomicBool,
}

impl Queued {
    /// Starts a thread of this name that makes an exporter and drives it until the sink is dropped.
    ///
    /// # Errors
    /// When there can be no thread, or `make` fails.
    pub fn start<E: Exporter>(
        name: &str,
        make: impl FnOnce() -> Result<E> + Send + 'static,
    ) -> Result<Self> {
        let (queue, messages) = mpsc::channel(QUEUE_RECORDS);
        let dropped = Arc::new(AtomicU64::new(0));
        let (ready, is_ready) = std_mpsc::sync_channel(1);
        let lost = Arc::clone(&dropped);
        let thread = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(Error::setup("start a runtime for telemetry", error)));
                    return;
                }
            };
            runtime.block_on(async {
                // Made in here, for gRPC wants a runtime when it is made.
                match make() {
                    Ok(exporter) => {
                        let _ = ready.send(Ok(()));
                        drive(exporter, messages, &lost).await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(thread)
            .map_err(|error| Error::setup("start the telemetry thread", error))?;
        is_ready
            .recv()
            .map_err(|error| Error::setup("start the telemetry thread", error))??;
        let told = AtomicBool::new(false);
        Ok(Self {
            queue,
            dropped,
            told,
        })
    }

    fn offer(&self, record: Record) {
        if self.queue.try_send(Message::Record(record)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            if !self.told.swap(true, Ordering::Relaxed) {
                tracing::warn!("telemetry comes faster than it can be passed on; some is dropped");
            }
        }
    }
}

#[async_trait]
impl TraceSink for Queued {
    fn record(&self, span: Span) {
        self.offer(Record::Span(Box::new(span)));
    }

    fn metric(&self, measurement: Measurement) {
        self.offer(Record::Measurement(measurement));
    }

    async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let flush = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = is_done.await;
            }
        };
        if timeout(FLUSH_TIMEOUT, flush).await.is_err() {
            tracing::warn!("telemetry could not be passed on within {FLUSH_TIMEOUT:?}");
        }
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Gathers batches and passes them on until nobody can send any more.
async fn drive(
    mut exporter: impl Exporter,
    mut messages: mpsc::Receiver<Message>,
    dropped: &AtomicU64,
) {
    let mut outage = Outage::default();
    while let Some(first) = messages.recv().await {
        let (batch, flush) = gather(first, &mut messages).await;
        if !batch.is_empty() {
            let result = exporter.export(batch).await;
            if let Err(lost) = &result {
                dropped.fetch_add(lost.records, Ordering::Relaxed);
            }
            outage.note(result);
        }
        if let Some(flush) = flush {
            exporter.flush().await;
            let _ = flush.send(());
        }
    }
    exporter.close().await;
}

/// A batch that begins with `first`: full, as old as it may get, or cut short by a flush.
async fn gather(
    first: Message,
    messages: &mut mpsc::Receiver<Message>,
) -> (Vec<Record>, Option<oneshot::Sender<()>>) {
    let mut batch = Vec::new();
    let mut next = Some(first);
    let deadline = tokio::time::Instant::now() + LINGER;
    loop {
        match next {
            Some(Message::Record(record)) => batch.push(record),
            Some(Message::Flush(flush)) => return (batch, Some(flush)),
            None => return (batch, None),
        }
        if batch.len() >= BATCH_RECORDS {
            return (batch, None);
        }
        next = tokio::time::timeout_at(deadline, messages.recv())
            .await
            .unwrap_or(None);
    }
}

/// Tells once that records are lost, and once that it is over.
#[derive(Default)]
struct Outage {
    lost: u64,
}

impl Outage {
    fn note(&mut self, result: Result<(), Lost>) {
        match result {
            Ok(()) if self.lost > 0 => {
                tracing::warn!(lost = self.lost, "telemetry is passed on again");
                self.lost = 0;
            }
            Ok(()) => {}
            Err(Lost { records, reason }) => {
                if self.lost == 0 {
                    tracing::warn!(reason, "telemetry cannot be passed on and is dropped");
                }
                self.lost += records;
            }
        }
    }
}
