//! Every name that goes out, in one table.
//!
//! The GenAI and MCP conventions are still in development and change. What is used here is what OpenTelemetry's semantic
//! conventions 1.42.0 have ([`SCHEMA_URL`]), with the agent and tool metrics of their successor's draft. A test holds the
//! table to a copy of those names under `semconv/`. [`Semconv::V1_36`] writes what was current before.

use serde::Deserialize;

use crate::{
    Instrument, InstrumentKind,
    measurement::{CALLS, LONG_SECONDS, MCP_SECONDS, SECONDS, TOKENS},
};

/// Where the pinned revision is described.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";
/// Where the revision before is described.
pub const SCHEMA_URL_1_36: &str = "https://opentelemetry.io/schemas/1.36.0";
/// The word in `OTEL_SEMCONV_STABILITY_OPT_IN` that asks for the pinned revision.
pub const OPT_IN: &str = "gen_ai_latest_experimental";

/// Which revision of the conventions is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Semconv {
    /// The newest that is known here, the pinned one.
    #[default]
    #[serde(rename = "gen_ai_latest_experimental")]
    Latest,
    /// 1.36, the last with `gen_ai.system` and without MCP; names that came later are left out.
    #[serde(rename = "1.36")]
    V1_36,
}

impl Semconv {
    /// What a value of `OTEL_SEMCONV_STABILITY_OPT_IN` asks for: a list of words with commas. Without the word for GenAI the
    /// variable's rule is that old names stay.
    #[must_use]
    pub fn from_opt_in(value: &str) -> Self {
        match value.split(',').any(|word| word.trim() == OPT_IN) {
            true => Self::Latest,
            false => Self::V1_36,
        }
    }

    /// Where the revision is described.
    #[must_use]
    pub const fn schema_url(self) -> &'static str {
        match self {
            Self::Latest => SCHEMA_URL,
            Self::V1_36 => SCHEMA_URL_1_36,
        }
    }

    /// What becomes of a name. Those that are not in the table stay.
    pub(crate) fn fate(self, name: &str) -> &'static Old {
        let row = TABLE.iter().find(|row| row.name == name);
        match (self, row) {
            (Self::V1_36, Some(row)) => &row.in_1_36,
            _ => &Old::Same,
        }
    }
}

/// What 1.36 calls it.
#[derive(Debug, PartialEq)]
pub(crate) enum Old {
    Same,
    Was(&'static str),
    Absent,
}
use Old::{Absent, Same, Was};

pub(crate) struct Row {
    pub name: &'static str,
    in_1_36: Old,
}

macro_rules! table {
    ($($name:ident = $text:literal $old:expr;)*) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub const $name: &str = $text;
        )*
        pub(crate) const TABLE: &[Row] = &[$(Row { name: $text, in_1_36: $old }),*];
    };
}

