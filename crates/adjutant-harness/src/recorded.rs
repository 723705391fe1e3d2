//! What the journal keeps of a tool call.

use adjutant_core::{Json, ToolAnswer};
use adjutant_tools::Reply;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The result of a tool step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Recorded {
    /// The tool's answer.
    Answer(ToolAnswer),
    /// The tool asks for something first.
    InputRequired {
        requests: Map<String, Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<Value>,
    },
}

impl Recorded {
    /// Reads a step's result. A person who said what a call came to may have written just the answer, or just its data.
    pub fn read(result: &Json) -> Self {
        if let Ok(recorded) = result.to() {
            return recorded;
        }
        let value: Value = result.to().unwrap_or_default();
        let is_answer = value.get("content").is_some_and(Value::is_array);
        let answer = is_answer
            .then(|| serde_json::from_value(value.clone()).ok())
            .flatten();
        Self::Answer(answer.unwrap_or_else(|| match value {
            Value::String(text) => ToolAnswer::text(text),
            data => ToolAnswer::data(data),
        }))
    }
}

impl From<Reply> for Recorded {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Answer(answer) => Self::Answer(answer),
            Reply::InputRequired { requests, state } => Self::InputRequired { requests, state },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_recorded_is_read_back() {
        for recorded in [
            Recorded::Answer(ToolAnswer::data(json!({ "x": 1 }))),
            Recorded::InputRequired {
                requests: Map::from_iter([("a".to_owned(), json!({ "method": "m" }))]),
                state: Some(json!("s")),
            },
        ] {
            let json = Json::from_value(&recorded).unwrap();
            assert_eq!(Recorded::read(&json), recorded);
        }
    }

    #[test]
    fn a_person_may_write_an_answer_in_short() {
        let read = |value: Value| Recorded::read(&Json::from(value));
        let text = ToolAnswer::text("paid");
        assert_eq!(read(json!("paid")), Recorded::Answer(text.clone()));
        assert_eq!(
            read(serde_json::to_value(&text).unwrap()),
            Recorded::Answer(text)
        );
        assert_eq!(
            read(json!({ "receipt": 7 })),
            Recorded::Answer(ToolAnswer::data(json!({ "receipt": 7 })))
        );
    }
}
