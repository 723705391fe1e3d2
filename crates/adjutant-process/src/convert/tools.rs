//! Tools, between the words of the wire and those of the runtime.

use std::time::Duration;

use adjutant_core::{Effect, ToolAnswer, ToolSpec, ToolUse};
use adjutant_wire as wire;
use serde_json::{Map, Value, json};

use super::tree;

/// A tool in MCP's words; what it does to the world stands in its `annotations` as well.
pub(crate) fn tool(tool: &ToolSpec) -> wire::ToolDescription {
    let mut extra = Map::new();
    if let Some(schema) = &tool.output_schema {
        extra.insert("outputSchema".to_owned(), tree(schema));
    }
    if let Some(why) = &tool.unavailable {
        extra.insert("unavailable".to_owned(), json!(why));
    }
    extra.insert("effect".to_owned(), json!(tool.effect.as_str()));
    extra.insert(
        "annotations".to_owned(),
        match tool.effect {
            Effect::ReadOnly => json!({ "readOnlyHint": true }),
            Effect::Idempotent | Effect::Keyed => json!({ "idempotentHint": true }),
            _ => json!({ "destructiveHint": true }),
        },
    );
    wire::ToolDescription {
        name: tool.name.clone(),
        description: tool.description.clone(),
        input_schema: tree(&tool.input_schema),
        extra,
    }
}

/// A call; its id names it in the journal.
pub(crate) fn tool_use(call: wire::ToolsCall) -> ToolUse {
    ToolUse {
        key: format!("tool:{}", call.call_id),
        call_id: call.call_id,
        name: call.name,
        arguments: Value::Object(call.arguments).into(),
        timeout: call.timeout_ms.map(Duration::from_millis),
    }
}

pub(crate) fn tool_answer(answer: ToolAnswer) -> wire::ToolAnswer {
    wire::ToolAnswer {
        content: answer.content,
        structured_content: answer.structured_content,
        is_error: answer.is_error,
    }
}
