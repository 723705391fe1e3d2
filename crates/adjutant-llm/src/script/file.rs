//! The form of a script.

use std::time::Duration;

use adjutant_core::{FinishReason, TokenUsage};
use serde::{Deserialize, Serialize};

use crate::{ConfigError, ModelErrorKind};

/// What a scripted model answers: a list, or a map with `answers`.
///
/// ```
/// # use adjutant_llm::Script;
/// let script = Script::from_yaml(
///     "
///     - tool_calls: [{name: read_file, arguments: {path: notes.txt}}]
///     - text: The notes say hello.
///     - {when: goodbye, text: Until next time.}
///     ",
/// )?;
/// assert_eq!(script.answers.len(), 3);
/// # Ok::<(), adjutant_llm::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Form")]
pub struct Script {
    /// The answers. Those without `when` come in order: the first to a conversation without an assistant's message, the
    /// second to one with one, and so on, so that the same conversation always gets the same answer, whatever was asked
    /// before and in whatever process. An answer with `when` comes wherever that fits.
    pub answers: Vec<ScriptedAnswer>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of answers, or a map with `answers`")]
enum Form {
    List(Vec<ScriptedAnswer>),
    Map(MapForm),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapForm {
    answers: Vec<ScriptedAnswer>,
}

impl From<Form> for Script {
    fn from(form: Form) -> Self {
        match form {
            Form::List(answers) | Form::Map(MapForm { answers }) => Self { answers },
        }
    }
}

/// One answer of a script.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScriptedAnswer {
    /// Answer so whenever the conversation's last message holds this text. The first that fits comes before the order.
    pub when: Option<String>,
    /// What is said; shown word by word.
    pub text: String,
    /// What is thought before; shown word by word.
    pub reasoning: String,
    /// The tools that are asked for.
    pub tool_calls: Vec<ScriptedCall>,
    /// Fail instead: a kind such as `rate_limited`, or a map.
    pub error: Option<ScriptedError>,
    /// Time before the answer, in milliseconds.
    pub delay_ms: u64,
    /// Time before each word, in milliseconds.
    pub word_delay_ms: u64,
    /// What the answer took. Default: a token for every four bytes.
    pub usage: Option<TokenUsage>,
    /// Why it stopped. Default: `tool_calls` where there are some, else `stop`.
    pub finish_reason: Option<FinishReason>,
}

/// A tool that a scripted answer asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScriptedCall {
    /// Pairs the call with its answer. Default: made of the answer's place and the call's.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// What it gets. Default: no arguments.
    pub arguments: serde_json::Value,
}

/// A failure of a script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "ErrorForm")]
pub struct ScriptedError {
    /// What kind.
    pub kind: ModelErrorKind,
    /// What is told. Default: a sentence that says that it was scripted.
    pub message: Option<String>,
    /// When the provider wants to be asked again, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// How often to fail before answering; absent fails always. Counted per answer and process.
    pub times: Option<u32>,
    /// Show the text first and fail then.
    pub after_text: bool,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a kind such as `rate_limited`, or a map with `kind`"
)]
enum ErrorForm {
    Kind(ModelErrorKind),
    Map(ErrorMap),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorMap {
    kind: ModelErrorKind,
    message: Option<String>,
    retry_after_ms: Option<u64>,
    times: Option<u32>,
    #[serde(default)]
    after_text: bool,
}

impl From<ErrorForm> for ScriptedError {
    fn from(form: ErrorForm) -> Self {
        match form {
            ErrorForm::Kind(kind) => Self {
                kind,
                message: None,
                retry_after_ms: None,
                times: None,
                after_text: false,
            },
            ErrorForm::Map(map) => Self {
                kind: map.kind,
                message: map.message,
                retry_after_ms: map.retry_after_ms,
                times: map.times,
                after_text: map.after_text,
            },
        }
    }
}

impl Script {
    /// Reads a script from YAML or JSON.
    ///
    /// # Errors
    /// When the text is no script; says where.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        let script: Self = serde_saphyr::from_str(text)
            .map_err(|error| ConfigError::new(format!("the script cannot be read: {error}")))?;
        match script.problem() {
            Some(problem) => Err(ConfigError::new(problem)),
            None => Ok(script),
        }
    }

    fn problem(&self) -> Option<String> {
        self.answers.iter().enumerate().find_map(|(index, answer)| {
            let nameless = answer.tool_calls.iter().any(|call| call.name.is_empty());
            nameless.then(|| format!("answer {}: a tool call has no name", index + 1))
        })
    }
}

impl ScriptedAnswer {
    pub(super) const fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    pub(super) const fn word_delay(&self) -> Duration {
        Duration::from_millis(self.word_delay_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_lists_or_maps_in_yaml_or_json() {
        for text in [
            "- text: hi",
            "answers: [{text: hi}]",
            r#"[{"text": "hi"}]"#,
            r#"{"answers": [{"text": "hi"}]}"#,
        ] {
            let script = Script::from_yaml(text).unwrap();
            assert_eq!(script.answers[0].text, "hi", "{text}");
        }
    }

    #[test]
    fn what_is_no_script_is_refused() {
        for text in [
            "- texts: hi",
            "answer: []",
            "- error: bad_luck",
            "- {error: {kind: server, sometimes: 1}}",
            "- tool_calls: [{arguments: {}}]",
            "hello",
        ] {
            assert!(Script::from_yaml(text).is_err(), "{text}");
        }
    }
}
