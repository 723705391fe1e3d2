//! What the shared writer asks of the server.

use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use adjutant_budget::{
    Account, ReservationKey,
    engine::{AccountRow, Changes as LedgerChanges, ReservationRow},
};
use adjutant_core::{AgentKey, Clock, Error, Result, RunId, Timestamp};
use adjutant_engine::{Begun, Changes, Failure, Loaded, Ready, Storage, StoredStep, again};
use adjutant_queue::{Group, Payload, PrunePolicy, RunRecord, Signal};
use adjutant_state::History;
use redis::Value;
use tokio::{task::AbortHandle, time::Instant};

use crate::{
    clock::ServerClock,
    error::Told,
    keys::{self, Keys, score},
    ledger,
    link::Link,
    news::Heard,
    record::{self, Token},
    reply,
    script::{COMMIT, LOOK, READY, STEPS, Script},
    shapes,
    transaction::{Seq, Transaction},
    words::Words,
    writes,
};

/// How often to look for what no message has told of, while messages come. Without them it is `LOOK_AROUND`.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

/// For how long other processes leave the runs alone that were found for claims.
const PATIENCE_MS: &str = "250";

/// Bytes of payloads that come along with the head of the line.
const PAYLOADS: &str = "1048576";

/// Transactions after a conflict that do not rely on what was read before.
const WARY: u32 = 16;

/// Pauses between tries to find out whether a transaction was written.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

const ACTION: &str = "write to the store";

pub(crate) struct RedisStorage {
    link: Link,
    clock: Arc<ServerClock>,
    heard: Arc<Heard>,
    listener: AbortHandle,
    /// Who writes: unlike anybody else, ever. As it is in tokens, and as text.
    writer: [u8; 8],
    name: Vec<u8>,
    count: u64,
    events_kept: Option<NonZeroU32>,
    /// How long to try to find out whether a transaction was written.
    patience: Duration,
    /// Nobody has written since; what the shared half keeps is good.
    known: Option<Seq>,
    wary: u32,
    /// The last transaction that waiters have been told of.
    told: Vec<u8>,
    looked: Instant,
    pub(crate) tx: Transaction,
    /// Runs that are kept for claims of a transaction that has to be tried again.
    left: Vec<RunId>,
    failure: Option<Failure>,
}

impl RedisStorage {
    pub(crate) fn new(
        link: Link,
        clock: Arc<ServerClock>,
        heard: Arc<Heard>,
        listener: AbortHandle,
        writer: [u8; 8],
        name: Vec<u8>,
        config: &crate::config::RedisConfig,
    ) -> Self {
        Self {
            link,
            clock,
            heard,
            listener,
            writer,
            name,
            count: 0,
            events_kept: config.events_kept,
            patience: config.response_timeout,
            known: None,
            wary: 0,
            told: Vec::new(),
            looked: Instant::now(),
            tx: Transaction::default(),
            left: Vec::new(),
            failure: None,
        }
    }

    pub(crate) fn names(&self) -> Keys {
        self.link.keys().clone()
    }

    fn hears(&self) -> bool {
        self.heard.number.load(SeqCst) >= 0
    }

    fn token(&mut self) -> Token {
        self.count += 1;
        let mut token = Token::default();
        token[..8].copy_from_slice(&self.writer);
        token[8..].copy_from_slice(&self.count.to_be_bytes());
        token
    }

    /// Spoils the transaction.
    fn broken<T>(&mut self, told: &Told) -> Result<T> {
        self.known = None;
        let failure = self.failure.get_or_insert_with(|| told.failure());
        Err(again(failure.error()))
    }

    fn conflict<T>(&mut self) -> Result<T> {
        self.known = None;
        self.wary = WARY;
        let error = || Error::Backend {
            action: ACTION,
            transient: true,
            source: "other processes were in the way again and again".into(),
        };
        self.failure = Some(Failure::Conflict(error()));
        Err(error())
    }

    /// Takes an answer apart; one that makes no sense spoils the transaction.
    pub(crate) fn read<T>(&mut self, read: impl FnOnce() -> reply::Read<T>) -> Result<T> {
        match read() {
            Ok(value) => Ok(value),
            Err(problem) => {
                let error = self.link.odd(problem);
                self.broken(&Told::odd(error))
            }
        }
    }

