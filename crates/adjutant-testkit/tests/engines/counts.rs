//! Which kinds of operations have succeeded how often.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use adjutant_core::{Error, StepOutcome};
use adjutant_queue::{Command, Disposition};
use adjutant_store::Op;

/// Every kind of operation that the model makes, and every refusal that its stale leases must meet.
const KINDS: [&str; 36] = [
    "append",
    "claim",
    "commit",
    "control cancel",
    "control pause",
    "control redrive",
    "control resume",
    "control signal",
    "end cancelled",
    "end failed for good",
    "end failed for now",
    "end released",
    "end succeeded",
    "end timed out",
    "end waiting",
    "fork",
    "heartbeat",
    "heartbeat lost",
    "list",
    "op cancel group",
    "op checkpoint",
    "op event",
    "op spawn",
    "op step completed",
    "op step failed",
    "op step started",
    "op take signal",
    "prune",
    "refused conflict",
    "refused lease_lost",
    "settle",
    "submit",
    "submit again",
    "sweep parked",
    "sweep recovered",
    "sweep woken",
];

#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    pub fn add(&self, kind: &'static str, by: u64) {
        if by > 0 {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(kind).or_default() += by;
        }
    }

    pub fn op(&self, op: &Op) {
        let kind = match op {
            Op::Step(step) => match step.outcome {
                StepOutcome::Started { .. } => "op step started",
                StepOutcome::Completed { .. } => "op step completed",
                StepOutcome::Failed { .. } => "op step failed",
            },
            Op::Checkpoint(_) => "op checkpoint",
            Op::Event(_) => "op event",
            Op::Spawn(_) => "op spawn",
            Op::TakeSignal(_) => "op take signal",
            Op::CancelGroup { .. } => "op cancel group",
        };
        self.add(kind, 1);
    }

    pub fn end(&self, end: &Disposition) {
        let kind = match end {
            Disposition::Succeeded(_) => "end succeeded",
            Disposition::Failed(error) if error.retriable => "end failed for now",
            Disposition::Failed(_) => "end failed for good",
            Disposition::Cancelled { .. } => "end cancelled",
            Disposition::TimedOut { .. } => "end timed out",
            Disposition::Waiting(_) => "end waiting",
            Disposition::Released { .. } => "end released",
        };
        self.add(kind, 1);
    }

    pub fn command(&self, command: &Command) {
        let kind = match command {
            Command::Cancel { .. } => "control cancel",
            Command::Pause => "control pause",
            Command::Resume => "control resume",
            Command::Redrive => "control redrive",
            Command::Signal { .. } => "control signal",
        };
        self.add(kind, 1);
    }

    pub fn refused(&self, error: &Error) {
        match error {
            Error::LeaseLost { .. } => self.add("refused lease_lost", 1),
            Error::Conflict { .. } => self.add("refused conflict", 1),
            _ => {}
        }
    }

    /// The kinds that have never succeeded: of those the comparison has not said anything.
    pub fn missing(&self) -> Vec<&'static str> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = KINDS.into_iter().filter(|kind| !counts.contains_key(kind));
        missing.collect()
    }
}
