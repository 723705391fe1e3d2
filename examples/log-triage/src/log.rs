//! The log as a file: where its pieces are, and that they still say what they said.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use adjutant::{AgentError, Fingerprint, Json};
use serde::{Deserialize, Serialize};

use crate::analysis::cut;

/// Lines that one child run reads at least.
const LEAST_LINES: usize = 25;
/// Pieces of a log, however long it is.
const MOST_PIECES: usize = 40;

/// A piece of a log. What is recorded is where it is, not what it says: a log may be larger than the store takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// From 0.
    pub number: usize,
    /// Where it begins, in bytes.
    offset: u64,
    /// Bytes.
    length: u64,
    /// What it said when the log was cut.
    content: Fingerprint,
}

/// The whole log; an error names it.
pub fn read(path: &Path) -> io::Result<String> {
    let bytes = std::fs::read(path).map_err(|error| named(path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let why = format!("not UTF-8 text, see byte {at}");
        named(path, &io::Error::new(io::ErrorKind::InvalidData, why))
    })
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Where the pieces of a log are.
pub fn pieces(text: &str) -> Vec<Piece> {
    let lines = text.lines().count().div_ceil(MOST_PIECES).max(LEAST_LINES);
    let piece = |(number, piece): (usize, &str)| Piece {
        number,
        offset: (piece.as_ptr().addr() - text.as_ptr().addr()) as u64,
        length: piece.len() as u64,
        content: fingerprint(piece),
    };
    cut(text, lines)
        .into_iter()
        .enumerate()
        .map(piece)
        .collect()
}

/// What tells one text from another.
pub fn fingerprint(text: &str) -> Fingerprint {
    Json::from(text).fingerprint()
}

impl Piece {
    /// What stands there, if it is what stood there.
    pub fn read(&self, path: &Path) -> Result<String, AgentError> {
        let bytes = self
            .bytes(path)
            .map_err(|error| unreadable(&named(path, &error)))?;
        let text = String::from_utf8(bytes).map_err(|_| changed(path))?;
        if fingerprint(&text) == self.content {
            Ok(text)
        } else {
            Err(changed(path))
        }
    }

    fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(self.length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The log is not the one that the run began with.
pub fn changed(path: &Path) -> AgentError {
    let why = format!("{} has changed since the run began", path.display());
    AgentError::permanent("log_changed", why)
}

/// The log cannot be read. What is not there will not be there in a second either.
pub fn unreadable(error: &io::Error) -> AgentError {
    AgentError::permanent("unreadable_log", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: usize) -> String {
        (0..lines)
            .map(|line| format!("{line} INFO grüße {line}\n"))
            .collect()
    }

    #[test]
    fn pieces_are_few_however_long_the_log_is_and_leave_nothing_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        for lines in [0, 1, 24, 26, 1000, 40_001] {
            let text = log(lines);
            std::fs::write(&path, &text).unwrap();
            let pieces = pieces(&text);
            assert!(pieces.len() <= MOST_PIECES, "{} pieces", pieces.len());
            let read: String = pieces
                .iter()
                .map(|piece| piece.read(&path).unwrap())
                .collect();
            assert_eq!(read, text, "{lines} lines");
        }
    }

    #[test]
    fn a_log_that_grows_can_be_read_on_and_one_that_changes_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let text = log(100);
        let pieces = pieces(&text);
        std::fs::write(&path, format!("{text}more\n")).unwrap();
        assert!(pieces.iter().all(|piece| piece.read(&path).is_ok()));
        for other in [text.replace("99 INFO", "99 WARN"), log(99)] {
            std::fs::write(&path, other).unwrap();
            let error = pieces[pieces.len() - 1].read(&path).unwrap_err();
            assert_eq!(error.info().kind, "log_changed");
            assert!(!error.info().retriable);
        }
    }

    #[test]
    fn a_log_that_is_no_text_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("odd.log");
        std::fs::write(&path, b"1 INFO a\n\xff\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.contains("odd.log") && error.contains("byte 9"),
            "{error}"
        );
    }
}