table! {
    // what is done, by whom
    OPERATION_NAME = "gen_ai.operation.name" Same;
    PROVIDER_NAME = "gen_ai.provider.name" Was("gen_ai.system");
    AGENT_NAME = "gen_ai.agent.name" Same;
    AGENT_VERSION = "gen_ai.agent.version" Absent;
    CONVERSATION_ID = "gen_ai.conversation.id" Same;
    // what a model is asked
    REQUEST_MODEL = "gen_ai.request.model" Same;
    REQUEST_TEMPERATURE = "gen_ai.request.temperature" Same;
    REQUEST_TOP_P = "gen_ai.request.top_p" Same;
    REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens" Same;
    REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences" Same;
    REQUEST_SEED = "gen_ai.request.seed" Same;
    REQUEST_STREAM = "gen_ai.request.stream" Absent;
    OUTPUT_TYPE = "gen_ai.output.type" Same;
    // what it answers
    RESPONSE_ID = "gen_ai.response.id" Same;
    RESPONSE_MODEL = "gen_ai.response.model" Same;
    RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons" Same;
    RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk" Absent;
    USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens" Same;
    USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens" Same;
    USAGE_CACHE_READ = "gen_ai.usage.cache_read.input_tokens" Absent;
    USAGE_CACHE_CREATION = "gen_ai.usage.cache_creation.input_tokens" Absent;
    USAGE_REASONING = "gen_ai.usage.reasoning.output_tokens" Absent;
    TOKEN_TYPE = "gen_ai.token.type" Same;
    // tools
    TOOL_NAME = "gen_ai.tool.name" Same;
    TOOL_TYPE = "gen_ai.tool.type" Same;
    TOOL_DESCRIPTION = "gen_ai.tool.description" Same;
    TOOL_CALL_ID = "gen_ai.tool.call.id" Same;
    // content, by opt-in
    SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions" Absent;
    INPUT_MESSAGES = "gen_ai.input.messages" Absent;
    OUTPUT_MESSAGES = "gen_ai.output.messages" Absent;
    TOOL_DEFINITIONS = "gen_ai.tool.definitions" Absent;
    TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments" Absent;
    TOOL_CALL_RESULT = "gen_ai.tool.call.result" Absent;
    // MCP
    MCP_METHOD_NAME = "mcp.method.name" Absent;
    MCP_PROTOCOL_VERSION = "mcp.protocol.version" Absent;
    MCP_SESSION_ID = "mcp.session.id" Absent;
    MCP_RESOURCE_URI = "mcp.resource.uri" Absent;
    PROMPT_NAME = "gen_ai.prompt.name" Absent;
    JSONRPC_REQUEST_ID = "jsonrpc.request.id" Same;
    RPC_RESPONSE_STATUS_CODE = "rpc.response.status_code" Same;
    // for everything
    NETWORK_TRANSPORT = "network.transport" Same;
    SERVER_ADDRESS = "server.address" Same;
    SERVER_PORT = "server.port" Same;
    ERROR_TYPE = "error.type" Same;
    USER_ID = "user.id" Same;
    SERVICE_NAME = "service.name" Same;
    SERVICE_VERSION = "service.version" Same;
    SERVICE_INSTANCE_ID = "service.instance.id" Same;
    // metrics
    METRIC_TOKEN_USAGE = "gen_ai.client.token.usage" Same;
    METRIC_OPERATION_DURATION = "gen_ai.client.operation.duration" Same;
    METRIC_TIME_TO_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk" Absent;
    METRIC_INVOKE_AGENT_DURATION = "gen_ai.invoke_agent.duration" Absent;
    METRIC_INVOKE_AGENT_INFERENCE_CALLS = "gen_ai.invoke_agent.inference_calls" Absent;
    METRIC_INVOKE_AGENT_TOOL_CALLS = "gen_ai.invoke_agent.tool_calls" Absent;
    METRIC_EXECUTE_TOOL_DURATION = "gen_ai.execute_tool.duration" Absent;
    METRIC_MCP_CLIENT_OPERATION_DURATION = "mcp.client.operation.duration" Absent;
    METRIC_MCP_CLIENT_SESSION_DURATION = "mcp.client.session.duration" Absent;
    // ours: what the conventions have no word for
    RUN_ID = "adjutant.run.id" Same;
    RUN_PARENT_ID = "adjutant.run.parent.id" Same;
    RUN_ATTEMPT = "adjutant.run.attempt" Same;
    RUN_EPOCH = "adjutant.run.epoch" Same;
    RUN_TAGS = "adjutant.run.tags" Same;
    OUTCOME = "adjutant.outcome" Same;
    STEP_NAME = "adjutant.step.name" Same;
    TOOL_EFFECT = "adjutant.tool.effect" Same;
    COST_USD = "adjutant.cost.usd" Same;
    LINK = "adjutant.link" Same;
    METRIC_ATTEMPTS = "adjutant.run.attempts" Same;
    METRIC_COST = "adjutant.cost" Same;
}

const fn histogram(
    name: &'static str,
    unit: &'static str,
    bounds: &'static [f64],
    description: &'static str,
) -> Instrument {
    let kind = InstrumentKind::Histogram(bounds);
    Instrument {
        name,
        unit,
        kind,
        description,
    }
}

const fn counter(name: &'static str, unit: &'static str, description: &'static str) -> Instrument {
    let kind = InstrumentKind::Counter;
    Instrument {
        name,
        unit,
        kind,
        description,
    }
}

