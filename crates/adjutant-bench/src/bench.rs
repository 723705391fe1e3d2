//! What all topics share: settings, places for files, and the rows so far.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_postgres::PostgresConfig;
use adjutant_redis::RedisConfig;
use adjutant_servers::AppendFsync;
use adjutant_sqlite::SqliteConfig;
use adjutant_store::{MemoryConfig, MemoryStore, Store};
use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    report::{self, Row},
    servers::Servers,
};

/// Where Linux keeps a file system in memory.
const RAM_DISK: &str = "/dev/shm";

/// What a row's store is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite on a disk, each group of writes synced.
    Disk,
    /// The same with files in memory, where a sync costs nothing.
    Ram,
    /// The memory engine; it keeps this many finished runs.
    Memory(usize),
    /// A private PostgreSQL on the disk that syncs before it answers.
    Postgres,
    /// A private Redis on the disk that syncs like this.
    Redis(AppendFsync),
}

impl Engine {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "sqlite disk",
            Self::Ram => "sqlite ram",
            Self::Memory(_) => "memory",
            Self::Postgres => "postgres",
            Self::Redis(AppendFsync::Off) => "redis no log",
            Self::Redis(AppendFsync::EverySecond) => "redis everysec",
            Self::Redis(AppendFsync::Always) => "redis always",
        }
    }
}

/// One run of the program.
pub struct Bench {
    /// For each row.
    pub time: Duration,
    /// Smaller data.
    pub quick: bool,
    only: Option<String>,
    print: bool,
    disk: TempDir,
    ram: Option<TempDir>,
    stores: usize,
    rows: Vec<Row>,
    servers: Servers,
}

impl Bench {
    pub fn new(
        time: Duration,
        quick: bool,
        only: Option<String>,
        dir: Option<PathBuf>,
        print: bool,
    ) -> Result<Self> {
        // /tmp may be in memory; the build directory hardly is.
        let dir = match dir {
            Some(dir) => dir,
            None => build_dir()?,
        };
        let named = |base: &Path| {
            tempfile::Builder::new()
                .prefix("adjutant-bench-")
                .tempdir_in(base)
        };
        let disk = named(&dir).with_context(|| format!("failed to write to {}", dir.display()))?;
        Ok(Self {
            time,
            quick,
            only,
            print,
            disk,
            ram: named(Path::new(RAM_DISK)).ok(),
            stores: 0,
            rows: Vec::new(),
            servers: Servers::default(),
        })
    }

    /// Whether any of these rows was asked for.
    pub fn wants(&self, names: &[&str]) -> bool {
        let Some(only) = &self.only else {
            return true;
        };
        names.iter().any(|name| name.contains(only.as_str()))
    }

    pub fn push(&mut self, row: Row) {
        if self.print {
            crate::print_line(&row.line());
        }
        self.rows.push(row);
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row with this name, once it is measured.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    pub fn heading(&self) {
        if self.print {
            crate::print_line(&report::heading());
        }
    }

    pub fn disk(&self) -> &Path {
        self.disk.path()
    }

    /// A place in memory, or on disk where there is none.
    pub fn ram(&self) -> &Path {
        self.ram.as_ref().unwrap_or(&self.disk).path()
    }

    pub fn has_ram(&self) -> bool {
        self.ram.is_some()
    }

    /// A file that is not there yet.
    pub fn file(&mut self, engine: Engine) -> PathBuf {
        self.stores += 1;
        let base = match engine {
            Engine::Ram | Engine::Memory(_) => self.ram(),
            _ => self.disk(),
        };
        base.join(format!("{}.db", self.stores))
    }

    /// An empty store.
    pub async fn store(&mut self, engine: Engine) -> Result<Arc<dyn Store>> {
        self.opener(engine)?.open().await
    }

    /// The URL of the engine's server, which is started for the first row that needs it.
    pub fn server(&mut self, engine: Engine) -> Result<String> {
        self.servers.url(engine)
    }

    /// What opens an empty store, also on another thread.
    pub fn opener(&mut self, engine: Engine) -> Result<Opener> {
        let path = self.file(engine);
        let url = match engine {
            Engine::Postgres => with_parameter(&self.server(engine)?, "schema", self.stores),
            Engine::Redis(_) => with_parameter(&self.server(engine)?, "prefix", self.stores),
            _ => String::new(),
        };
        Ok(Opener { engine, path, url })
    }
}

/// A store that is still to be opened; on a server, by several.
#[derive(Clone)]
pub struct Opener {
    engine: Engine,
    path: PathBuf,
    url: String,
}

impl Opener {
    pub async fn open(self) -> Result<Arc<dyn Store>> {
        Ok(match self.engine {
            Engine::Disk | Engine::Ram => open(&self.path).await?,
            Engine::Memory(keep_finished) => Arc::new(MemoryStore::with(MemoryConfig {
                keep_finished,
                ..MemoryConfig::default()
            })),
            Engine::Postgres => {
                let config = PostgresConfig::parse(&self.url)?;
                Arc::new(adjutant_postgres::open(config).await?)
            }
            Engine::Redis(_) => {
                let config = RedisConfig::parse(&self.url)?;
                Arc::new(adjutant_redis::open(config).await?)
            }
        })
    }
}

/// The URL with a place of its own for one store.
fn with_parameter(url: &str, name: &str, store: usize) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}{name}=bench{store}")
}

/// The SQLite store in this file, with its defaults: every write is synced.
pub async fn open(path: &Path) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(
        adjutant_sqlite::open(SqliteConfig::at(path)).await?,
    ))
}

/// Counts what is done in a measured time, after a warm-up that is not counted.
#[derive(Debug, Clone)]
pub struct Meter {
    from: Instant,
    until: Instant,
    last: Instant,
    count: u64,
}

impl Meter {
    /// Warms up for a quarter of `time`, then counts for `time`.
    pub fn start(time: Duration) -> Self {
        let from = Instant::now() + time / 4;
        Self {
            from,
            until: from + time,
            last: from,
            count: 0,
        }
    }

    /// When the warm-up is over.
    pub fn from(&self) -> Instant {
        self.from
    }

    pub fn is_running(&self) -> bool {
        Instant::now() < self.until
    }

    /// Counts something that was done at `at`; false during the warm-up.
    pub fn count(&mut self, at: Instant) -> bool {
        let counts = at >= self.from;
        if counts {
            self.count += 1;
            self.last = self.last.max(at);
        }
        counts
    }

    /// Adds what another one has counted in the same time.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.last = self.last.max(other.last);
    }

    pub fn total(&self) -> u64 {
        self.count
    }

    /// Per second, up to the last one that was counted.
    pub fn rate(&self) -> f64 {
        self.count as f64 / (self.last - self.from).as_secs_f64()
    }
}

/// Processor time of this process so far, all threads.
pub fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The directory that this program was built into.
pub fn build_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("failed to find this program's own file")?;
    let dir = exe
        .parent()
        .context("this program's file has no directory")?;
    Ok(dir.to_owned())
}
