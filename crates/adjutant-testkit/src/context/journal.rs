//! The mock's journal: the rules of the executor's, without its store.

use std::collections::BTreeMap;

use adjutant_core::{AgentError, Fingerprint, Json, StepKind, StepOutcome, StepRecord};

/// Records in the order in which they were made, and how often each name has come up in this attempt.
#[derive(Default)]
pub(super) struct Journal {
    records: Vec<StepRecord>,
    calls: BTreeMap<String, u32>,
}

impl Journal {
    pub fn records(&self) -> &[StepRecord] {
        &self.records
    }

    /// A new attempt counts its calls from the beginning.
    pub fn rewind(&mut self) {
        self.calls.clear();
    }

    /// The key of the next step of this name: the name itself, then `name#2`, `name#3`, …
    pub fn next_key(&mut self, name: &str) -> String {
        let count = self.calls.entry(name.to_owned()).or_default();
        *count += 1;
        match *count {
            1 => name.to_owned(),
            count => format!("{name}#{count}"),
        }
    }

    /// Whether the next step of this name has ended.
    pub fn is_recorded(&self, name: &str) -> bool {
        let key = match self.calls.get(name) {
            Some(count) => format!("{name}#{}", count + 1),
            None => name.to_owned(),
        };
        let mut ended = self.records.iter().filter(|record| record.key == key);
        ended.any(|record| !matches!(record.outcome, StepOutcome::Started { .. }))
    }

    /// The recorded result, if there is one.
    pub fn find(
        &self,
        key: &str,
        kind: StepKind,
        input: Fingerprint,
    ) -> Result<Option<Json>, AgentError> {
        let Some(record) = self.records.iter().find(|record| record.key == key) else {
            return Ok(None);
        };
        if record.kind != kind || record.input != input {
            let message =
                format!("step `{key}` was recorded as another step or with another input");
            return Err(AgentError::permanent("step_changed", message));
        }
        match &record.outcome {
            StepOutcome::Completed { result } => Ok(Some(result.clone())),
            StepOutcome::Failed { error } => Err(AgentError::from(error.clone())),
            StepOutcome::Started { .. } => Ok(None),
        }
    }

    pub fn record(&mut self, record: StepRecord) {
        self.records.push(record);
    }
}
