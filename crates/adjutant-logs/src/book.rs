//! The way in: lines are taken at once or not at all.

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    config::Config,
    error::{Error, Result},
    record::{Level, Record, Stream},
    ring::Ring,
    rotate,
    writer::Writer,
};

/// What may wait to be written, of one instance.
const MAX_WAITING_OF_ONE: usize = 1024 * 1024;

/// What may wait to be written, of all instances.
const MAX_WAITING: usize = 16 * 1024 * 1024;

/// What a waiting line costs besides its text.
const LINE_COST: usize = 128;

/// Takes in the lines of many instances and has them written. Cheap to clone; the last clone's end closes it, without
/// waiting for what is still to be written.
#[derive(Debug, Clone)]
pub struct LogBook {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: Option<PathBuf>,
    jobs: Sender<Job>,
    waiting: Arc<AtomicUsize>,
    ring: Arc<Mutex<Ring>>,
    /// Hears when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

/// What the writing thread gets.
#[derive(Debug)]
pub(crate) enum Job {
    Line(Waiting),
    /// An instance has ended: tell what it lost, and close its file.
    End(Arc<Instance>),
    /// Write all there is and end, within this time as far as others are waited for.
    Close(Duration),
}

/// A line that waits to be written.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) instance: Arc<Instance>,
    pub(crate) run_id: Option<Arc<str>>,
    pub(crate) time: Timestamp,
    pub(crate) stream: Stream,
    pub(crate) said: Said,
    cost: usize,
    all: Arc<AtomicUsize>,
}

/// What a line says.
#[derive(Debug)]
pub(crate) enum Said {
    /// As it came; its level is still to be found.
    Raw(Box<[u8]>),
    /// With all that is known.
    Known(Level, String, Map<String, Value>),
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.cost, Ordering::Relaxed);
        self.instance
            .waiting
            .fetch_sub(self.cost, Ordering::Relaxed);
    }
}

/// What is known of an instance on both sides.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: Arc<str>,
    /// Lines that were not taken and not told of yet.
    pub(crate) dropped: AtomicU64,
    waiting: AtomicUsize,
}

impl LogBook {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When the folder cannot be made, or the thread cannot be started.
    pub fn start(config: Config) -> Result<Self> {
        let stdout = config.stdout.then(|| Box::new(std::io::stdout()) as Box<_>);
        Self::with_stdout(config, stdout)
    }

    /// The same with something else for stdout.
    ///
    /// # Errors
    /// As above.
    pub fn with_stdout(config: Config, stdout: Option<Box<dyn Write + Send>>) -> Result<Self> {
        if let Some(dir) = &config.dir {
            std::fs::create_dir_all(dir).map_err(Error::file(dir))?;
            rotate::sweep(dir, config.rotation.max_age);
        }
        let (jobs, queue) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let dir = config.dir.clone();
        let ring = Arc::new(Mutex::new(Ring::default()));
        let writer = Writer::start(config, stdout, Arc::clone(&ring))?;
        thread::Builder::new()
            .name("adjutant-logs".to_owned())
            .spawn(move || {
                // Dropped with the thread, which is what `close` waits for.
                let _end = end;
                writer.run(&queue);
            })
            .map_err(|source| Error::Thread { source })?;
        Ok(Self {
            shared: Arc::new(Shared {
                dir,
                jobs,
                waiting: Arc::new(AtomicUsize::new(0)),
                ring,
                ended: Mutex::new(ended),
            }),
        })
    }

    /// The log of an instance. Dropping it closes the instance's file.
    #[must_use]
    pub fn instance(&self, name: &str) -> InstanceLog {
        InstanceLog {
            shared: Arc::clone(&self.shared),
            instance: Arc::new(Instance {
                name: name.into(),
                dropped: AtomicU64::new(0),
                waiting: AtomicUsize::new(0),
            }),
        }
    }

    /// The folder of the files, if there are files.
    #[must_use]
    pub fn dir(&self) -> Option<&std::path::Path> {
        self.shared.dir.as_deref()
    }

    /// What an instance logged last, as far as it is among the last MiB of all instances; oldest first.
    #[must_use]
    pub fn recent(&self, instance: &str) -> Vec<Record> {
        let ring = self.shared.ring.lock();
        let ring = ring.unwrap_or_else(PoisonError::into_inner);
        let own = ring.iter().filter(|record| &*record.instance == instance);
        own.cloned().collect()
    }

    /// Writes what has been taken in so far and ends the thread; false when that is not done within `patience`. Lines
    /// that come later are lost.
    pub fn close(&self, patience: Duration) -> bool {
        if self.shared.jobs.send(Job::Close(patience)).is_err() {
            return true;
        }
        let ended = self.shared.ended.lock();
        let ended = ended.unwrap_or_else(PoisonError::into_inner);
        // The thread sends nothing: its end closes the channel.
        ended.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

/// Takes in the lines of one instance.
#[derive(Debug)]
pub struct InstanceLog {
    shared: Arc<Shared>,
    instance: Arc<Instance>,
}

impl InstanceLog {
    /// Takes in a line as the instance wrote it, without its end. Never waits: when too much waits to be written, the
    /// line is dropped and counted.
    pub fn line(&self, run_id: Option<&str>, stream: Stream, line: &[u8]) {
        self.put(run_id, stream, line.len(), || Said::Raw(line.into()));
    }

    /// Takes in what is no plain line. Never waits, as above.
    pub fn record(
        &self,
        run_id: Option<&str>,
        stream: Stream,
        level: Level,
        message: &str,
        fields: Map<String, Value>,
    ) {
        self.put(run_id, stream, message.len(), || {
            Said::Known(level, message.to_owned(), fields)
        });
    }

    fn put(
        &self,
        run_id: Option<&str>,
        stream: Stream,
        length: usize,
        said: impl FnOnce() -> Said,
    ) {
        let cost = length + LINE_COST;
        let own = self.instance.waiting.fetch_add(cost, Ordering::Relaxed);
        let all = self.shared.waiting.fetch_add(cost, Ordering::Relaxed);
        if own + cost > MAX_WAITING_OF_ONE || all + cost > MAX_WAITING {
            self.instance.waiting.fetch_sub(cost, Ordering::Relaxed);
            self.shared.waiting.fetch_sub(cost, Ordering::Relaxed);
            self.instance.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let waiting = Waiting {
            instance: Arc::clone(&self.instance),
            run_id: run_id.map(Into::into),
            time: Timestamp::now(),
            stream,
            said: said(),
            cost,
            all: Arc::clone(&self.shared.waiting),
        };
        // After the end of the thread there is nobody to write it.
        let _ = self.shared.jobs.send(Job::Line(waiting));
    }
}

impl Drop for InstanceLog {
    fn drop(&mut self) {
        let _ = self.shared.jobs.send(Job::End(Arc::clone(&self.instance)));
    }
}
