//! What the queue takes in and hands out.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use adjutant_core::{
    AgentKey, Error, ErrorInfo, Json, Limits, Outcome, Result, RetryPolicy, RunId, RunInput,
    RunResult, RunState, Timestamp, WorkerId,
};
use serde::{Deserialize, Serialize};

/// Deaths of workers that a run survives before it is parked, unless the submitter says otherwise.
pub const DEFAULT_MAX_DEATHS: u32 = 5;

/// How many runs of one kind may run at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// Runs with the same key share the limit.
    pub key: Arc<str>,
    /// The run starts only while fewer than this many runs with its key are running.
    pub limit: NonZeroU32,
}

/// A child run's place in its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentLink {
    /// The run that spawned it.
    pub run: RunId,
    /// The parent's fan-out that it belongs to.
    pub group: Arc<str>,
}

/// Where a run came from, if not from a plain submit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A new run with the input of a finished one.
    RetryOf(RunId),
    /// A new run that starts with the recorded steps of another one.
    ForkOf(RunId),
}

/// A run to be queued.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// The run's id; submitting it twice is one run.
    pub id: RunId,
    /// Who is to do it.
    pub agent: AgentKey,
    /// The input, a [`RunInput`] as JSON.
    pub input: Json,
    /// Whatever the submitter wants to keep with the run.
    pub metadata: Json,
    /// Higher goes first; waiting raises it by one level per [`crate::AGEING`]. Range −100 to 100.
    pub priority: i32,
    /// Not to be started before.
    pub not_before: Option<Timestamp>,
    /// Submits with the same key are one run; the same key with another agent or input is a conflict.
    pub idempotency_key: Option<String>,
    /// Limits how many run at a time.
    pub concurrency: Option<Concurrency>,
    /// What becomes of failed attempts.
    pub retry: RetryPolicy,
    /// Longest time that one execution may take; `None` takes the runner's default.
    pub timeout: Option<Duration>,
    /// Deaths of workers it survives before it is parked.
    pub max_deaths: u32,
    /// For a child run.
    pub parent: Option<ParentLink>,
    /// For a retried or forked run.
    pub origin: Option<Origin>,
}

impl NewRun {
    /// A run with defaults for everything but agent and input.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the input has no JSON form.
    pub fn new(agent: impl Into<AgentKey>, input: &RunInput) -> Result<Self> {
        let input = Json::from_value(input).map_err(|error| Error::Invalid {
            field: "input",
            problem: error.to_string(),
        })?;
        Ok(Self::with_json(agent, input))
    }

    /// A run whose input is already JSON in the shape of a [`RunInput`].
    #[must_use]
    pub fn with_json(agent: impl Into<AgentKey>, input: Json) -> Self {
        Self {
            id: RunId::new(),
            agent: agent.into(),
            input,
            metadata: Json::null(),
            priority: 0,
            not_before: None,
            idempotency_key: None,
            concurrency: None,
            retry: RetryPolicy::default(),
            timeout: None,
            max_deaths: DEFAULT_MAX_DEATHS,
            parent: None,
            origin: None,
        }
    }

    /// Checks everything that can be checked without the store.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::TooLarge`], naming the field.
    pub fn validate(&self, limits: &Limits) -> Result<()> {
        let invalid = |field, problem: &str| {
            Err(Error::Invalid {
                field,
                problem: problem.to_owned(),
            })
        };
        Limits::check("input", &self.input, limits.input)?;
        Limits::check("metadata", &self.metadata, limits.input)?;
        if self.agent.as_str().is_empty() || self.agent.as_str().len() > 200 {
            return invalid("agent", "must have 1 to 200 bytes");
        }
        if !(-100..=100).contains(&self.priority) {
            return invalid("priority", "must lie between -100 and 100");
        }
        if self
            .idempotency_key
            .as_ref()
            .is_some_and(|key| key.is_empty() || key.len() > 500)
        {
            return invalid("idempotency_key", "must have 1 to 500 bytes");
        }
        if self
            .concurrency
            .as_ref()
            .is_some_and(|c| c.key.is_empty() || c.key.len() > 500)
        {
            return invalid("concurrency.key", "must have 1 to 500 bytes");
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return invalid("timeout", "must be longer than zero");
        }
        Ok(())
    }
}

/// The answer to a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// The run: the new one, or the one that was there.
    pub run: RunId,
    /// Whether this submit made it.
    pub created: bool,
}

/// A worker's claim on a run. Every write on behalf of the run names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// The worker that holds it.
    pub worker: WorkerId,
    /// The fencing token: each claim of the run has a higher one.
    pub epoch: u64,
}

/// Which agents' runs a worker takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFilter {
    /// Every agent's.
    Any,
    /// Only these agents'.
    Only(Vec<AgentKey>),
}

