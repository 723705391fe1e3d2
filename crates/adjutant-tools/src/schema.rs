//! Arguments held to a tool's schema before the call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use adjutant_core::Json;
use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

use crate::{Result, ToolError};

/// Compiled schemas kept at most. Beyond it, all are forgotten and compiled again as they are needed.
const MAX_COMPILED: usize = 4096;

/// Problems named in one error at most; a model mends them all at once.
const MAX_PROBLEMS: usize = 5;

/// Schemas, compiled once each.
#[derive(Default)]
pub struct SchemaCache {
    compiled: Mutex<HashMap<String, Option<Arc<Validator>>>>,
}

impl SchemaCache {
    /// Holds arguments to a schema. The same validator serves all tools and callers with the same schema.
    ///
    /// # Errors
    /// [`ToolError::InvalidArguments`], naming the field.
    pub fn check(&self, tool: &str, schema: &Json, arguments: &Json) -> Result<()> {
        let arguments: Value = arguments
            .to()
            .map_err(|error| ToolError::invalid(tool, "", error.to_string()))?;
        if !arguments.is_object() {
            return Err(ToolError::invalid(tool, "", "must be an object"));
        }
        let Some(validator) = self.validator(tool, schema) else {
            return Ok(());
        };
        let errors: Vec<_> = validator
            .iter_errors(&arguments)
            .take(MAX_PROBLEMS)
            .collect();
        let Some(first) = errors.first() else {
            return Ok(());
        };
        let others = errors[1..]
            .iter()
            .map(|error| format!("; `{}`: {error}", field(error)));
        let problem = format!("{first}{}", others.collect::<String>());
        Err(ToolError::invalid(tool, field(first), problem))
    }

    /// `None` where the schema itself is no good: then only the tool can say what is wrong with its arguments.
    fn validator(&self, tool: &str, schema: &Json) -> Option<Arc<Validator>> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = compiled.get(schema.as_str()) {
            return found.clone();
        }
        let made = compile(schema)
            .map_err(|problem| {
                tracing::warn!(tool, %problem, "arguments cannot be checked: the tool's schema is not valid");
            })
            .ok()
            .map(Arc::new);
        if compiled.len() >= MAX_COMPILED {
            compiled.clear();
        }
        compiled.insert(schema.as_str().to_owned(), made.clone());
        made
    }
}

/// Compiles without looking anything up elsewhere.
fn compile(schema: &Json) -> Result<Validator, String> {
    let schema: Value = schema.to().map_err(|error| error.to_string())?;
    jsonschema::options()
        .offline()
        .build(&schema)
        .map_err(|error| error.to_string())
}

/// JSON Pointer to the field that is wrong: for one that is missing or too many, to that one and not to its parent.
fn field(error: &ValidationError<'_>) -> String {
    let parent = error.instance_path().to_string();
    let child = match error.kind() {
        ValidationErrorKind::Required { property } => property.as_str(),
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            unexpected.first().map(String::as_str)
        }
        _ => None,
    };
    match child {
        Some(child) => format!("{parent}/{}", child.replace('~', "~0").replace('/', "~1")),
        None => parent,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: Value, arguments: Value) -> Result<()> {
        SchemaCache::default().check("t", &schema.into(), &arguments.into())
    }

    fn field_of(schema: Value, arguments: Value) -> String {
        match check(schema, arguments).unwrap_err() {
            ToolError::InvalidArguments { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_error_names_the_field() {
        let schema = json!({
            "type": "object",
            "properties": { "to": {
                "type": "object",
                "properties": { "age": { "type": "integer" }, "a/b": { "type": "string" } },
                "required": ["age", "a/b"],
                "additionalProperties": false,
            } },
        });
        for (arguments, field) in [
            (json!({ "to": { "age": "x", "a/b": "" } }), "/to/age"),
            (json!({ "to": { "age": 1 } }), "/to/a~1b"),
            (json!({ "to": { "age": 1, "a/b": "", "c": 1 } }), "/to/c"),
            (json!([1]), ""),
        ] {
            assert_eq!(field_of(schema.clone(), arguments), field);
        }
        assert!(check(schema, json!({ "to": { "age": 1, "a/b": "" } })).is_ok());
    }

    #[test]
    fn several_problems_are_told_at_once() {
        let schema = json!({ "type": "object", "required": ["a", "b"] });
        let error = check(schema, json!({})).unwrap_err().to_string();
        assert!(error.contains("`/a`") && error.contains("`/b`"), "{error}");
    }

    #[test]
    fn references_within_the_schema_are_followed() {
        let schema = json!({
            "type": "object",
            "properties": { "n": { "$ref": "#/$defs/n" } },
            "$defs": { "n": { "type": "integer" } },
        });
        assert_eq!(field_of(schema, json!({ "n": "x" })), "/n");
    }

    #[test]
    fn a_schema_that_points_elsewhere_is_not_fetched_and_leaves_the_check_to_the_tool() {
        let schema = json!({
            "type": "object",
            "properties": { "n": { "$ref": "http://127.0.0.1:9/schema.json" } },
        });
        assert!(check(schema.clone(), json!({ "n": 1 })).is_ok());
        assert_eq!(field_of(schema, json!(1)), "");
    }

    #[test]
    fn a_schema_is_compiled_once() {
        let cache = SchemaCache::default();
        let schema = Json::from(json!({ "type": "object" }));
        let first = cache.validator("t", &schema).unwrap();
        let again = cache.validator("u", &schema).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
    }
}
