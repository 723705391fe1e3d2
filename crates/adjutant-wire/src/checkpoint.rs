//! `checkpoint/*`: the agent's own saved state.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{content::RunScope, dispatch::Call, method::Method};

/// A saved state.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checkpoint {
    /// Its number; rises with each save of a run.
    pub seq: u64,
    /// Whatever the agent needs to go on.
    #[serde(default)]
    pub state: Value,
}

/// Keeps a state, agent → host; durable when answered. Over the limit: -31011.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckpointSave {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// Must be above every number that the run has used.
    pub seq: u64,
    /// The state.
    pub state: Value,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl Call for CheckpointSave {
    const METHOD: &'static str = Method::CHECKPOINT_SAVE;
    type Answer = CheckpointSaved;
}

/// The number under which a state was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckpointSaved {
    /// The number.
    pub seq: u64,
}

/// Fetches a state, agent → host; null when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckpointLoad {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// Which one; absent means the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Call for CheckpointLoad {
    const METHOD: &'static str = Method::CHECKPOINT_LOAD;
    type Answer = Option<Checkpoint>;
}
