//! The files of one log, read from the oldest on as if they were one.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::rotate::numbered;

/// More files than this are never looked for.
const MAX_FILES: u32 = 10_000;

/// A cut moves the files one by one, so that there is a gap where it is just at work; two cuts may overtake a reader.
const MAX_GAP: u32 = 4;

/// One log with all that was cut off it.
#[derive(Debug)]
pub(crate) struct Chain {
    path: PathBuf,
    open: Option<Open>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    /// Whether files went away before they were read.
    pub(crate) lost: bool,
}

#[derive(Debug)]
struct Open {
    reader: BufReader<File>,
    inode: u64,
}

impl Open {
    fn new(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self {
                inode: file.metadata()?.ino(),
                reader: BufReader::new(file),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Chain {
    /// The log whose newest lines are in `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: None,
            partial: Vec::new(),
            lost: false,
        }
    }

    /// The next line that is written whole; `None` when there is none yet.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<String>> {
        loop {
            let Some(open) = &mut self.open else {
                self.open = self.successor()?;
                if self.open.is_none() {
                    return Ok(None);
                }
                continue;
            };
            if read_line(open, &mut self.partial)? {
                return Ok(Some(self.take_line()));
            }
            // Look for a newer file first, then once more into this one: it was written to until the newer one came.
            let Some(next) = self.successor()? else {
                return Ok(None);
            };
            let Some(open) = &mut self.open else { continue };
            let whole = read_line(open, &mut self.partial)?;
            if !whole {
                self.open = Some(next);
            }
            // A writer that died may have left half a line.
            if whole || !self.partial.is_empty() {
                return Ok(Some(self.take_line()));
            }
        }
    }

    fn take_line(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial.clear();
        line
    }

    /// The file that follows the one being read, or the oldest one at the beginning.
    ///
    /// Goes from the newest back. A cut meanwhile moves files to names that are still to be looked at, so that some are
    /// seen twice and none is missed. The number of the file being read cannot be given to another one while it is open.
    fn successor(&mut self) -> io::Result<Option<Open>> {
        let current = self.open.as_ref().map(|open| open.inode);
        let mut next: Option<Open> = None;
        let mut gap = 0;
        for number in 0..MAX_FILES {
            let path = match number {
                0 => self.path.clone(),
                _ => numbered(&self.path, number),
            };
            match Open::new(&path)? {
                Some(open) if Some(open.inode) == current => return Ok(next),
                Some(open) => {
                    next = Some(open);
                    gap = 0;
                }
                None if gap < MAX_GAP => gap += 1,
                None => break,
            }
        }
        self.lost |= current.is_some() && next.is_some();
        Ok(next)
    }
}

/// Reads on to the end of a line, which is not kept; false when that is not written yet.
fn read_line(open: &mut Open, line: &mut Vec<u8>) -> io::Result<bool> {
    open.reader.read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(true);
    }
    Ok(false)
}
