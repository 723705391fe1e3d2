//! What models write as arguments, and how providers want tools described.

use adjutant_core::{Json, ToolSpec};
use serde_json::{Value, json};

use crate::{Result, ToolError};

/// A call's arguments as a model gave them: an object, the text of one, or nothing, which is an empty one.
///
/// # Errors
/// [`ToolError::InvalidArguments`] when that is no JSON object; the model should read it.
pub fn parse_arguments(tool: &str, given: &Json) -> Result<Json> {
    let value: Value = given
        .to()
        .map_err(|error| ToolError::invalid(tool, "", error.to_string()))?;
    match value {
        Value::Object(_) => Ok(given.clone()),
        Value::Null => Ok(json!({}).into()),
        Value::String(text) if text.trim().is_empty() => Ok(json!({}).into()),
        Value::String(text) => parse_text(tool, text),
        other => Err(not_an_object(tool, &other)),
    }
}

fn parse_text(tool: &str, text: String) -> Result<Json> {
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        let problem = format!("this is not JSON ({error}): {}", excerpt(&text));
        ToolError::invalid(tool, "", problem)
    })?;
    if !value.is_object() {
        return Err(not_an_object(tool, &value));
    }
    Json::parse(text).map_err(|error| ToolError::invalid(tool, "", error.to_string()))
}

fn not_an_object(tool: &str, value: &Value) -> ToolError {
    let problem = format!("must be a JSON object, not {}", excerpt(&value.to_string()));
    ToolError::invalid(tool, "", problem)
}

/// Characters of a mistake that are shown to who made it.
const EXCERPT: usize = 120;

fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(EXCERPT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The tools as OpenAI's chat completions take them in `tools`.
#[must_use]
pub fn to_openai(tools: &[ToolSpec]) -> Vec<Value> {
    let tool = |tool: &ToolSpec| {
        json!({
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": parameters(tool),
            },
        })
    };
    tools.iter().map(tool).collect()
}

/// The tools as Anthropic's messages take them in `tools`.
#[must_use]
pub fn to_anthropic(tools: &[ToolSpec]) -> Vec<Value> {
    let tool = |tool: &ToolSpec| {
        json!({
            "name": tool.name,
            "description": tool.description,
            "input_schema": parameters(tool),
        })
    };
    tools.iter().map(tool).collect()
}

/// The schema with what providers insist on: an object's type and properties, even if there are none.
fn parameters(tool: &ToolSpec) -> Value {
    let mut schema: Value = tool.input_schema.to().unwrap_or_default();
    if !schema.is_object() {
        schema = json!({});
    }
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("$schema");
        schema.entry("type").or_insert_with(|| json!("object"));
        schema.entry("properties").or_insert_with(|| json!({}));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_or_its_text_or_nothing() {
        for (given, wanted) in [
            (json!({ "a": 1 }), r#"{"a":1}"#),
            (json!(r#"{"a": 1}"#), r#"{"a": 1}"#),
            (json!(""), "{}"),
            (json!(" \n"), "{}"),
            (Value::Null, "{}"),
        ] {
            assert_eq!(
                parse_arguments("t", &given.into()).unwrap().as_str(),
                wanted
            );
        }
    }

    #[test]
    fn broken_arguments_are_the_models_mistake_and_it_sees_them() {
        for given in [json!(r#"{"a": 1"#), json!("[1]"), json!([1]), json!(7)] {
            let error = parse_arguments("t", &given.into()).unwrap_err();
            assert!(error.is_models_mistake());
        }
        let error = parse_arguments("t", &json!("{oops}").into()).unwrap_err();
        assert!(error.to_string().contains("{oops}"), "{error}");
    }

    #[test]
    fn tools_are_described_in_both_providers_words() {
        let tools = [ToolSpec::new("now", "The time", json!({ "$schema": "x" }))];
        let schema = json!({ "type": "object", "properties": {} });
        assert_eq!(
            to_openai(&tools)[0],
            json!({ "type": "function", "function": {
                "name": "now", "description": "The time", "parameters": schema } })
        );
        assert_eq!(
            to_anthropic(&tools)[0],
            json!({ "name": "now", "description": "The time", "input_schema": schema })
        );
    }
}
