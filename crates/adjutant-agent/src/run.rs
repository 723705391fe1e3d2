//! The run, as the agent's code sees it.

use std::ops::Deref;

use adjutant_wire::{Checkpoint, CheckpointSave, RunBudget, RunMessage, RunStart};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    attempt::RunHandle,
    error::{AgentError, RunResult},
    keys::Keys,
    step::StepBuilder,
};

/// One attempt of a run. Derefs to [`RunHandle`] for what needs no exclusive access: events, progress, logs.
#[derive(Debug)]
pub struct Run {
    handle: RunHandle,
    start: RunStart,
    keys: Keys,
}

impl Deref for Run {
    type Target = RunHandle;

    fn deref(&self) -> &RunHandle {
        &self.handle
    }
}

impl Run {
    pub(crate) fn new(handle: RunHandle, start: RunStart) -> Self {
        Self {
            handle,
            start,
            keys: Keys::default(),
        }
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

    /// Does a piece of work once. In a later attempt its recorded result is returned and `work` is not called.
    ///
    /// The result goes through JSON. A crash between the work and the record repeats the work, so work with effects
    /// outside should be fit to be repeated.
    ///
    /// # Errors
    ///
    /// The failure of `work`, now or as recorded; or the attempt is over.
    pub fn step<T, F>(&mut self, name: &str, work: F) -> RunResult<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut() -> Result<T, AgentError>,
    {
        self.step_builder(name).run(work)
    }

    /// [`step`](Self::step) with an input whose change is noticed: a later attempt that comes with another input fails
    /// with `call_conflict` instead of using a result that does not belong to it.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step), and when the input is no JSON.
    pub fn step_with<I, T, F>(&mut self, name: &str, input: &I, mut work: F) -> RunResult<T>
    where
        I: Serialize + ?Sized,
        T: Serialize + DeserializeOwned,
        F: FnMut(&I) -> Result<T, AgentError>,
    {
        self.step_builder(name).input(input)?.run(|| work(input))
    }

    /// A step with an input, a kind or retries.
    pub fn step_builder(&mut self, name: &str) -> StepBuilder {
        StepBuilder::new(self.handle(), self.unique_key(name))
    }

    pub(crate) fn unique_key(&mut self, name: &str) -> String {
        self.keys.unique(name)
    }
}

fn read<T: DeserializeOwned>(value: Option<&Value>, kind: &str, what: &str) -> RunResult<T> {
    let read = T::deserialize(value.unwrap_or(&Value::Null));
    Ok(read.map_err(|error| AgentError::permanent(kind, format!("{what}: {error}")))?)
}
