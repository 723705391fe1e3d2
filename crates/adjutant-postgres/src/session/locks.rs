//! Locks of concurrency keys, held until the transaction ends.

use std::collections::BTreeSet;

use adjutant_core::Result;

use super::{Session, texts};
use crate::{args::Args, queries, record, text};

impl Session {
    /// Whether the lock of a concurrency key is held.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Locks concurrency keys, always in the same order. Whoever changes how many runs with a key are running, or
    /// lets one go that it holds back, holds its lock.
    pub(crate) async fn lock_keys(&mut self, keys: BTreeSet<String>) -> Result<()> {
        let keys: Vec<String> = keys.difference(&self.keys).cloned().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let args = Args::default().with(self.key_names(&keys));
        self.rows(&queries::LOCK_KEYS, args).await?;
        self.keys.extend(keys);
        Ok(())
    }

    /// Locks as many of the keys as nobody else has locked, and counts their running runs.
    pub(crate) async fn try_keys(&mut self, keys: BTreeSet<String>) -> Result<()> {
        let keys: Vec<String> = keys.difference(&self.keys).cloned().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let args = Args::default().with(self.key_names(&keys));
        let rows = self.rows(&queries::TRY_KEYS, args).await?;
        let got = self.each(&rows, |row, location| record::get::<bool>(row, 0, location))?;
        let got = keys.into_iter().zip(got).filter(|(_, got)| *got);
        let got: Vec<String> = got.map(|(key, _)| key).collect();
        self.count_running(&got).await?;
        self.keys.extend(got);
        Ok(())
    }

    /// How many runs with this key are running, which is so until the transaction ends.
    pub(crate) async fn running(&mut self, key: &str) -> Result<i64> {
        if !self.running.contains_key(key) {
            self.lock_keys(BTreeSet::from([key.to_owned()])).await?;
            self.count_running(&[key.to_owned()]).await?;
        }
        Ok(self.running.get(key).copied().unwrap_or(0))
    }

    async fn count_running(&mut self, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let args = Args::default().with(texts(keys.iter().map(String::as_str)));
        let rows = self.rows(&queries::RUNNING, args).await?;
        let counts = self.each(&rows, |row, location| {
            let running = record::get::<i64>(row, 1, location)?;
            Ok((record::string(row, 0, location)?, running))
        })?;
        self.running.extend(keys.iter().map(|key| (key.clone(), 0)));
        self.running.extend(counts);
        Ok(())
    }

    /// The names under which keys are locked: schemas do not share them.
    fn key_names(&self, keys: &[String]) -> Vec<String> {
        let schema = &self.config.schema;
        keys.iter()
            .map(|key| format!("{schema}:{}", text::stored(key)))
            .collect()
    }
}