    async fn ask(&mut self, script: &Script, words: &Words) -> Result<Vec<Value>> {
        if let Some(failure) = &self.failure {
            return Err(again(failure.error()));
        }
        match self.link.timed(script, words, "read from the store").await {
            Ok((seq, answers)) => match self.tx.looked(seq) {
                true => Ok(answers),
                false => self.conflict(),
            },
            Err(told) => self.broken(&told),
        }
    }

    /// Reads as of one moment.
    pub(crate) async fn look(&mut self, commands: &Words) -> Result<Vec<Value>> {
        self.ask(&LOOK, commands).await
    }

    /// Reads ids out of an answer.
    pub(crate) fn ids(&mut self, answer: Option<Value>) -> Result<Vec<RunId>> {
        self.read(|| {
            let ids = reply::list(answer.unwrap_or(Value::Nil))?.into_iter();
            ids.map(|id| run_of(&reply::bytes(id)?)).collect()
        })
    }

    /// Ids and numbers, in turns.
    fn ranked(&mut self, answer: Option<Value>) -> Result<Vec<(i64, RunId)>> {
        self.read(|| {
            let values = reply::list(answer.unwrap_or(Value::Nil))?;
            let mut found = Vec::with_capacity(values.len() / 2);
            let mut values = values.into_iter();
            while let (Some(id), Some(number)) = (values.next(), values.next()) {
                found.push((reply::number(&number)?, run_of(&reply::bytes(id)?)?));
            }
            Ok(found)
        })
    }

    /// Reads a value each of several runs; those that are not there are left out.
    async fn values(&mut self, kind: &str, runs: &[RunId]) -> Result<Vec<(RunId, Vec<u8>)>> {
        /// More of them are read one piece after another, for scripts can hand over some 8000.
        const PIECE: usize = 4000;
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.names();
        let mut words = Words::default();
        for piece in runs.chunks(PIECE) {
            words.size(1 + piece.len());
            words.push("MGET");
            piece
                .iter()
                .for_each(|run| words.push(keys.run(kind, *run)));
        }
        let answers = self.look(&words).await?;
        self.read(|| {
            let mut found = Vec::with_capacity(runs.len());
            let mut runs = runs.iter();
            for answer in answers {
                for (value, run) in reply::list(answer)?.into_iter().zip(runs.by_ref()) {
                    found.extend(reply::maybe(value)?.map(|value| (*run, value)));
                }
            }
            Ok(found)
        })
    }

    /// A record as it was found, which is to be so when the transaction ends.
    fn loaded(&mut self, run: RunId, stored: &[u8], payload: Option<Payload>) -> Loaded {
        if let Some(token) = record::token(stored) {
            self.tx.seen.entry(run).or_insert(token);
        }
        match record::read(run, stored) {
            Ok((_, record)) => Loaded::Run(Box::new(record), payload),
            Err(error) => {
                tracing::error!(run_id = %run, %error, "a run's record cannot be read");
                Loaded::Unreadable(run)
            }
        }
    }

    /// Records of runs, those that can be read.
    pub(crate) async fn records(&mut self, runs: &[RunId]) -> Result<Vec<RunRecord>> {
        let found = self.runs(runs).await?.into_iter();
        let records = found.filter_map(|loaded| match loaded {
            Loaded::Run(record, _) => Some(*record),
            Loaded::Unreadable(_) => None,
        });
        Ok(records.collect())
    }

