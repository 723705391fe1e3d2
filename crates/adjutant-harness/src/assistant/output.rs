//! Whether an answer is of the form that was asked for.

use adjutant_core::Json;
use serde_json::Value;

use super::AssistantSpec;

/// What an answer is worth.
pub(super) enum Judged {
    /// This is the run's output.
    Good(Json),
    /// This is wrong with it, in words for the model.
    Bad(String),
}

pub(super) fn judge(spec: &AssistantSpec, text: &str) -> Judged {
    let Some(schema) = &spec.output_schema else {
        return Judged::Good(Json::from(text));
    };
    let value: Value = match serde_json::from_str(unfenced(text)) {
        Ok(value) => value,
        Err(error) => {
            return Judged::Bad(format!(
                "Your answer is not JSON ({error}). Answer with JSON only."
            ));
        }
    };
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(error) => return Judged::Bad(format!("`output_schema` is no JSON Schema: {error}")),
    };
    let problems: Vec<String> = validator
        .iter_errors(&value)
        .take(5)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if problems.is_empty() {
        return Judged::Good(Json::from(value));
    }
    Judged::Bad(format!(
        "Your answer does not fit the schema: {}. Answer with JSON that does.",
        problems.join("; ")
    ))
}

/// The text without the code fence that models like to put around JSON.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inner = text
        .strip_prefix("```")
        .and_then(|text| text.strip_suffix("```"));
    inner.map_or(text, |inner| {
        inner.strip_prefix("json").unwrap_or(inner).trim()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(text: &str) -> Result<String, String> {
        let spec = AssistantSpec {
            output_schema: Some(json!({
                "type": "object",
                "properties": { "n": { "type": "integer" } },
                "required": ["n"],
            })),
            ..AssistantSpec::default()
        };
        match judge(&spec, text) {
            Judged::Good(output) => Ok(output.to_string()),
            Judged::Bad(why) => Err(why),
        }
    }

    #[test]
    fn json_that_fits_is_the_output_even_in_a_fence() {
        assert_eq!(judged("```json\n{\"n\":1}\n```").unwrap(), r#"{"n":1}"#);
    }

    #[test]
    fn what_does_not_fit_is_explained_to_the_model() {
        assert!(judged(r#"{"n":"x"}"#).unwrap_err().contains("/n"));
        assert!(judged("one").unwrap_err().contains("not JSON"));
    }
}