/// A worker asking for work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Who asks.
    pub worker: WorkerId,
    /// At most this many runs.
    pub capacity: usize,
    /// Of these agents.
    pub agents: AgentFilter,
    /// The lease's duration from now.
    pub lease_ttl: Duration,
    /// How long to wait for work when there is none; zero asks once.
    pub wait: Duration,
}

/// A signal that no wait has taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Its number within the run, from 1, in order of arrival.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// What it says.
    pub payload: Json,
    /// When it came.
    pub received_at: Timestamp,
}

/// What a run was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// The input, a [`RunInput`] as JSON.
    pub input: Json,
    /// What the submitter attached.
    pub metadata: Json,
}

/// A run that a worker has just leased.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The claim.
    pub lease: Lease,
    /// The run as it stands now: running, under this lease.
    pub run: crate::RunRecord,
    /// What it was given.
    pub payload: Payload,
    /// Signals waiting for it, in order of arrival.
    pub signals: Vec<Signal>,
}

/// What a heartbeat brings back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    /// The lease goes on.
    Alive {
        /// Somebody wants the run cancelled, for this reason.
        cancel: Option<String>,
        /// Somebody wants the run paused.
        pause: bool,
    },
    /// The lease is lost: stop at once and write nothing.
    Lost,
}

/// What ends a wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeOn {
    /// The time has come.
    At(Timestamp),
    /// A signal of this name is there.
    Signal(String),
    /// All child runs of this fan-out have ended, or with `fail_fast` one has not succeeded.
    Group {
        /// The fan-out.
        key: Arc<str>,
        /// Wake at the first failure.
        fail_fast: bool,
    },
}

/// What a suspended run waits for: any of the conditions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wait {
    /// Any of these wakes it.
    pub wake_on: Vec<WakeOn>,
    /// Whether a person has to act: the run is then `input_required` and not `waiting`.
    pub input_required: bool,
}

/// How a worker gives a run back.
#[derive(Debug, Clone, PartialEq)]
pub enum Disposition {
    /// The agent returned a result.
    Succeeded(RunResult),
    /// The attempt failed; the run's retry policy decides what follows.
    Failed(ErrorInfo),
    /// It was cancelled.
    Cancelled {
        /// Who or what asked for it.
        reason: String,
    },
    /// It took too long.
    TimedOut {
        /// The time it was given.
        timeout: Duration,
    },
    /// It waits, without a worker.
    Waiting(Wait),
    /// It goes back to the queue unfinished, at no cost to its attempts; paused if that was asked for.
    Released {
        /// Why: `drain`, `yield`, …
        reason: String,
    },
}

/// What an operator or another run asks of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// End it, and its child runs.
    Cancel {
        /// Who or what asks.
        reason: String,
    },
    /// Hold it until resumed.
    Pause,
    /// Let a paused run go on.
    Resume,
    /// Put a parked run back.
    Redrive,
    /// Tell it something.
    Signal {
        /// The signal's name.
        name: String,
        /// What it says.
        payload: Json,
    },
}

/// A run as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// Where it stands.
    pub run: crate::RunRecord,
    /// What it was given.
    pub payload: Payload,
    /// How it ended, if it has.
    pub outcome: Option<Outcome>,
}

/// Which runs to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFilter {
    /// In any of these states; empty for all.
    pub states: Vec<RunState>,
    /// Of this agent.
    pub agent: Option<AgentKey>,
    /// Children of this run.
    pub parent: Option<RunId>,
    /// Older than this run: the last one of the page before.
    pub before: Option<RunId>,
    /// At most this many.
    pub limit: usize,
}

impl Default for RunFilter {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            agent: None,
            parent: None,
            before: None,
            limit: 50,
        }
    }
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Runs whose worker fell silent, back in the queue.
    pub recovered: u64,
    /// Runs set aside because their workers died too often.
    pub parked: u64,
    /// Runs whose timer or delay was over.
    pub woken: u64,
    /// When the next run is due, if any is.
    pub next_due: Option<Timestamp>,
}

impl Swept {
    /// Whether the sweep changed anything.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.recovered + self.parked + self.woken == 0
    }
}

/// The queue in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct QueueStats {
    /// Runs by state; states without runs are left out.
    pub by_state: std::collections::BTreeMap<RunState, u64>,
    /// Pending runs that a worker could take now.
    pub ready: u64,
    /// Pending runs that wait for their time.
    pub delayed: u64,
    /// Pending runs held back by their concurrency key.
    pub blocked: u64,
    /// Since when the longest waiting ready run has been ready.
    pub oldest_ready_at: Option<Timestamp>,
}

/// Which finished runs to forget, with their journal, checkpoints and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrunePolicy {
    /// Ended before this time.
    pub finished_before: Timestamp,
    /// At most this many in one call.
    pub limit: usize,
}