    /// Ends the transaction: checks what was read, and writes.
    async fn finish(&mut self) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(again(failure.error()));
        }
        if !self.tx.taken.is_empty() {
            let ids: Vec<keys::Id> = self.tx.taken.iter().map(|run| keys::id(*run)).collect();
            writes::zrem(&self.names().of("taken", ""), &ids, &mut self.tx.commands);
        }
        if self.tx.is_void() {
            self.known = self.tx.base.take();
            return Ok(());
        }
        let words = self.tx.words(self.link.keys(), &self.name);
        let answer = self.send(&words).await;
        let (found, answers) = match answer {
            Ok(answer) => answer,
            Err(told) => return self.broken(&told),
        };
        let (status, left, due) = self.read(|| {
            let [status, left, due] = &answers[..] else {
                return Err("an answer of another script".to_owned());
            };
            let left = Seq::of(reply::bytes(left.clone())?);
            Ok((reply::number(status)?, left, reply::maybe_number(due)?))
        })?;
        if status == 0 {
            return self.conflict();
        }
        let unseen = self.tx.base.is_none() && self.tx.looks == 0;
        let unchanged = self.tx.base.as_ref() == Some(&found) && !self.tx.torn;
        let alone = unseen || unchanged || status == 2 && self.tx.exact;
        if alone || self.hears() {
            self.told.clone_from(&left.text);
        }
        self.known = alone.then_some(left);
        self.wary = self.wary.saturating_sub(1);
        self.tx.done = Some(due);
        Ok(())
    }

    /// Sends the transaction until it is known whether it is written. The script knows one that it has written.
    async fn send(&self, words: &Words) -> Result<(Seq, Vec<Value>), Told> {
        let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            match self.link.timed(&COMMIT, words, ACTION).await {
                Err(told) if told.may_help && started.elapsed() < self.patience => {
                    tracing::debug!(error = %told.error, "trying again to write");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                other => return other,
            }
        }
    }
}

fn run_of(id: &[u8]) -> reply::Read<RunId> {
    let id = id.get(..32).and_then(keys::run);
    id.ok_or_else(|| "an id that is none".to_owned())
}

impl Drop for RedisStorage {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Storage for RedisStorage {
    const KEEPS_RECORDS: bool = true;
    const MAY_CONFLICT: bool = true;
    const LOOK_AROUND: Duration = Duration::from_secs(1);

    async fn begin(&mut self, runs: &[RunId]) -> Result<Begun> {
        let heard = self.heard.number.load(SeqCst);
        let everything = self.heard.everything.swap(false, SeqCst);
        let fresh = |known: &Seq| heard <= known.number;
        self.known = self
            .known
            .take()
            .filter(fresh)
            .filter(|_| !everything && self.wary == 0);
        let token = self.token();
        self.tx = Transaction::new(token, self.known.clone());
        self.tx.taken = std::mem::take(&mut self.left);
        let found = match runs.is_empty() && !self.clock.is_good() {
            true => {
                self.look(&Words::default()).await?;
                Vec::new()
            }
            false => self.runs(runs).await?,
        };
        // While messages come, they have told waiters already.
        let told = match &self.tx.base {
            Some(base) => self.hears() || base.text == self.told,
            None => true,
        };
        if let Some(base) = &self.tx.base {
            self.told.clone_from(&base.text);
        }
        Ok(Begun {
            now: self.clock.now(),
            runs: found,
            stale: !told,
        })
    }

    fn is_outdated(&self) -> bool {
        !self.tx.exact
    }

    async fn runs(&mut self, runs: &[RunId]) -> Result<Vec<Loaded>> {
        let found = self.values("run:", runs).await?;
        Ok(found
            .into_iter()
            .map(|(run, stored)| self.loaded(run, &stored, None))
            .collect())
    }

    async fn keys(&mut self, keys: &[&str]) -> Result<Vec<(String, RunId)>> {
        let names = self.link.keys();
        let mut words = Words::default();
        for key in keys {
            words.command(&[b"GET", &names.of("key:", key)]);
        }
        let answers = self.look(&words).await?;
        let found = self.read(|| {
            let mut found = Vec::new();
            for (key, answer) in keys.iter().zip(answers) {
                let run = reply::maybe(answer)?;
                let run = run.map(|id| run_of(&id)).transpose()?;
                found.push(((*key).to_owned(), run));
            }
            Ok(found)
        })?;
        self.tx.keys.extend(found.iter().cloned());
        let there = found.into_iter();
        Ok(there.filter_map(|(key, run)| Some((key, run?))).collect())
    }

