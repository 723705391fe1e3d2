//! The file of one instance: appended to, cut by size and age, and never shared by two writers.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{config::Rotation, read};

/// Other programs that may be writing the log of an instance with the same name.
const MAX_NAMESAKES: u32 = 99;

/// Text that waits to be handed to the operating system.
const BUFFER_BYTES: usize = 64 * 1024;

/// A file that is open for writing. Another program that opens it gets a file of its own, by the lock.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: BufWriter<File>,
    path: PathBuf,
    bytes: u64,
    /// When its first line was written.
    began: SystemTime,
    rotation: Rotation,
}

impl LogFile {
    /// Opens the log of an instance: `NAME.log`, or when somebody else writes that, `NAME~2.log` and so on.
    pub(crate) fn open(dir: &Path, instance: &str, rotation: Rotation) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        for number in 1..=MAX_NAMESAKES {
            let path = dir.join(file_name(instance, number));
            if let Some(file) = open_locked(&path)? {
                let mut log = Self::new(file, path, rotation)?;
                log.forget_old();
                return Ok(log);
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    fn new(file: File, path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        Ok(Self {
            bytes: file.metadata()?.len(),
            began: first_time(&path).unwrap_or_else(SystemTime::now),
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            path,
            rotation,
        })
    }

    /// Appends a line, cutting the file before if it is time for that.
    pub(crate) fn write(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        let too_large = self.bytes > 0 && self.bytes + length > self.rotation.max_bytes;
        let too_old = self.bytes > 0
            && self
                .began
                .elapsed()
                .is_ok_and(|age| age > self.rotation.max_age);
        if too_large || too_old {
            self.rotate()?;
        }
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.bytes += length;
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.flush()?;
        let most = self.rotation.files.saturating_sub(1);
        let cut = (1..most).take_while(|number| numbered(&self.path, *number).exists());
        for number in (1..=cut.count() as u32).rev() {
            fs::rename(
                numbered(&self.path, number),
                numbered(&self.path, number + 1),
            )?;
        }
        match most {
            0 => fs::remove_file(&self.path)?,
            _ => fs::rename(&self.path, numbered(&self.path, 1))?,
        }
        self.forget_old();
        // Between the rename and here somebody else may have begun a file of this name; that is theirs then.
        let file = open_locked(&self.path)?.ok_or(io::ErrorKind::ResourceBusy)?;
        *self = Self::new(file, self.path.clone(), self.rotation)?;
        Ok(())
    }

    /// Removes files whose last line is too old, and those over the number, which was higher once.
    fn forget_old(&mut self) {
        for number in 1.. {
            let path = numbered(&self.path, number);
            let Ok(data) = fs::metadata(&path) else {
                return;
            };
            let age = data.modified().ok().and_then(|time| time.elapsed().ok());
            if number >= self.rotation.files || age.is_some_and(|age| age > self.rotation.max_age) {
                // It may be gone already; then that was the aim.
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// Removes logs that nobody writes any more and whose last line is too old.
pub(crate) fn sweep(dir: &Path, max_age: Duration) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let old = entries.filter(|entry| {
        let written = entry.metadata().and_then(|data| data.modified()).ok();
        written
            .and_then(|time| time.elapsed().ok())
            .is_some_and(|age| age > max_age)
    });
    for entry in old {
        let path = entry.path();
        let is_log = path
            .file_name()
            .and_then(|name| read::base(name.to_str()?))
            .is_some();
        let is_free = || File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
        if is_log && is_free() {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Opens a file for appending, or `None` when somebody else has it.
fn open_locked(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Who had it before may have renamed it between the opening and the lock.
        if fs::metadata(path)
            .is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()))
        {
            return Ok(Some(file));
        }
    }
}

fn first_time(path: &Path) -> Option<SystemTime> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?)
        .read_line(&mut line)
        .ok()?;
    Some(read::record(line.trim_end())?.time.into())
}

/// The name of an instance's file, of which nothing leads out of the folder.
fn file_name(instance: &str, number: u32) -> String {
    let safe: String = instance
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => c,
            _ => '_',
        })
        .collect();
    match number {
        1 => format!("{safe}.log"),
        _ => format!("{safe}~{number}.log"),
    }
}

/// The file that was cut off `number` cuts ago.
pub(crate) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn no_more_than_the_files_allowed_are_kept_and_none_is_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            max_bytes: 100,
            files: 3,
            ..Rotation::default()
        };
        let mut log = LogFile::open(dir.path(), "a-01", rotation).unwrap();
        for number in 0..1000 {
            log.write(&format!("line {number}")).unwrap();
        }
        log.flush().unwrap();
        assert_eq!(names(dir.path()), ["a-01.log", "a-01.log.1", "a-01.log.2"]);
        for name in names(dir.path()) {
            let bytes = fs::metadata(dir.path().join(&name)).unwrap().len();
            assert!((1..=100).contains(&bytes), "{name}: {bytes}");
        }
        let text = fs::read_to_string(dir.path().join("a-01.log")).unwrap();
        assert!(text.ends_with("line 999\n"), "{text}");
    }

    #[test]
    fn a_file_with_old_lines_is_cut_and_later_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let old = r#"{"time":"2020-01-01T00:00:00Z","level":"info","instance":"a","stream":"stderr","message":"x"}"#;
        let active = dir.path().join("a.log");
        fs::write(&active, format!("{old}\n")).unwrap();
        let rotation = Rotation {
            max_age: Duration::from_secs(3600),
            ..Rotation::default()
        };
        let mut log = LogFile::open(dir.path(), "a", rotation).unwrap();
        log.write("new").unwrap();
        log.flush().unwrap();
        assert_eq!(names(dir.path()), ["a.log", "a.log.1"]);
        assert_eq!(fs::read_to_string(&active).unwrap(), "new\n");
        let long_ago = SystemTime::now() - Duration::from_secs(7200);
        let cut = File::open(dir.path().join("a.log.1")).unwrap();
        cut.set_modified(long_ago).unwrap();
        drop(log);
        sweep(dir.path(), rotation.max_age);
        assert_eq!(names(dir.path()), ["a.log"]);
    }

    #[test]
    fn two_programs_never_write_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = LogFile::open(dir.path(), "a", Rotation::default()).unwrap();
        let second = LogFile::open(dir.path(), "a", Rotation::default()).unwrap();
        assert_ne!(first.path, second.path);
        drop(first);
        let third = LogFile::open(dir.path(), "a", Rotation::default()).unwrap();
        assert_eq!(names(dir.path()), ["a.log", "a~2.log"]);
        assert!(third.path.ends_with("a.log"));
        assert_eq!(file_name("../x y", 1), ".._x_y.log");
    }
}
