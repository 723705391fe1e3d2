//! What is where. All keys begin with `{prefix:0}:`, the hash tag that keeps a store on one node.
//!
//! | key | type | what |
//! |---|---|---|
//! | `schema` | string | the version of all this |
//! | `seq` | string | number and token of the last transaction: who knows it knows that nobody has written since |
//! | `tx:WRITER` | string | the same of a writer's last transaction, for a day: it is not written twice |
//! | `run:ID` | string | a run's record: the token of its last change, then see `record.rs` |
//! | `in:ID`, `out:ID` | string | what the run was given, how it ended |
//! | `ev:ID` | list | its events. Not a stream: each of those takes 4 KiB at least |
//! | `ck:ID` | list | its latest checkpoints |
//! | `st:ID` | hash | its journal, by step |
//! | `mb:ID` | hash | signals that nobody has taken, by number |
//! | `fo:ID` | hash | its fan-outs: children open and failed |
//! | `ki:ID` | sorted set | its children with their fan-outs, by id |
//! | `key:KEY` | string | the run with this idempotency key |
//! | `slot:KEY` | string | token and number of running runs of this concurrency key |
//! | `held:KEY` | sorted set | runs that this concurrency key holds back, by rank |
//! | `ready:AGENT` | sorted set | runs that a worker could take, by rank |
//! | `agents` | set | agents that may have some |
//! | `since` | sorted set | the same runs by the time since which they could run |
//! | `taken` | sorted set | ready runs that a process is about to claim, by the end of its patience |
//! | `due` | sorted set | runs that a sweep has to look at, by time |
//! | `ended` | sorted set | ended runs, by time |
//! | `all` | sorted set | all runs, by id, which is by age |
//! | `acct:NAME` | string | an account of the ledger: the token of its last change, then JSON |
//! | `resv:KEY` | string | a reservation, likewise |
//! | `open:ID` | sorted set | the run's open reservations, by key |
//! | `accts` | sorted set | all accounts, by name |
//! | `idle` | sorted set | accounts that are of no use, by since when |
//! | `opened`, `closed` | sorted set | reservations that are open and settled, by since when |
//! | `counts` | hash | runs by state, see `adjutant_engine::class` |
//!
//! Ids are 32 hex digits; times and ranks are microseconds. What a user names, agents and keys, comes last.

use adjutant_core::RunId;

/// The channel of news, after the base. Subscribers need no key.
pub(crate) const NEWS: &str = "news";

/// The version of what is stored.
pub(crate) const SCHEMA: i64 = 1;

/// Times and ranks beyond this are all the same: a sorted set's numbers are exact up to here, the year 2255.
const EXACT: i64 = 1 << 53;

/// A time or rank as a sorted set's number.
pub(crate) fn score(number: i64) -> i64 {
    number.clamp(-EXACT, EXACT)
}

/// A run's id as it is stored.
pub(crate) type Id = [u8; 32];

pub(crate) fn id(run: RunId) -> Id {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (byte, pair) in run.as_bytes().iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    text
}

/// The way back from [`id`].
pub(crate) fn run(text: &[u8]) -> Option<RunId> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut bytes = [0; 16];
    if text.len() != 32 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(RunId::from_bytes(bytes))
}

/// Makes names of keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    base: Vec<u8>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            base: format!("{{{prefix}:0}}:").into_bytes(),
        }
    }

    /// What all keys begin with.
    pub(crate) fn base(&self) -> &[u8] {
        &self.base
    }

    /// A key of the store, or of what a user has named.
    pub(crate) fn of(&self, kind: &str, name: impl AsRef<[u8]>) -> Vec<u8> {
        let name = name.as_ref();
        let mut key = Vec::with_capacity(self.base.len() + kind.len() + name.len());
        key.extend_from_slice(&self.base);
        key.extend_from_slice(kind.as_bytes());
        key.extend_from_slice(name);
        key
    }

    /// A run's key.
    pub(crate) fn run(&self, kind: &str, run: RunId) -> Vec<u8> {
        self.of(kind, id(run))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_and_sort_by_age() {
        let runs: Vec<RunId> = (0..100).map(|_| RunId::new()).collect();
        let texts: Vec<Id> = runs.iter().map(|run| id(*run)).collect();
        assert!(texts.is_sorted());
        assert!(
            runs.iter()
                .zip(&texts)
                .all(|(known, text)| run(text) == Some(*known))
        );
        assert_eq!(run(b"0123"), None);
    }

    #[test]
    fn scores_are_exact_as_doubles() {
        for number in [0, -1, 1_700_000_000_000_001, EXACT - 1, -EXACT + 1] {
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                reason = "this is the question"
            )]
            let back = score(number) as f64 as i64;
            assert_eq!(back, number);
        }
    }
}
