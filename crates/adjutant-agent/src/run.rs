//! The run, as the agent's code sees it.

use std::ops::Deref;

use adjutant_wire::{
    Checkpoint, CheckpointSave, InputAnswer, RunBudget, RunEnvironment, RunMessage, RunStart,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    attempt::RunHandle,
    error::{AgentError, RunResult},
};

/// One attempt of a run. Derefs to [`RunHandle`]: steps, waits, tools, models, events, progress, logs.
#[derive(Debug)]
pub struct Run {
    handle: RunHandle,
    start: RunStart,
}

impl Deref for Run {
    type Target = RunHandle;

    fn deref(&self) -> &RunHandle {
        &self.handle
    }
}

impl Run {
    pub(crate) fn new(handle: RunHandle, start: RunStart) -> Self {
        Self { handle, start }
    }

    /// A handle to use inside a step's closure or in another thread.
    #[must_use]
    pub fn handle(&self) -> RunHandle {
        self.handle.clone()
    }

    /// The agent's name, as `run/start` gave it; tells the agents of one program apart.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.start.agent
    }

    /// The conversation that the run belongs to.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.start.session.as_deref()
    }

    /// The conversation so far, oldest first.
    #[must_use]
    pub fn messages(&self) -> &[RunMessage] {
        &self.start.input.messages
    }

    /// The text of the last message of the user; empty when there is none.
    #[must_use]
    pub fn prompt(&self) -> String {
        let from_user = |message: &&RunMessage| message.role == "user";
        self.messages()
            .iter()
            .rev()
            .find(from_user)
            .map(RunMessage::text)
            .unwrap_or_default()
    }

    /// The structured input, as a type of yours; no input reads as null.
    ///
    /// # Errors
    ///
    /// `invalid_input`, not retriable, when it has another shape.
    pub fn data<T: DeserializeOwned>(&self) -> RunResult<T> {
        read(
            self.start.input.data.as_ref(),
            "invalid_input",
            "the input's data",
        )
    }

    /// The settings, as a type of yours.
    ///
    /// # Errors
    ///
    /// `invalid_params`, not retriable, when they have another shape.
    pub fn params<T: DeserializeOwned>(&self) -> RunResult<T> {
        read(Some(&self.start.params), "invalid_params", "the params")
    }

    /// The labels of whoever submitted the run.
    #[must_use]
    pub fn metadata(&self) -> &Value {
        &self.start.metadata
    }

    /// When the run must be over, RFC 3339 in UTC.
    #[must_use]
    pub fn deadline(&self) -> Option<&str> {
        self.start.deadline.as_deref()
    }

    /// What was left of the budget when the attempt began.
    #[must_use]
    pub fn budget(&self) -> Option<RunBudget> {
        self.start.budget
    }

    /// The answer to a question of [`suspend`](RunHandle::suspend) in the attempt before; `None` when nothing was asked
    /// by this key.
    #[must_use]
    pub fn resume(&self, key: &str) -> Option<InputAnswer> {
        let answer = self.start.resume.as_ref()?.get(key)?;
        serde_json::from_value(answer.clone()).ok()
    }

    /// A variable that the host gives this attempt, such as `OPENAI_BASE_URL`; else the process's own of that name. In a
    /// process that does several runs these are not in the process's environment.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let given = self.start.environment.get(name).map(str::to_owned);
        given.or_else(|| std::env::var(name).ok())
    }

    /// The variables that the host gives this attempt.
    #[must_use]
    pub fn environment(&self) -> &RunEnvironment {
        &self.start.environment
    }

    /// The state that this or an earlier attempt saved last.
    ///
    /// # Errors
    ///
    /// `incompatible_state`, not retriable, when it has another shape.
    pub fn state<T: DeserializeOwned>(&self) -> RunResult<Option<T>> {
        let Some(checkpoint) = &self.start.checkpoint else {
            return Ok(None);
        };
        read(
            Some(&checkpoint.state),
            "incompatible_state",
            "the checkpoint",
        )
        .map(Some)
    }

    /// Saves a state; durable when this returns. Returns its number.
    ///
    /// # Errors
    ///
    /// When the state is no JSON or too large, or the attempt is over.
    pub fn checkpoint<T: Serialize + ?Sized>(&mut self, state: &T) -> RunResult<u64> {
        let state = serde_json::to_value(state)?;
        let seq = self
            .start
            .checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.seq)
            + 1;
        let scope = self.handle.0.scope.clone();
        let saved = self.handle.0.call(&CheckpointSave {
            scope,
            seq,
            state: state.clone(),
            label: None,
        })?;
        // The host numbers all checkpoints of the run, so its word counts.
        let seq = seq.max(saved.seq);
        self.start.checkpoint = Some(Checkpoint { seq, state });
        Ok(seq)
    }
}

fn read<T: DeserializeOwned>(value: Option<&Value>, kind: &str, what: &str) -> RunResult<T> {
    let read = T::deserialize(value.unwrap_or(&Value::Null));
    Ok(read.map_err(|error| AgentError::permanent(kind, format!("{what}: {error}")))?)
}
