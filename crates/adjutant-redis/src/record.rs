//! How a run's record is stored: `token state version agent-length agent rest`. The token tells which transaction has
//! changed it last; state and agent are where scripts can see them; the rest is numbers of variable length and texts
//! in the order below. This shape changes only with the schema.

use std::borrow::Cow;

use adjutant_core::RunId;
use adjutant_engine::Columns;
use adjutant_queue::RunRecord;

/// Names a transaction: whose it is, and which.
pub(crate) type Token = [u8; 16];

/// The state's byte, after the token: `0` and the state's code.
pub(crate) const STATE_AT: usize = 16;
const VERSION: u8 = b'1';

/// A record as it is to be stored.
pub(crate) fn bytes(token: &Token, record: &RunRecord) -> Vec<u8> {
    let columns = Columns::of(record);
    let mut out = Vec::with_capacity(192);
    out.extend_from_slice(token);
    out.push(b'0' + record.state.code());
    out.push(VERSION);
    // An agent's name has at most 200 bytes.
    out.push(u8::try_from(columns.agent.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(columns.agent.as_bytes());
    let mut put = Put(&mut out);
    put.int(columns.priority);
    put.int(columns.created_at);
    put.maybe(columns.parent.as_ref(), |put, id| {
        put.0.extend_from_slice(id);
    });
    put.maybe(columns.fanout.as_deref(), Put::text);
    put.maybe(columns.slot.as_deref(), Put::text);
    put.maybe(columns.key.as_deref(), Put::text);
    put.maybe(columns.line, Put::int);
    put.maybe(columns.rank, Put::int);
    put.maybe(columns.due_at, Put::int);
    put.int(columns.ready_at);
    put.maybe(columns.started_at, Put::int);
    put.maybe(columns.finished_at, Put::int);
    put.int(columns.attempt);
    put.int(columns.epoch);
    put.maybe(columns.worker.as_ref(), |put, id| {
        put.0.extend_from_slice(id);
    });
    put.int(columns.flags);
    put.int(columns.last_seq);
    put.int(columns.steps);
    put.int(columns.checkpoint);
    put.int(columns.signals);
    put.int(columns.unread);
    put.int(columns.children);
    put.maybe(columns.more.as_deref(), Put::text);
    out
}

/// The way back from [`bytes`], with the token.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(run: RunId, stored: &[u8]) -> Result<(Token, RunRecord), String> {
    let token = token(stored).ok_or("a run's record is cut short")?;
    let mut take = Take(&stored[STATE_AT..]);
    let state = i64::from(take.byte()?) - i64::from(b'0');
    if take.byte()? != VERSION {
        return Err("a run's record has an unknown form".to_owned());
    }
    let length = usize::from(take.byte()?);
    let columns = Columns {
        id: *run.as_bytes(),
        agent: text(take.slice(length)?)?,
        state,
        priority: take.int()?,
        created_at: take.int()?,
        parent: take.maybe(Take::id)?,
        fanout: take.maybe(Take::text)?,
        slot: take.maybe(Take::text)?,
        key: take.maybe(Take::text)?,
        line: take.maybe(Take::int)?,
        rank: take.maybe(Take::int)?,
        due_at: take.maybe(Take::int)?,
        ready_at: take.int()?,
        started_at: take.maybe(Take::int)?,
        finished_at: take.maybe(Take::int)?,
        attempt: take.int()?,
        epoch: take.int()?,
        worker: take.maybe(Take::id)?,
        flags: take.int()?,
        last_seq: take.int()?,
        steps: take.int()?,
        checkpoint: take.int()?,
        signals: take.int()?,
        unread: take.int()?,
        children: take.int()?,
        more: take.maybe(Take::text)?,
    };
    if !take.0.is_empty() {
        return Err("a run's record is too long".to_owned());
    }
    Ok((token, columns.record()?))
}

/// Which transaction has changed the record last.
pub(crate) fn token(stored: &[u8]) -> Option<Token> {
    stored.first_chunk().copied()
}

struct Put<'a>(&'a mut Vec<u8>);

impl Put<'_> {
    /// Seven bits a byte, the lowest first; small numbers of either sign are short.
    fn int(&mut self, number: i64) {
        let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
        loop {
            let [low, ..] = left.to_le_bytes();
            left >>= 7;
            if left == 0 {
                self.0.push(low & 0x7f);
                return;
            }
            self.0.push(low | 0x80);
        }
    }

    fn text(&mut self, text: &str) {
        self.int(i64::try_from(text.len()).unwrap_or(i64::MAX));
        self.0.extend_from_slice(text.as_bytes());
    }

    fn maybe<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }
}

struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8], String> {
        let cut = self.0.split_at_checked(length);
        let (head, tail) = cut.ok_or("a run's record is cut short")?;
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.slice(1)?[0])
    }

    fn int(&mut self) -> Result<i64, String> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err("a run's record has a number out of range".to_owned())
    }

    fn text(&mut self) -> Result<Cow<'a, str>, String> {
        let length = usize::try_from(self.int()?).map_err(|_| "a text of impossible length")?;
        text(self.slice(length)?)
    }

    fn id(&mut self) -> Result<[u8; 16], String> {
        let id = self.slice(16)?;
        id.try_into()
            .map_err(|_| "an id that does not have 16 bytes".to_owned())
    }

    fn maybe<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        match self.byte()? {
            0 => Ok(None),
            _ => take(self).map(Some),
        }
    }
}

fn text(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8")?;
    Ok(Cow::Borrowed(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use std::{num::NonZeroU32, sync::Arc};

    use adjutant_core::{Json, Timestamp, WorkerId};
    use adjutant_queue::{Concurrency, Held, NewRun, ParentLink};

    use super::*;

    fn records() -> Vec<RunRecord> {
        let now = Timestamp::from_micros(1_700_000_000_000_001);
        let plain = NewRun::with_json("agent", Json::null());
        let mut rich = plain.clone();
        rich.priority = -7;
        rich.idempotency_key = Some("clé".to_owned());
        rich.concurrency = Some(Concurrency {
            key: Arc::from("k"),
            limit: NonZeroU32::new(3).unwrap(),
        });
        rich.parent = Some(ParentLink {
            run: RunId::new(),
            group: Arc::from("g"),
        });
        rich.not_before = Some(Timestamp::MAX);
        let (plain, _) = RunRecord::submitted(&plain, now);
        let (rich, _) = RunRecord::submitted(&rich, now);
        let mut held = plain.clone();
        held.state = adjutant_core::RunState::Running;
        held.epoch = u64::MAX;
        held.held = Some(Held {
            worker: WorkerId::new(),
            expires_at: now,
        });
        vec![plain, rich, held]
    }

    #[test]
    fn records_come_back_whole() {
        for record in records() {
            let stored = bytes(b"0123456789abcdef", &record);
            let (token, back) = read(record.id, &stored).unwrap();
            assert_eq!((token, back), (*b"0123456789abcdef", record));
        }
    }

    #[test]
    fn a_record_that_is_cut_or_foreign_is_an_error() {
        for record in records() {
            let stored = bytes(b"0123456789abcdef", &record);
            for length in 0..stored.len() {
                assert!(read(record.id, &stored[..length]).is_err(), "{length}");
            }
            let mut longer = stored.clone();
            longer.push(0);
            assert!(read(record.id, &longer).is_err());
        }
    }
}
