//! The contract of everything that has tools: functions, HTTP services, MCP servers, agents.

use std::time::Duration;

use adjutant_core::{AgentKey, Json, RunId, ToolAnswer, ToolSpec};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Result, ToolError};

/// Who asks for tools. Sources that share something between callers share it within these lines.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The agent that is being run.
    pub agent: AgentKey,
    /// Its run.
    pub run: RunId,
    /// The customer for whom it runs, where one runtime serves several.
    pub tenant: Option<String>,
    /// The person or service in whose name it acts, where there is one.
    pub principal: Option<String>,
}

impl Caller {
    /// An agent's run, without tenant and principal.
    #[must_use]
    pub fn new(agent: impl Into<AgentKey>, run: RunId) -> Self {
        Self {
            agent: agent.into(),
            run,
            tenant: None,
            principal: None,
        }
    }
}

/// Where tools come from. Contract:
///
/// - The order of `list` is stable, and names are unique within it.
/// - A tool's own failure is an answer with `is_error`; errors are for calls that have none.
/// - An error says whether the call was sent ([`ToolError::sent_unanswered`]): if it was, the tool may have acted.
/// - No source repeats a call that was sent, unless the tool's effect allows it.
/// - Dropping the future of `call` gives the call up; the other side is told where its protocol can.
/// - `call` keeps to the invocation's timeout.
#[async_trait]
pub trait ToolSource: Send + Sync {
    /// The source's name, for messages and for telling two sources apart.
    fn name(&self) -> &str;

    /// The tools that this caller may see, unavailable ones included and marked.
    ///
    /// # Errors
    /// When the source cannot be asked.
    async fn list(&self, caller: &Caller) -> Result<Vec<ToolSpec>>;

    /// Calls one of them.
    ///
    /// # Errors
    /// When there is no answer of the tool's.
    async fn call(&self, caller: &Caller, call: Invocation<'_>) -> Result<Reply>;
}

/// One call of a tool.
#[derive(Clone, Copy)]
pub struct Invocation<'a> {
    /// The tool, as [`ToolSource::list`] names it.
    pub name: &'a str,
    /// What it gets, an object.
    pub arguments: &'a Json,
    /// The same for every try of one call; what a tool with [`Effect::Keyed`](adjutant_core::Effect::Keyed) keeps apart.
    pub idempotency_key: &'a str,
    /// Longest time for the answer.
    pub timeout: Duration,
    /// W3C trace context of the span around the call.
    pub traceparent: Option<&'a str>,
    /// Who wants to know how far the call is.
    pub progress: Option<&'a ProgressSink<'a>>,
    /// What the other side may ask of the runtime during the call; nothing where absent.
    pub port: Option<&'a dyn ClientPort>,
    /// Answers to what an earlier try of this call asked for.
    pub resume: Option<&'a InputResume>,
}

/// Time for a call that nobody set a time for.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

impl<'a> Invocation<'a> {
    /// A call with the default timeout and without anything that may be absent.
    #[must_use]
    pub const fn new(name: &'a str, arguments: &'a Json, idempotency_key: &'a str) -> Self {
        Self {
            name,
            arguments,
            idempotency_key,
            timeout: DEFAULT_TIMEOUT,
            traceparent: None,
            progress: None,
            port: None,
            resume: None,
        }
    }

    /// The same call under another name: a source's own name for its tool.
    #[must_use]
    pub const fn named(self, name: &'a str) -> Self {
        Self { name, ..self }
    }
}

/// Who wants to know how far a call is. Called in order; must not block.
pub type ProgressSink<'a> = dyn Fn(Progress) + Send + Sync + 'a;

/// How far a call is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Grows from notice to notice, in a unit of the tool's.
    pub progress: f64,
    /// What `progress` will be at the end, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// For people who watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The tool's answer.
    Answer(ToolAnswer),
    /// The tool wants to know more first, as in MCP's multi round-trip. Whoever called finds the answers, however long
    /// that takes, and makes the same call again with an [`InputResume`]; nothing is held open meanwhile.
    InputRequired {
        /// What it asks, `{"method", "params"}` under a key each.
        requests: Map<String, Value>,
        /// To be given back as it is.
        state: Option<Value>,
    },
}

/// Answers to a [`Reply::InputRequired`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InputResume {
    /// An answer under each key of the requests.
    pub responses: Map<String, Value>,
    /// The state that came with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
}

/// What the other side of a call may ask of the runtime while the call lasts. Requests and answers have the shape of
/// MCP's `params` and `result`. What is not implemented is refused.
#[async_trait]
pub trait ClientPort: Send + Sync {
    /// Asks the runtime's model: `sampling/createMessage`.
    ///
    /// # Errors
    /// [`ToolError::Denied`] when that is not allowed.
    async fn sample(&self, _request: Value) -> Result<Value> {
        Err(ToolError::denied("sampling", "this run does not allow it"))
    }

    /// Asks a person: `elicitation/create`, for servers that wait for the answer.
    ///
    /// # Errors
    /// [`ToolError::Denied`] when that is not allowed.
    async fn elicit(&self, _request: Value) -> Result<Value> {
        Err(ToolError::denied(
            "elicitation",
            "this run does not allow it",
        ))
    }
}
