//! Reading logs back: of all instances, in the order of their times, while they are written and afterwards.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    chain::Chain,
    error::{Error, Result},
    query::Query,
    record::Record,
    text,
};

/// Reads the logs in a folder. When [`next_record`](Self::next_record) has no more, more may come: ask again later.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    query: Query,
    logs: BTreeMap<PathBuf, Log>,
    lost: bool,
}

/// One log, read one record ahead.
#[derive(Debug)]
struct Log {
    chain: Chain,
    head: Option<Record>,
}

impl Reader {
    /// Reads from the oldest line on. A folder that does not exist has no lines yet.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn new(dir: impl Into<PathBuf>, query: Query) -> Result<Self> {
        let mut reader = Self {
            dir: dir.into(),
            query,
            logs: BTreeMap::new(),
            lost: false,
        };
        reader.find()?;
        Ok(reader)
    }

    /// The next line that is wanted, the oldest of those that are there now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        if let Some(record) = self.take()? {
            return Ok(Some(record));
        }
        self.find()?;
        self.take()
    }

    /// Whether files were removed before they were read, so that lines are missing; tells it once.
    pub fn lost_lines(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    fn take(&mut self) -> Result<Option<Record>> {
        for (path, log) in &mut self.logs {
            log.fill(&self.query).map_err(Error::file(path))?;
            self.lost |= std::mem::take(&mut log.chain.lost);
        }
        let logs = self.logs.values_mut();
        let oldest = logs
            .filter(|log| log.head.is_some())
            .min_by_key(|log| log.head.as_ref().map(|head| head.time));
        Ok(oldest.and_then(|log| log.head.take()))
    }

    /// Looks for logs that are new.
    fn find(&mut self) -> Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file(&self.dir)(error)),
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(base) = name.to_str().and_then(base) else {
                continue;
            };
            if self
                .query
                .instance
                .as_deref()
                .is_some_and(|wanted| !may_be(base, wanted))
            {
                continue;
            }
            let path = self.dir.join(format!("{base}.log"));
            self.logs.entry(path).or_insert_with_key(|path| Log {
                chain: Chain::new(path.clone()),
                head: None,
            });
        }
        Ok(())
    }

    /// Where it reads.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Log {
    fn fill(&mut self, query: &Query) -> std::io::Result<()> {
        while self.head.is_none() {
            let Some(line) = self.chain.next_line()? else {
                return Ok(());
            };
            if query.may_take(&line) {
                self.head = record(&line).filter(|record| query.takes(record));
            }
        }
        Ok(())
    }
}

/// The record in a line of a file, in whichever form.
pub(crate) fn record(line: &str) -> Option<Record> {
    if line.starts_with('{') {
        return serde_json::from_str(line).ok();
    }
    text::read(line)
}

/// What stands before `.log` or `.log.N` in a log's name.
pub(crate) fn base(name: &str) -> Option<&str> {
    if let Some(base) = name.strip_suffix(".log") {
        return Some(base);
    }
    let (rest, number) = name.rsplit_once('.')?;
    number.parse::<u32>().ok()?;
    rest.strip_suffix(".log")
}

/// Whether a file of this name may hold lines of the instance; those say for themselves whose they are.
fn may_be(base: &str, instance: &str) -> bool {
    let name = base.rsplit_once('~').map_or(base, |(name, _)| name);
    // Characters that are not fit for names of files were replaced, one for one.
    name.len() == instance.chars().count()
}
