//! Tool calls of models that do not know how to call tools: their answer is held to a JSON Schema in which a call is one of
//! the forms.

use std::fmt::Write;

use adjutant_core::{Json, Message, ResponseFormat, ToolAnswer, ToolCall, ToolSpec};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What a model said.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// It wants these tools.
    Calls(Vec<ToolCall>),
    /// It answers.
    Answer(String),
}

/// How the model is told of its tools.
pub(super) fn instructions(tools: &[ToolSpec]) -> String {
    let mut text = "Work step by step. Each of your messages is JSON and one step: {\"step\": {\"tool\": NAME, \"arguments\": {…}}} \
                    uses a tool, {\"step\": {\"answer\": TEXT}} is the answer. The tools:\n"
        .to_owned();
    for tool in tools {
        let first = tool.description.lines().next().unwrap_or_default();
        // Writing to a text cannot fail.
        let _ = writeln!(text, "- {}: {first}", tool.name);
    }
    text
}

/// The forms that a message may have: a call of each tool, while there may be calls, and an answer.
pub(super) fn format(tools: &[ToolSpec], may_call: bool) -> ResponseFormat {
    let call = |tool: &ToolSpec| {
        json!({
            "type": "object",
            "properties": {
                "tool": { "const": tool.name },
                "arguments": tool.input_schema.to::<Value>().unwrap_or_else(|_| json!({ "type": "object" })),
            },
            "required": ["tool", "arguments"],
            "additionalProperties": false,
        })
    };
    let mut forms: Vec<Value> = tools.iter().filter(|_| may_call).map(call).collect();
    forms.push(json!({
        "type": "object",
        "properties": { "answer": { "type": "string" } },
        "required": ["answer"],
        "additionalProperties": false,
    }));
    ResponseFormat::JsonSchema {
        name: "step".to_owned(),
        schema: json!({
            "type": "object",
            "properties": { "step": { "anyOf": forms } },
            "required": ["step"],
            "additionalProperties": false,
        }),
    }
}

#[derive(Deserialize)]
struct Envelope {
    step: Step,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    Call {
        tool: String,
        #[serde(default)]
        arguments: Map<String, Value>,
    },
    Answer {
        answer: String,
    },
}

/// Reads a message; what has none of the forms is taken for an answer. `turn` tells calls apart.
pub(super) fn read(text: &str, turn: u32) -> Said {
    match serde_json::from_str::<Envelope>(text.trim()) {
        Ok(Envelope {
            step: Step::Call { tool, arguments },
        }) => Said::Calls(vec![ToolCall {
            id: format!("step-{turn}"),
            name: tool,
            arguments: Json::from(Value::Object(arguments)),
        }]),
        Ok(Envelope {
            step: Step::Answer { answer },
        }) => Said::Answer(answer),
        Err(_) => Said::Answer(text.to_owned()),
    }
}

/// A tool's answer as such a model is told of it.
pub(super) fn answered(call: &ToolCall, answer: &ToolAnswer) -> Message {
    let text = answer.joined_text();
    let failed = if answer.is_error { " failed" } else { "" };
    Message::user(format!("{}{failed}: {text}", call.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_call_an_answer_or_text() {
        let call = read(r#"{"step":{"tool":"look","arguments":{"what":"x"}}}"#, 3);
        let Said::Calls(calls) = call else {
            panic!("{call:?}")
        };
        assert_eq!(
            (calls[0].id.as_str(), calls[0].name.as_str()),
            ("step-3", "look")
        );
        let answer = read(r#"{"step":{"answer":"yes"}}"#, 1);
        assert_eq!(answer, Said::Answer("yes".to_owned()));
        assert_eq!(read("so be it", 1), Said::Answer("so be it".to_owned()));
    }

    #[test]
    fn the_last_message_can_only_be_an_answer() {
        let tools = [ToolSpec::new("look", "", json!({ "type": "object" }))];
        let forms = |may_call| match format(&tools, may_call) {
            ResponseFormat::JsonSchema { schema, .. } => schema["properties"]["step"]["anyOf"]
                .as_array()
                .unwrap()
                .len(),
            other => panic!("{other:?}"),
        };
        assert_eq!((forms(true), forms(false)), (2, 1));
    }
}
