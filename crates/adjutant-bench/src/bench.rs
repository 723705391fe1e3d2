//! What all topics share: settings, places for files, and the rows so far.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use adjutant_sqlite::{SqliteConfig, SqliteStore};
use adjutant_store::{MemoryConfig, MemoryStore, Store};
use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::report::{self, Row};

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
}

impl Engine {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "sqlite disk",
            Self::Ram => "sqlite ram",
            Self::Memory(_) => "memory",
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
            Engine::Disk => self.disk(),
            Engine::Ram | Engine::Memory(_) => self.ram(),
        };
        base.join(format!("{}.db", self.stores))
    }

    /// An empty store.
    pub async fn store(&mut self, engine: Engine) -> Result<Arc<dyn Store>> {
        if let Engine::Memory(keep_finished) = engine {
            return Ok(Arc::new(MemoryStore::with(MemoryConfig {
                keep_finished,
                ..MemoryConfig::default()
            })));
        }
        let path = self.file(engine);
        Ok(Arc::new(SqliteStore::open(SqliteConfig::at(path)).await?))
    }
}

/// The directory that this program was built into.
pub fn build_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("failed to find this program's own file")?;
    let dir = exe
        .parent()
        .context("this program's file has no directory")?;
    Ok(dir.to_owned())
}
