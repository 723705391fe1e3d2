//! The thread that writes.

use std::{
    collections::HashMap,
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Map;

use crate::{
    book::{Instance, Job, Said, Waiting},
    config::{Config, Format},
    error::Result,
    fluentd::Forwarder,
    line,
    record::{Level, Record, Stream},
    ring::Ring,
    rotate::LogFile,
    text,
};

/// How long a written line may stay in memory, and how soon it is told what was dropped.
const TICK: Duration = Duration::from_millis(200);

/// How often it is told what was dropped while lines keep coming.
const TELL_DROPPED: Duration = Duration::from_secs(1);

/// Lines after which files are flushed even if more are waiting.
const FLUSH_AFTER: usize = 1000;

/// Files are closed when nothing was written to them for so long.
const CLOSE_IDLE: Duration = Duration::from_secs(30);

/// How long a file that cannot be written is left alone.
const RETRY_FILE: Duration = Duration::from_secs(5);

pub(crate) struct Writer {
    config: Config,
    stdout: Option<Box<dyn Write + Send>>,
    forwarder: Option<Forwarder>,
    ring: Arc<Mutex<Ring>>,
    logs: HashMap<Arc<str>, Log>,
}

/// What the thread knows of an instance that has written something.
struct Log {
    instance: Arc<Instance>,
    file: Option<LogFile>,
    /// When the last line was written.
    used: Instant,
    /// When it was last told in passing what was dropped.
    told: Instant,
    /// Do not try to open the file before.
    retry: Option<Instant>,
}

impl Writer {
    pub(crate) fn start(
        config: Config,
        stdout: Option<Box<dyn Write + Send>>,
        ring: Arc<Mutex<Ring>>,
    ) -> Result<Self> {
        let forwarder = config.fluentd.clone().map(Forwarder::start).transpose()?;
        Ok(Self {
            config,
            stdout,
            forwarder,
            ring,
            logs: HashMap::new(),
        })
    }

    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        let mut patience = Duration::ZERO;
        let mut unflushed = 0;
        loop {
            let wait = if unflushed > 0 { Duration::ZERO } else { TICK };
            match jobs.recv_timeout(wait) {
                Ok(Job::Line(waiting)) => {
                    self.take(&waiting);
                    unflushed += 1;
                }
                Ok(Job::End(instance)) => self.end(&instance),
                Ok(Job::Close(within)) => {
                    patience = within;
                    break;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.tell_dropped();
                    self.flush();
                    unflushed = 0;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if unflushed >= FLUSH_AFTER {
                self.flush();
                unflushed = 1;
            }
        }
        self.tell_dropped();
        self.flush();
        if let Some(forwarder) = self.forwarder.take() {
            forwarder.close(patience);
        }
    }

    fn take(&mut self, waiting: &Waiting) {
        let log = self
            .logs
            .entry(Arc::clone(&waiting.instance.name))
            .or_insert_with(|| Log::new(Arc::clone(&waiting.instance)));
        log.instance = Arc::clone(&waiting.instance);
        if log.told.elapsed() > TELL_DROPPED {
            log.told = Instant::now();
            self.tell_dropped_of(&waiting.instance);
        }
        self.write(record(waiting));
    }

    fn write(&mut self, record: Record) {
        let json = serde_json::to_string(&record).unwrap_or_default();
        let line = match self.config.format {
            Format::Json => &json,
            Format::Text => &text::line(&record),
        };
        if let Some(dir) = &self.config.dir
            && let Some(log) = self.logs.get_mut(&record.instance)
        {
            log.write(dir, &self.config, line);
        }
        if let Some(stdout) = &mut self.stdout
            && writeln!(stdout, "{line}").is_err()
        {
            // Nobody reads it any more.
            self.stdout = None;
        }
        let length = json.len();
        if let Some(forwarder) = &self.forwarder {
            forwarder.send(length, record.clone());
        }
        let ring = self.ring.lock();
        ring.unwrap_or_else(PoisonError::into_inner)
            .push(length, record);
    }

    /// Writes down how many lines of the instance were not taken.
    fn tell_dropped_of(&mut self, instance: &Arc<Instance>) {
        let dropped = instance.dropped.swap(0, Ordering::Relaxed);
        if dropped == 0 {
            return;
        }
        let mut fields = Map::new();
        fields.insert("dropped".to_owned(), dropped.into());
        self.write(Record {
            time: Timestamp::now(),
            level: Level::Warn,
            instance: Arc::clone(&instance.name),
            run_id: None,
            stream: Stream::Host,
            message: format!(
                "{dropped} lines were dropped: they came faster than they could be written"
            ),
            fields,
        });
    }

    fn tell_dropped(&mut self) {
        let instances: Vec<Arc<Instance>> = self
            .logs
            .values()
            .map(|log| Arc::clone(&log.instance))
            .collect();
        for instance in &instances {
            self.tell_dropped_of(instance);
        }
    }

    fn end(&mut self, instance: &Arc<Instance>) {
        self.tell_dropped_of(instance);
        let is_own = |log: &Log| Arc::ptr_eq(&log.instance, instance);
        if self.logs.get(&instance.name).is_some_and(is_own)
            && let Some(mut log) = self.logs.remove(&instance.name)
        {
            log.flush();
        }
    }

    fn flush(&mut self) {
        for log in self.logs.values_mut() {
            log.flush();
        }
        if let Some(stdout) = &mut self.stdout {
            let _ = stdout.flush();
        }
    }
}

impl Log {
    fn new(instance: Arc<Instance>) -> Self {
        Self {
            instance,
            file: None,
            used: Instant::now(),
            told: Instant::now(),
            retry: None,
        }
    }

    fn write(&mut self, dir: &std::path::Path, config: &Config, line: &str) {
        self.used = Instant::now();
        if self.retry.is_some_and(|retry| self.used < retry) {
            self.instance.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut write = || {
            let file = match self.file.take() {
                Some(file) => file,
                None => LogFile::open(dir, &self.instance.name, config.rotation)?,
            };
            self.file.insert(file).write(line)
        };
        match write() {
            Ok(()) => self.retry = None,
            Err(error) => self.failed(&error),
        }
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.flush()
        {
            self.failed(&error);
        }
        if self.used.elapsed() > CLOSE_IDLE {
            self.file = None;
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        tracing::warn!(instance = %self.instance.name, %error, "a log cannot be written; its lines are dropped for a while");
        self.instance.dropped.fetch_add(1, Ordering::Relaxed);
        self.file = None;
        self.retry = Some(Instant::now() + RETRY_FILE);
    }
}

/// How far the clock in a line may be from ours and still be believed.
const MAX_CLOCK_ERROR: i64 = 24 * 3600;

fn record(waiting: &Waiting) -> Record {
    let (level, time, message, fields) = match &waiting.said {
        Said::Known(level, message, fields) => (*level, None, message.clone(), fields.clone()),
        Said::Raw(bytes) => {
            let line = line::read(&String::from_utf8_lossy(bytes));
            let level = line.level.unwrap_or(Level::Info);
            (level, line.time, line.message, line.fields)
        }
    };
    let is_near =
        |time: &Timestamp| (time.as_second() - waiting.time.as_second()).abs() <= MAX_CLOCK_ERROR;
    Record {
        time: time.filter(is_near).unwrap_or(waiting.time),
        level,
        instance: Arc::clone(&waiting.instance.name),
        run_id: waiting.run_id.clone(),
        stream: waiting.stream,
        message,
        fields,
    }
}
