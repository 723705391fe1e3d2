//! The last lines, in memory.

use std::collections::VecDeque;

use crate::record::Record;

/// How much of what was logged last is kept in memory, of all instances together.
const MAX_BYTES: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Ring {
    records: VecDeque<(usize, Record)>,
    bytes: usize,
}

impl Ring {
    /// Takes in a record whose JSON form has this length.
    pub(crate) fn push(&mut self, length: usize, record: Record) {
        self.bytes += length;
        self.records.push_back((length, record));
        while self.bytes > MAX_BYTES {
            match self.records.pop_front() {
                Some((length, _)) => self.bytes -= length,
                None => return,
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().map(|(_, record)| record)
    }
}
