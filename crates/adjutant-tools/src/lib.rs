//! Tools an agent may call, and their registry.

mod source;

mod error;

pub use crate::{
    error::{Cause, Result, ToolError},
    source::{
        Caller, ClientPort, DEFAULT_TIMEOUT, InputResume, Invocation, Progress, ProgressSink,
        Reply, ToolSource,
    },
};
