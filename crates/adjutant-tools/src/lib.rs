//! Tools an agent may call, and their registry.

mod source;

mod error;

mod arguments;
mod name;
mod output;
mod rate;
mod schema;

mod function;

mod progressive;
mod registry;
mod toolset;

pub use crate::{
    arguments::{parse_arguments, to_anthropic, to_openai},
    error::{Cause, Result, ToolError},
    function::{CallContext, FunctionTool, Functions},
    name::{MAX_NAME, Pattern, ToolFilter, is_tool_name, qualified_name},
    output::{ArtifactSink, DEFAULT_OUTPUT, Kept},
    progressive::{Asked, CALL_TOOL, SEARCH_TOOLS, ToolView},
    rate::RateLimit,
    registry::{RegistryBuilder, ToolRegistry, ToolSettings},
    source::{
        Caller, ClientPort, DEFAULT_TIMEOUT, InputResume, Invocation, Progress, ProgressSink,
        Reply, ToolSource,
    },
    toolset::{ToolSet, in_order},
};
