//! Tools an agent may call, and their registry.
//!
//! A [`ToolSource`] has tools: [`Functions`], [`HttpTools`], [`OpenApiSource`], the MCP pool, agents. A [`ToolRegistry`]
//! puts sources together and gives each caller its [`ToolSet`], through which every call goes: arguments checked, rates
//! and times kept, large answers cut. Nothing here journals, counts or asks people; that is for who calls.
//!
//! ```
//! use adjutant_core::{Json, RunId};
//! use adjutant_tools::{Caller, FunctionTool, Invocation, Reply, ToolFilter, ToolRegistry};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Add { a: i64, b: i64 }
//! let add = FunctionTool::new("add", "Adds", |add: Add| async move { Ok(add.a + add.b) });
//! let registry = ToolRegistry::builder().function(add).build()?;
//! let tools = registry.open(Caller::new("sums", RunId::new()), &ToolFilter::all()).await?;
//! let arguments = Json::parse(r#"{"a": 2, "b": 3}"#.into()).unwrap();
//! let Reply::Answer(answer) = tools.call(Invocation::new("add", &arguments, "call-1")).await? else {
//!     panic!("a function never asks back");
//! };
//! assert_eq!(answer.joined_text(), "5");
//! # Ok::<(), adjutant_tools::ToolError>(())
//! # }).unwrap();
//! ```

mod source;

mod error;

mod arguments;
mod name;
mod output;
mod rate;
mod schema;

mod function;
mod http;
mod openapi;

mod progressive;
mod registry;
mod toolset;

pub use crate::{
    arguments::{parse_arguments, to_anthropic, to_openai},
    error::{Cause, Result, ToolError},
    function::{CallContext, FunctionTool, Functions},
    http::{BodyForm, HttpClient, HttpOptions, HttpTool, HttpToolConfig, HttpTools, Secret},
    name::{MAX_NAME, Pattern, ToolFilter, is_tool_name, qualified_name},
    openapi::{OpenApiOptions, OpenApiSource},
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
