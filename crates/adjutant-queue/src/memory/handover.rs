//! Runs that go to another store, and runs that come from one.

use std::sync::Arc;

use adjutant_core::{Error, Outcome, Result, RunId, Timestamp};

use super::{
    core::{Entry, FanOut, QueueCore, RunLog},
    index::Place,
};
use crate::{Effects, Group, Payload, RunRecord, Signal};

impl QueueCore {
    /// The signals that no wait has taken, and the fan-outs.
    #[must_use]
    pub fn belongings(&self, run: RunId) -> (Vec<Signal>, Vec<(Arc<str>, Group)>) {
        let Some(entry) = self.runs.get(&run) else {
            return Default::default();
        };
        let groups = entry.fan_outs.iter();
        let groups = groups.map(|(key, fan_out)| (Arc::clone(key), fan_out.group));
        (entry.signals.clone(), groups.collect())
    }

    /// Puts in a run of another store that is not here yet.
    ///
    /// # Errors
    /// `Conflict` for an idempotency key that is given away, `Invalid` for a parent that is not here.
    pub fn take_over(
        &mut self,
        (record, payload): (RunRecord, Payload),
        outcome: Option<Outcome>,
        (signals, groups): (Vec<Signal>, Vec<(Arc<str>, Group)>),
        now: Timestamp,
        log: &mut dyn RunLog,
    ) -> Result<()> {
        let run = record.id;
        if let Some(key) = &record.idempotency_key
            && self.keys.contains_key(key)
        {
            return Err(Error::Conflict {
                what: format!("idempotency key `{key}`"),
            });
        }
        if let Some(parent) = &record.parent {
            let above = self.runs.get_mut(&parent.run);
            let above = above.ok_or_else(|| Error::Invalid {
                field: "parent",
                problem: format!("there is no run {}", parent.run),
            })?;
            // The parent has come with this child counted in.
            let fan_out = above.fan_outs.entry(Arc::clone(&parent.group)).or_default();
            fan_out.children.push(run);
        }
        if let Some(key) = &record.idempotency_key {
            self.keys.insert(key.clone(), run);
        }
        let fan_outs = groups.into_iter().map(|(key, group)| {
            let children = Vec::new();
            (key, FanOut { group, children })
        });
        let entry = Entry {
            record,
            payload,
            outcome: None,
            signals,
            fan_outs: fan_outs.collect(),
        };
        self.order.insert(run);
        self.runs.insert(run, Box::new(entry));
        self.come_to_rest(run, None, outcome, now, log);
        Ok(())
    }

    /// Replaces the record of a run of another store.
    pub fn replace(
        &mut self,
        record: RunRecord,
        outcome: Option<Outcome>,
        now: Timestamp,
        log: &mut dyn RunLog,
    ) {
        let run = record.id;
        let Some(entry) = self.runs.get_mut(&run) else {
            return;
        };
        let before = Place::of(&entry.record);
        entry.record = record;
        self.come_to_rest(run, Some(before), outcome, now, log);
    }

    fn come_to_rest(
        &mut self,
        run: RunId,
        before: Option<Place>,
        outcome: Option<Outcome>,
        now: Timestamp,
        log: &mut dyn RunLog,
    ) {
        let effects = Effects {
            outcome,
            ..Effects::default()
        };
        self.carry_out(run, before, effects, now, log);
        self.follow_up(now, log);
    }
}
