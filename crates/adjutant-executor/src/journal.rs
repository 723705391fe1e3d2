//! The run's journal as replay sees it.

use std::collections::{HashMap, VecDeque};

use adjutant_core::{AgentError, Fingerprint, Intent, Json, StepKind, StepOutcome, StepRecord};
use adjutant_queue::Signal;
use adjutant_state::History;

/// Records by key, and how often each name has come up in this execution.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    records: HashMap<String, StepRecord>,
    calls: HashMap<String, u32>,
    mailbox: VecDeque<Signal>,
}

/// What the journal says about a step.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing: it is to be executed.
    Nothing,
    /// A wait that began in an earlier execution.
    Begun(Json),
    /// Its result.
    Completed(Json),
    /// Its failure.
    Failed(AgentError),
}

impl Journal {
    pub(crate) fn new(history: History, mailbox: Vec<Signal>) -> Self {
        let records = history
            .journal
            .into_iter()
            .map(|step| (step.key.clone(), step))
            .collect();
        Self {
            records,
            calls: HashMap::new(),
            mailbox: mailbox.into(),
        }
    }

    /// The key of the next step of this name: the name itself, then `name#2`, `name#3`, …
    pub(crate) fn next_key(&mut self, name: &str) -> String {
        if let Some(count) = self.calls.get_mut(name) {
            *count += 1;
            return format!("{name}#{count}");
        }
        self.calls.insert(name.to_owned(), 1);
        name.to_owned()
    }

    /// Whether the next step of this name has ended, or has been begun in a way that is not simply begun again.
    pub(crate) fn is_recorded(&self, name: &str) -> bool {
        let next = match self.calls.get(name) {
            Some(count) => self.records.get(&format!("{name}#{}", count + 1)),
            None => self.records.get(name),
        };
        next.is_some_and(|step| match &step.outcome {
            StepOutcome::Started { memo } => {
                let open = |intent: Intent| intent != Intent::Withdrawn;
                step.kind == StepKind::Delegate || memo.to().is_ok_and(open)
            }
            StepOutcome::Completed { .. } | StepOutcome::Failed { .. } => true,
        })
    }

    /// Looks a step up and refuses one that is not the step that was recorded.
    pub(crate) fn find(
        &self,
        key: &str,
        kind: StepKind,
        input: Fingerprint,
    ) -> Result<Found, AgentError> {
        let Some(record) = self.records.get(key) else {
            return Ok(Found::Nothing);
        };
        if record.kind != kind {
            return Err(changed(
                key,
                &format!("recorded as a {} step", record.kind.as_str()),
            ));
        }
        if record.input != input {
            return Err(changed(key, "recorded with another input"));
        }
        Ok(match &record.outcome {
            StepOutcome::Started { memo } => Found::Begun(memo.clone()),
            StepOutcome::Completed { result } => Found::Completed(result.clone()),
            StepOutcome::Failed { error } => Found::Failed(AgentError::from(error.clone())),
        })
    }

    /// Takes the first signal of this name out of the mailbox.
    pub(crate) fn take_signal(&mut self, name: &str) -> Option<Signal> {
        let at = self.mailbox.iter().position(|signal| signal.name == name)?;
        self.mailbox.remove(at)
    }
}

fn changed(key: &str, how: &str) -> AgentError {
    AgentError::permanent(
        "step_changed",
        format!(
            "step `{key}` was {how}: the agent changed while the run was under way; \
             run the version that began it, or fork the run before this step"
        ),
    )
}

#[cfg(test)]
mod tests {
    use adjutant_core::Timestamp;

    use super::*;

    fn journal(input: u64) -> Journal {
        let step = StepRecord {
            key: "read".to_owned(),
            kind: StepKind::Code,
            input: Fingerprint(input),
            outcome: StepOutcome::Completed {
                result: Json::from("done"),
            },
            attempts: 1,
            started_at: Timestamp::default(),
            recorded_at: Timestamp::default(),
        };
        Journal::new(
            History {
                journal: vec![step],
                checkpoint: None,
            },
            Vec::new(),
        )
    }

    #[test]
    fn a_name_that_comes_again_gets_a_number() {
        let mut journal = Journal::default();
        assert_eq!(journal.next_key("a"), "a");
        assert_eq!(journal.next_key("a"), "a#2");
        assert_eq!(journal.next_key("b"), "b");
        assert_eq!(journal.next_key("a"), "a#3");
    }

    #[test]
    fn a_step_whose_input_changed_is_refused() {
        let error = journal(1)
            .find("read", StepKind::Code, Fingerprint(2))
            .unwrap_err();
        assert_eq!(error.info().kind, "step_changed");
        assert!(!error.info().retriable);
    }

    #[test]
    fn a_step_whose_kind_changed_is_refused() {
        assert!(
            journal(1)
                .find("read", StepKind::Sleep, Fingerprint(1))
                .is_err()
        );
    }

    #[test]
    fn only_what_comes_next_and_has_ended_counts_as_recorded() {
        let mut journal = journal(1);
        assert!(journal.is_recorded("read"));
        assert!(!journal.is_recorded("write"));
        journal.next_key("read");
        assert!(!journal.is_recorded("read"));
    }

    #[test]
    fn a_recorded_step_is_found() {
        let found = journal(1).find("read", StepKind::Code, Fingerprint(1));
        assert!(matches!(found, Ok(Found::Completed(_))));
    }
}