    async fn steps(&mut self, steps: &[(RunId, &str)]) -> Result<Vec<StoredStep>> {
        let mut words = Words::default();
        for (run, key) in steps {
            words.push(keys::id(*run));
            words.push(key);
        }
        let answers = self.ask(&STEPS, &words).await?;
        self.read(|| {
            let mut found = Vec::new();
            for ((run, key), answer) in steps.iter().zip(answers) {
                let Some(head) = reply::maybe(answer)? else {
                    continue;
                };
                let (ordinal, is_final) = shapes::step_head(&head)?;
                found.push(StoredStep {
                    run: *run,
                    key: (*key).to_owned(),
                    ordinal,
                    is_final,
                });
            }
            Ok(found)
        })
    }

    async fn ready(
        &mut self,
        agents: &[AgentKey],
        limit: usize,
        known: &[RunId],
    ) -> Result<Vec<Ready>> {
        let mut words = Words::default();
        words.size(limit);
        words.push(PATIENCE_MS);
        words.push(PAYLOADS);
        words.size(known.len());
        words.size(self.tx.taken.len());
        words.push(match &self.tx.base {
            Some(base) if self.tx.exact => &base.text[..],
            _ => &[],
        });
        for run in known.iter().chain(&self.tx.taken) {
            words.push(keys::id(*run));
        }
        agents.iter().for_each(|agent| words.push(agent.as_str()));
        let mut answers = self.ask(&READY, &words).await?.into_iter();
        let free = answers.next().unwrap_or(Value::Nil);
        let (free, found) = self.read(|| {
            let mut found = Vec::new();
            while let (Some(id), Some(rank), Some(stored), Some(payload)) = (
                answers.next(),
                answers.next(),
                answers.next(),
                answers.next(),
            ) {
                let payload = reply::maybe(payload)?;
                let payload = payload
                    .map(|payload| shapes::payload(&payload))
                    .transpose()?;
                let run = run_of(&reply::bytes(id)?)?;
                found.push((run, reply::number(&rank)?, reply::maybe(stored)?, payload));
            }
            Ok((reply::maybe_number(&free)?, found))
        })?;
        if let Some(free) = free {
            let wait = free * 1000 - self.clock.server_now();
            let wait = Duration::from_micros(u64::try_from(wait).unwrap_or(0) + 1000);
            self.heard.look_again(Instant::now() + wait);
        }
        self.tx.taken.extend(found.iter().map(|(run, ..)| *run));
        let ready = found.into_iter().map(|(run, rank, stored, payload)| Ready {
            rank,
            run,
            loaded: stored.map(|stored| self.loaded(run, &stored, payload)),
        });
        Ok(ready.collect())
    }

    async fn blocked(&mut self, key: &str, known: &[RunId]) -> Result<Option<(i64, RunId)>> {
        let names = self.names();
        let last = known.len().to_string();
        let mut words = Words::default();
        words.command(&[b"GET", &names.of("slot:", key)]);
        let held = names.of("held:", key);
        words.command(&[b"ZRANGE", &held, b"0", last.as_bytes(), b"WITHSCORES"]);
        let mut answers = self.look(&words).await?;
        let found = self.ranked(answers.pop())?;
        self.take_slot(key, answers.pop())?;
        Ok(found.into_iter().find(|(_, run)| !known.contains(run)))
    }

    async fn running(&mut self, key: &str) -> Result<i64> {
        if let Some((_, running)) = self.tx.slots.get(key) {
            return Ok(*running);
        }
        let mut words = Words::default();
        words.command(&[b"GET", &self.link.keys().of("slot:", key)]);
        let mut answers = self.look(&words).await?;
        self.take_slot(key, answers.pop())
    }

    async fn due(
        &mut self,
        now: Timestamp,
        limit: usize,
        known: &[RunId],
    ) -> Result<Vec<(Timestamp, RunId)>> {
        let (due, upto) = (
            self.names().of("due", ""),
            score(now.as_micros()).to_string(),
        );
        let most = limit.saturating_add(known.len()).min(1_000_000).to_string();
        let mut words = Words::default();
        words.command(&[
            b"ZRANGEBYSCORE",
            &due,
            b"-inf",
            upto.as_bytes(),
            b"WITHSCORES",
            b"LIMIT",
            b"0",
            most.as_bytes(),
        ]);
        let mut answers = self.look(&words).await?;
        let found = self.ranked(answers.pop())?.into_iter();
        Ok(found
            .filter(|(_, run)| !known.contains(run))
            .take(limit)
            .map(|(at, run)| (Timestamp::from_micros(at), run))
            .collect())
    }

