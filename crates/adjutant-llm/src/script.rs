//! Models that need no provider: one that follows a script, one that repeats what was recorded.

pub(crate) mod cassette;
mod file;
mod model;

pub use self::{
    cassette::{CassetteMode, RecordReplayModel},
    file::{Script, ScriptedAnswer, ScriptedCall, ScriptedError},
    model::ScriptedModel,
};
