//! JSON Schema of every message, for people who write or check an agent in another language.
//!
//! The published copy is `docs/reference/agent-wire.schema.json`; a test holds it to the types.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    CallProgress, CancelRequest, CheckpointLoad, CheckpointSave, Delegate, ErrorData, HealthCheck,
    Hello, Initialize, InputRequest, LlmDelta, LlmGenerate, Log, RequestId, RpcError, RunCancel,
    RunEvent, RunHeartbeat, RunStart, RunSteer, Shutdown, SignalWait, Sleep, StepBegin, StepEnd,
    ToolsCall, ToolsChanged, ToolsList,
    dispatch::{Call, Notice},
    exec::ExecInput,
};

/// Who sends a message.
#[derive(Clone, Copy, PartialEq)]
enum Sender {
    Host,
    Agent,
    Both,
}

impl Sender {
    const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Agent => "agent",
            Self::Both => "both",
        }
    }

    fn sends(self, other: Self) -> bool {
        self == other || self == Self::Both
    }
}

/// One method.
struct Entry {
    method: &'static str,
    sender: Sender,
    params: Value,
    /// Absent for a notification.
    answer: Option<Value>,
}

/// The whole schema: valid is every line that either side may write. `methods` says who sends what, and the shapes of
/// parameters and answers; `$defs` holds the shapes, `agentLine` and `hostLine` what one side may write.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let entries = entries(&mut generator);
    let error = part::<RpcError>(&mut generator);
    let id = part::<RequestId>(&mut generator);
    for _ in [
        part::<ErrorData>(&mut generator),
        part::<ExecInput>(&mut generator),
    ] {}
    let mut defs = generator.take_definitions(true);
    let response = json!({
        "title": "Response",
        "type": "object",
        "required": ["jsonrpc", "id"],
        "properties": {
            "jsonrpc": { "const": "2.0" },
            "id": { "anyOf": [id, { "type": "null" }] },
            "result": {},
            "error": error,
        },
        "oneOf": [{ "required": ["result"] }, { "required": ["error"] }],
    });
    defs.insert("response".to_owned(), response);
    for (name, sender) in [("hostLine", Sender::Host), ("agentLine", Sender::Agent)] {
        defs.insert(name.to_owned(), line(&entries, sender));
    }
    let methods: Map<String, Value> = entries.iter().map(describe).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Adjutant agent wire, version 1",
        "description": "One line of the agent wire. See agent-wire.md.",
        "anyOf": [{ "$ref": "#/$defs/hostLine" }, { "$ref": "#/$defs/agentLine" }],
        "methods": methods,
        "$defs": defs,
    })
}

fn part<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn describe(entry: &Entry) -> (String, Value) {
    let mut about = json!({
        "from": entry.sender.name(),
        "kind": if entry.answer.is_some() { "request" } else { "notification" },
        "params": entry.params,
    });
    if let Some(answer) = &entry.answer {
        about["answer"] = answer.clone();
    }
    (entry.method.to_owned(), about)
}

/// What one side may write.
fn line(entries: &[Entry], sender: Sender) -> Value {
    let own = entries.iter().filter(|entry| entry.sender.sends(sender));
    let mut lines: Vec<Value> = own.map(message).collect();
    lines.push(json!({ "$ref": "#/$defs/response" }));
    json!({ "anyOf": lines })
}

fn message(entry: &Entry) -> Value {
    let mut required = vec!["jsonrpc", "method", "params"];
    let mut properties = json!({
        "jsonrpc": { "const": "2.0" },
        "method": { "const": entry.method },
        "params": entry.params,
    });
    if entry.answer.is_some() {
        required.push("id");
        properties["id"] = json!({ "type": ["string", "integer"] });
    } else {
        properties["id"] = json!(false);
    }
    json!({ "type": "object", "required": required, "properties": properties })
}

fn entries(generator: &mut SchemaGenerator) -> Vec<Entry> {
    use Sender::{Agent, Both, Host};
    vec![
        notice::<Hello>(generator, Agent),
        call::<Initialize>(generator, Host),
        call::<RunStart>(generator, Host),
        notice::<RunCancel>(generator, Host),
        notice::<RunSteer>(generator, Host),
        call::<HealthCheck>(generator, Host),
        call::<Shutdown>(generator, Host),
        notice::<ToolsChanged>(generator, Host),
        notice::<CallProgress>(generator, Host),
        notice::<LlmDelta>(generator, Host),
        notice::<CancelRequest>(generator, Both),
        notice::<RunEvent>(generator, Agent),
        notice::<RunHeartbeat>(generator, Agent),
        notice::<Log>(generator, Agent),
        call::<CheckpointSave>(generator, Agent),
        call::<CheckpointLoad>(generator, Agent),
        call::<StepBegin>(generator, Agent),
        call::<StepEnd>(generator, Agent),
        call::<Sleep>(generator, Agent),
        call::<SignalWait>(generator, Agent),
        call::<InputRequest>(generator, Agent),
        call::<Delegate>(generator, Agent),
        call::<ToolsList>(generator, Agent),
        call::<ToolsCall>(generator, Agent),
        call::<LlmGenerate>(generator, Agent),
    ]
}

fn call<C>(generator: &mut SchemaGenerator, sender: Sender) -> Entry
where
    C: Call + JsonSchema,
    C::Answer: JsonSchema,
{
    Entry {
        method: C::METHOD,
        sender,
        params: part::<C>(generator),
        answer: Some(part::<C::Answer>(generator)),
    }
}

fn notice<N: Notice + JsonSchema>(generator: &mut SchemaGenerator, sender: Sender) -> Entry {
    Entry {
        method: N::METHOD,
        sender,
        params: part::<N>(generator),
        answer: None,
    }
}