    /// The script that writes tells, so this ends the transaction.
    async fn next_due(&mut self) -> Result<Option<Timestamp>> {
        if self.tx.is_void() {
            let due = self.names().of("due", "");
            let mut words = Words::default();
            words.command(&[b"ZRANGE", &due, b"0", b"0", b"WITHSCORES"]);
            let mut answers = self.look(&words).await?;
            let first = self.ranked(answers.pop())?.pop();
            return Ok(first.map(|(at, _)| Timestamp::from_micros(at)));
        }
        self.finish().await?;
        Ok(self.tx.done.flatten().map(Timestamp::from_micros))
    }

    async fn children(&mut self, parent: RunId) -> Result<Vec<(RunId, Arc<str>)>> {
        let mut words = Words::default();
        words.command(&[b"ZRANGE", &self.link.keys().run("ki:", parent), b"0", b"-1"]);
        let mut answers = self.look(&words).await?;
        self.read(|| {
            let mut found = Vec::new();
            for member in reply::list(answers.pop().unwrap_or(Value::Nil))? {
                let member = reply::bytes(member)?;
                let run = run_of(&member)?;
                let fanout = std::str::from_utf8(&member[32..]);
                found.push((run, Arc::from(fanout.map_err(|error| error.to_string())?)));
            }
            Ok(found)
        })
    }

    async fn fanout(&mut self, run: RunId, key: &str) -> Result<Option<Group>> {
        let mut words = Words::default();
        words.command(&[b"HGET", &self.link.keys().run("fo:", run), key.as_bytes()]);
        let mut answers = self.look(&words).await?;
        self.read(|| {
            let group = reply::maybe(answers.pop().unwrap_or(Value::Nil))?;
            group.map(|group| shapes::group(&group)).transpose()
        })
    }

    async fn signals(&mut self, runs: &[RunId]) -> Result<Vec<(RunId, Signal)>> {
        let mut words = Words::default();
        for run in runs {
            words.command(&[b"HGETALL", &self.link.keys().run("mb:", *run)]);
        }
        let answers = self.look(&words).await?;
        self.read(|| {
            let mut found = Vec::new();
            for (run, answer) in runs.iter().zip(answers) {
                let mut values = reply::list(answer)?.into_iter();
                let mut signals = Vec::new();
                while let (Some(id), Some(value)) = (values.next(), values.next()) {
                    let id = u64::try_from(reply::number(&id)?).unwrap_or(0);
                    signals.push((*run, shapes::signal(id, &reply::bytes(value)?)?));
                }
                signals.sort_by_key(|(_, signal)| signal.id);
                found.append(&mut signals);
            }
            Ok(found)
        })
    }

    async fn payloads(&mut self, runs: &[RunId]) -> Result<Vec<(RunId, Payload)>> {
        let found = self.values("in:", runs).await?;
        self.read(|| {
            let payloads = found.into_iter();
            payloads
                .map(|(run, value)| Ok((run, shapes::payload(&value)?)))
                .collect()
        })
    }

    async fn history(&mut self, run: RunId) -> Result<History> {
        let words = crate::reads::history_words(self.link.keys(), run);
        let answers = self.look(&words).await?;
        self.read(|| crate::reads::history(answers))
    }

    async fn write(&mut self, changes: &Changes<'_>, commit: bool) -> Result<()> {
        let keys = self.names();
        writes::put(&mut self.tx, &keys, changes, self.events_kept);
        match commit {
            true => self.finish().await,
            false => Ok(()),
        }
    }

