//! Forgetting finished runs.

use adjutant_core::{Result, RunId, RunState};
use adjutant_queue::{PrunePolicy, RunRecord};

use crate::{
    keys::{self, score},
    storage::RedisStorage,
    words::Words,
    writes::{count, several, zrem},
};

/// The most runs that one call forgets, so that others need not wait for long.
const MOST: usize = 1000;

/// The most runs that one call looks at: children of runs that still go on stay.
const LOOKS: usize = 20;

/// Everything that is stored under a run's id, but for the list of its children: that goes with the last of them.
const KINDS: [&str; 8] = ["run:", "in:", "out:", "ev:", "ck:", "st:", "mb:", "fo:"];

impl RedisStorage {
    /// Forgets finished runs with everything that belongs to them.
    pub(crate) async fn prune_runs(&mut self, policy: &PrunePolicy) -> Result<Vec<RunId>> {
        let most = policy.limit.min(MOST);
        let mut found: Vec<RunRecord> = Vec::new();
        for page in 0..LOOKS {
            let ended = self.ended(policy, page * MOST).await?;
            let records = self.records(&ended).await?;
            let is_ended = |record: &RunRecord| record.state.is_terminal();
            let mut parents: Vec<RunId> = records
                .iter()
                .filter_map(|r| Some(r.parent.as_ref()?.run))
                .collect();
            parents.sort_unstable();
            parents.dedup();
            let going = self.records(&parents).await?;
            let going: Vec<RunId> = going
                .iter()
                .filter(|r| !is_ended(r))
                .map(|r| r.id)
                .collect();
            let stays = |record: &RunRecord| {
                record
                    .parent
                    .as_ref()
                    .is_some_and(|link| going.contains(&link.run))
            };
            let fit = records
                .into_iter()
                .filter(|record| is_ended(record) && !stays(record));
            found.extend(fit);
            if found.len() >= most || ended.len() < MOST {
                break;
            }
        }
        found.truncate(most);
        self.forget_runs(&found);
        Ok(found.iter().map(|record| record.id).collect())
    }

    /// Runs that ended before the time, the earliest first.
    async fn ended(&mut self, policy: &PrunePolicy, from: usize) -> Result<Vec<RunId>> {
        let key = self.names().of("ended", "");
        let before = format!("({}", score(policy.finished_before.as_micros()));
        let (from, most) = (from.to_string(), MOST.to_string());
        let mut words = Words::default();
        words.command(&[
            b"ZRANGEBYSCORE",
            &key,
            b"-inf",
            before.as_bytes(),
            b"LIMIT",
            from.as_bytes(),
            most.as_bytes(),
        ]);
        let mut answers = self.look(&words).await?;
        self.ids(answers.pop())
    }

    fn forget_runs(&mut self, runs: &[RunRecord]) {
        if runs.is_empty() {
            return;
        }
        let keys = self.names();
        let tx = &mut self.tx;
        let ids: Vec<keys::Id> = runs.iter().map(|run| keys::id(run.id)).collect();
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut counts = std::collections::BTreeMap::<RunState, i64>::new();
        for run in runs {
            names.extend(KINDS.iter().map(|kind| keys.run(kind, run.id)));
            names.extend(run.idempotency_key.as_ref().map(|key| keys.of("key:", key)));
            *counts.entry(run.state).or_default() -= 1;
            if let Some(link) = &run.parent {
                let mut member = keys::id(run.id).to_vec();
                member.extend_from_slice(link.group.as_bytes());
                several(
                    "ZREM",
                    &keys.run("ki:", link.run),
                    &[member],
                    &mut tx.commands,
                );
            }
        }
        if let Some((first, rest)) = names.split_first() {
            several("DEL", first, rest, &mut tx.commands);
        }
        zrem(&keys.of("ended", ""), &ids, &mut tx.commands);
        zrem(&keys.of("all", ""), &ids, &mut tx.commands);
        let counts: Vec<(i64, i64)> = counts
            .into_iter()
            .map(|(state, by)| (state.code().into(), by))
            .collect();
        count(&keys, &counts, &mut tx.commands);
        // Only those who follow them want to know.
        tx.news.changed.extend(runs.iter().map(|run| run.id));
    }
}
