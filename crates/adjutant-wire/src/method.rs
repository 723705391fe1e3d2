//! The method names.

/// Method names, as they stand in `method` on the wire.
///
/// A namespace of constants rather than an enum, because a method that this side does not know is no error of the
/// wire: it is answered with -32601.
#[derive(Debug, Clone, Copy)]
pub struct Method;

impl Method {
    /// Host → agent, request: first message of a connection.
    pub const INITIALIZE: &'static str = "initialize";
    /// Host → agent, request: an attempt; open until the attempt ends.
    pub const RUN_START: &'static str = "run/start";
    /// Host → agent, notification: stop a run.
    pub const RUN_CANCEL: &'static str = "run/cancel";
    /// Host → agent, request: is the reader alive?
    pub const HEALTH_CHECK: &'static str = "health/check";
    /// Host → agent, request: finish and exit.
    pub const SHUTDOWN: &'static str = "shutdown";
    /// Host → agent, notification: more messages for a run under way.
    pub const RUN_STEER: &'static str = "run/steer";
    /// Host → agent, notification: the list of tools is another one now.
    pub const TOOLS_CHANGED: &'static str = "tools/changed";
    /// Host → agent, notification: how far an open call is.
    pub const CALL_PROGRESS: &'static str = "call/progress";
    /// Host → agent, notification: a piece of a model's answer.
    pub const LLM_DELTA: &'static str = "llm/delta";
    /// Agent → host, notification: first message on a socket; says who connects.
    pub const HELLO: &'static str = "hello";
    /// Either way, notification: give up on a request.
    pub const CANCEL_REQUEST: &'static str = "$/cancel_request";
    /// Agent → host, notification: something observable happened.
    pub const RUN_EVENT: &'static str = "run/event";
    /// Agent → host, notification: still working.
    pub const RUN_HEARTBEAT: &'static str = "run/heartbeat";
    /// Agent → host, notification: a log line.
    pub const LOG: &'static str = "log";
    /// Agent → host, request: keep a state.
    pub const CHECKPOINT_SAVE: &'static str = "checkpoint/save";
    /// Agent → host, request: fetch a state.
    pub const CHECKPOINT_LOAD: &'static str = "checkpoint/load";
    /// Agent → host, request: may this step run, or is its result known?
    pub const STEP_BEGIN: &'static str = "step/begin";
    /// Agent → host, request: journal a step's result.
    pub const STEP_END: &'static str = "step/end";
    /// Agent → host, request: a durable timer.
    pub const SLEEP: &'static str = "sleep";
    /// Agent → host, request: wait for a signal.
    pub const SIGNAL_WAIT: &'static str = "signal/wait";
    /// Agent → host, request: run other agents and wait for them.
    pub const DELEGATE: &'static str = "delegate";
    /// Agent → host, request: ask a person.
    pub const INPUT_REQUEST: &'static str = "input/request";
    /// Agent → host, request: which tools are there?
    pub const TOOLS_LIST: &'static str = "tools/list";
    /// Agent → host, request: use a tool.
    pub const TOOLS_CALL: &'static str = "tools/call";
    /// Agent → host, request: ask a model.
    pub const LLM_GENERATE: &'static str = "llm/generate";
}