    async fn trim(&mut self, run: RunId, upto: u64) -> Result<()> {
        let keys = self.names();
        let (key, record) = (keys.run("ev:", run), keys.run("run:", run));
        let mut words = Words::default();
        words.command(&[b"LINDEX", &key, b"0"]);
        words.command(&[b"GETRANGE", &record, b"0", b"15"]);
        let answers = self.look(&words).await?;
        let (first, token) = self.read(|| {
            let mut answers = answers.into_iter();
            let first = reply::maybe(answers.next().unwrap_or(Value::Nil))?;
            let first = first.map(|event| shapes::event(run, &event)).transpose()?;
            let token = reply::maybe(answers.next().unwrap_or(Value::Nil))?;
            Ok((
                first.map(|event| event.seq),
                token.and_then(|token| record::token(&token)),
            ))
        })?;
        let first = first.or(self.tx.events.get(&run).map(|(_, first)| *first));
        let Some(first) = first.filter(|first| *first <= upto) else {
            return Ok(());
        };
        if let Some(token) = token {
            self.tx.seen.entry(run).or_insert(token);
            writes::touch(&mut self.tx, &keys, run);
        }
        let from = (upto - first)
            .saturating_add(1)
            .min(i64::MAX.cast_unsigned());
        let from = from.to_string();
        self.tx
            .commands
            .command(&[b"LTRIM", &key, from.as_bytes(), b"-1"]);
        Ok(())
    }

    async fn forget_history(&mut self, runs: &[RunId]) -> Result<()> {
        let keys = self.names();
        for run in runs {
            let (steps, checkpoints) = (keys.run("st:", *run), keys.run("ck:", *run));
            self.tx.commands.command(&[b"DEL", &steps, &checkpoints]);
        }
        Ok(())
    }

    async fn prune(&mut self, policy: &PrunePolicy) -> Result<Vec<RunId>> {
        self.prune_runs(policy).await
    }

    async fn reservations(&mut self, keys: &[&ReservationKey]) -> Result<Vec<ReservationRow>> {
        self.ledger_reservations(keys).await
    }

    async fn accounts(&mut self, names: &[&Account]) -> Result<Vec<AccountRow>> {
        self.ledger_accounts(names).await
    }

    async fn old_reservations(
        &mut self,
        before: Timestamp,
        limit: usize,
    ) -> Result<(Vec<ReservationRow>, Vec<AccountRow>)> {
        self.ledger_old(before, limit).await
    }

    async fn write_ledger(&mut self, changes: &LedgerChanges<'_>, commit: bool) -> Result<()> {
        let keys = self.names();
        ledger::put(&mut self.tx, &keys, changes);
        match commit {
            true => self.finish().await,
            false => Ok(()),
        }
    }

    async fn commit(&mut self) -> Result<()> {
        match self.tx.done {
            Some(_) => Ok(()),
            None => self.finish().await,
        }
    }

    async fn roll_back(&mut self) {
        self.left = std::mem::take(&mut self.tx.taken);
        self.tx = Transaction::default();
        self.failure = None;
    }

    fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    async fn is_stale(&mut self) -> bool {
        if self.hears() && self.looked.elapsed() < LOOK_ANYWAY {
            return false;
        }
        self.looked = Instant::now();
        match self
            .link
            .timed(&LOOK, &Words::default(), "read from the store")
            .await
        {
            Ok((seq, _))
                if seq.text == self.told || self.heard.number.load(SeqCst) == seq.number =>
            {
                false
            }
            Ok(_) => {
                self.known = None;
                true
            }
            Err(_) => true,
        }
    }

    async fn close(self) {
        self.listener.abort();
        self.link.close().await;
    }
}

impl RedisStorage {
    /// Reads `token number` of a concurrency key.
    fn take_slot(&mut self, key: &str, answer: Option<Value>) -> Result<i64> {
        let (token, running) = self.read(|| {
            let Some(slot) = reply::maybe(answer.unwrap_or(Value::Nil))? else {
                return Ok((None, 0));
            };
            let number = slot
                .get(17..)
                .and_then(|digits| std::str::from_utf8(digits).ok());
            let number = number.and_then(|digits| digits.parse().ok());
            Ok((
                record::token(&slot),
                number.ok_or("a concurrency key without its number")?,
            ))
        })?;
        let slot = self
            .tx
            .slots
            .entry(key.to_owned())
            .or_insert((token, running));
        Ok(slot.1)
    }
}