/// Tokens of model calls, by [`TOKEN_TYPE`].
pub static TOKEN_USAGE: Instrument = histogram(
    METRIC_TOKEN_USAGE,
    "{token}",
    TOKENS,
    "Number of input and output tokens used",
);
/// How long model calls take.
pub static OPERATION_DURATION: Instrument = histogram(
    METRIC_OPERATION_DURATION,
    "s",
    SECONDS,
    "Duration of model calls",
);
/// How long models take to begin an answer.
pub static TIME_TO_FIRST_CHUNK: Instrument = histogram(
    METRIC_TIME_TO_FIRST_CHUNK,
    "s",
    SECONDS,
    "Time until the first chunk of a streamed answer",
);
/// How long attempts take.
pub static INVOKE_AGENT_DURATION: Instrument = histogram(
    METRIC_INVOKE_AGENT_DURATION,
    "s",
    LONG_SECONDS,
    "Duration of attempts at runs",
);
/// Model calls of an attempt.
pub static INVOKE_AGENT_INFERENCE_CALLS: Instrument = histogram(
    METRIC_INVOKE_AGENT_INFERENCE_CALLS,
    "{inference_call}",
    CALLS,
    "Model calls in one attempt",
);
/// Tool calls of an attempt.
pub static INVOKE_AGENT_TOOL_CALLS: Instrument = histogram(
    METRIC_INVOKE_AGENT_TOOL_CALLS,
    "{tool_call}",
    CALLS,
    "Tool calls in one attempt",
);
/// How long tools take.
pub static EXECUTE_TOOL_DURATION: Instrument = histogram(
    METRIC_EXECUTE_TOOL_DURATION,
    "s",
    SECONDS,
    "Duration of tool calls",
);
/// How long calls to MCP servers take.
pub static MCP_CLIENT_OPERATION_DURATION: Instrument = histogram(
    METRIC_MCP_CLIENT_OPERATION_DURATION,
    "s",
    MCP_SECONDS,
    "Duration of MCP requests as the client saw them",
);
/// How long sessions with MCP servers last.
pub static MCP_CLIENT_SESSION_DURATION: Instrument = histogram(
    METRIC_MCP_CLIENT_SESSION_DURATION,
    "s",
    MCP_SECONDS,
    "Duration of MCP sessions as the client saw them",
);
/// Attempts by [`OUTCOME`] and agent.
pub static ATTEMPTS: Instrument =
    counter(METRIC_ATTEMPTS, "{attempt}", "Attempts at runs by outcome");
/// What models cost.
pub static COST: Instrument = counter(METRIC_COST, "{USD}", "Cost of model calls in US dollars");

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_ours_or_in_the_vendored_copy_of_the_conventions() {
        let copies = [
            include_str!("../semconv/names-1.42.0.txt"),
            include_str!("../semconv/names-draft.txt"),
        ];
        let known: HashSet<&str> = copies.iter().flat_map(|copy| copy.lines()).collect();
        let unknown = TABLE
            .iter()
            .filter(|row| !row.name.starts_with("adjutant.") && !known.contains(row.name));
        assert_eq!(unknown.map(|row| row.name).collect::<Vec<_>>(), [""; 0]);
        assert!(!known.contains("gen_ai.made_up"));
    }

    #[test]
    fn no_name_is_in_the_table_twice() {
        let names: HashSet<&str> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn the_older_revision_renames_and_leaves_out() {
        let old = Semconv::V1_36;
        assert_eq!(*old.fate(PROVIDER_NAME), Was("gen_ai.system"));
        assert_eq!(*old.fate(MCP_METHOD_NAME), Absent);
        assert_eq!(*old.fate(REQUEST_MODEL), Same);
        assert_eq!(*old.fate("of.someone.else"), Same);
        assert_eq!(*Semconv::Latest.fate(PROVIDER_NAME), Same);
    }

    #[test]
    fn the_opt_in_is_one_word_of_a_list() {
        assert_eq!(
            Semconv::from_opt_in("http, gen_ai_latest_experimental"),
            Semconv::Latest
        );
        assert_eq!(Semconv::from_opt_in("http/dup"), Semconv::V1_36);
        assert_eq!(Semconv::from_opt_in(""), Semconv::V1_36);
    }
}
