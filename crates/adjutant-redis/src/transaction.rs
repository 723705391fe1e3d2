//! What one transaction has read, and what it is going to write.

use std::collections::{BTreeMap, HashMap};

use adjutant_core::{IdMap, RunId};

use crate::{
    keys::{self, Keys},
    news::News,
    record::Token,
    words::Words,
};

/// The last transaction of a store: its number, and the text that is stored of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seq {
    pub number: i64,
    pub text: Vec<u8>,
}

impl Seq {
    pub(crate) fn of(text: Vec<u8>) -> Self {
        let digits = text.split(|byte| *byte == b' ').next();
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let number = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        Self { number, text }
    }
}

/// What is expected, and what is to be written if it is so.
#[derive(Default)]
pub(crate) struct Transaction {
    /// Its own name.
    pub token: Token,
    /// The last transaction before it, as far as it is known.
    pub base: Option<Seq>,
    /// It relies on what was read before it began: nobody else may have written.
    pub exact: bool,
    /// It has looked at several moments between which others have written.
    pub torn: bool,
    pub looks: u32,

    /// Runs read, that are there, with the tokens of their last changes.
    pub seen: IdMap<RunId, Token>,
    /// Idempotency keys looked up.
    pub keys: HashMap<String, Option<RunId>>,
    /// Concurrency keys looked up: token, if there is one, and running runs.
    pub slots: HashMap<String, (Option<Token>, i64)>,
    /// Rows of the ledger looked up: token, if there is one.
    pub rows: BTreeMap<Vec<u8>, Option<Token>>,
    /// Runs that are kept for its claims.
    pub taken: Vec<RunId>,

    /// Commands, each with the number of its words in front.
    pub commands: Words,
    /// New runs.
    pub new: Vec<RunId>,
    /// Idempotency keys that are given away.
    pub given: Vec<String>,
    /// By how much the numbers of running runs change.
    pub running: BTreeMap<String, i64>,
    /// The number of the latest event of runs that have new ones, and of the first of these.
    pub events: IdMap<RunId, (u64, u64)>,
    pub news: News,
    /// It is written, and this is when something is due next.
    pub done: Option<Option<i64>>,
}

impl Transaction {
    pub(crate) fn new(token: Token, base: Option<Seq>) -> Self {
        Self {
            token,
            exact: base.is_some(),
            base,
            ..Self::default()
        }
    }

    /// Notes at which moment it has looked. Says whether it can go on.
    pub(crate) fn looked(&mut self, seq: Seq) -> bool {
        self.looks += 1;
        match &self.base {
            None => self.base = Some(seq),
            Some(base) => self.torn |= *base != seq,
        }
        !(self.exact && self.torn)
    }

    /// Whether there is nothing to write and no doubt about what was read.
    pub(crate) fn is_void(&self) -> bool {
        self.commands.is_empty()
            && self.running.is_empty()
            && !self.torn
            && (self.looks > 0 || !self.exact)
    }

    /// The words of the script: what is expected first.
    pub(crate) fn words(&self, keys: &Keys, writer: &[u8]) -> Words {
        let mut expected: Vec<(Vec<u8>, &[u8])> = Vec::new();
        expected.extend(self.new.iter().map(|run| (keys.run("run:", *run), &[][..])));
        for key in self
            .given
            .iter()
            .filter(|key| !self.keys.contains_key(*key))
        {
            expected.push((keys.of("key:", key), &[]));
        }
        let found: Vec<(Vec<u8>, keys::Id)> = self
            .keys
            .iter()
            .map(|(key, run)| (keys.of("key:", key), run.map_or([0; 32], keys::id)))
            .collect();
        for (key, id) in &found {
            let id: &[u8] = if *id == [0; 32] { &[] } else { id };
            expected.push((key.clone(), id));
        }
        if !self.exact {
            for (key, token) in &self.rows {
                expected.push((
                    key.clone(),
                    token.as_ref().map_or(&[][..], |token| &token[..]),
                ));
            }
            let seen = self.seen.iter();
            expected.extend(seen.map(|(run, token)| (keys.run("run:", *run), &token[..])));
            for (key, (token, _)) in &self.slots {
                let token = token.as_ref().map_or(&[][..], |token| &token[..]);
                expected.push((keys.of("slot:", key), token));
            }
        }
        let mut words = Words::default();
        words.push(self.token);
        words.push(self.news.bytes(writer));
        words.push(writer);
        words.push(match &self.base {
            Some(base) if self.exact => &base.text[..],
            _ => &[],
        });
        words.size(expected.len());
        expected.iter().for_each(|(key, _)| words.push(key));
        expected.iter().for_each(|(_, begin)| words.push(begin));
        words.size(self.running.len());
        for (key, by) in &self.running {
            words.push(key);
            words.int(*by);
        }
        words.append(&self.commands);
        words
    }
}
