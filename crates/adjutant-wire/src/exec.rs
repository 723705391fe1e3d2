//! Level 0: any command is an agent.
//!
//! The input is one JSON object on stdin ([`ExecInput`]), then EOF. Stdout is the answer: a JSON value, else text. Exit
//! status 0 means success, 75 (`EX_TEMPFAIL`) "try again later", anything else, or a signal, failure. Stderr is log.
//!
//! A failure is retriable as well, within the run's retry policy: the runtime cannot know what a status of an unknown
//! command means, and the policy bounds the attempts. 75 asks for it without blaming the agent.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::content::{AgentFailure, RunInput, RunOutput};

/// Exit status for "try again later", as in `sysexits.h`.
pub const EXIT_TRY_LATER: i32 = 75;

/// What a command gets on stdin.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ExecInput {
    /// The run.
    pub run_id: String,
    /// Its attempt, from 1.
    pub attempt: u32,
    /// What to work on.
    #[serde(default)]
    pub input: RunInput,
    /// Settings from whoever submitted the run.
    #[serde(default)]
    pub params: Value,
    /// Labels from whoever submitted the run.
    #[serde(default)]
    pub metadata: Value,
}

/// Reads what a finished command wrote and said. `status` is the exit status, `None` after a signal; `stderr_tail` the
/// end of what it wrote to stderr.
///
/// # Errors
///
/// The failure to report when the status is not 0.
pub fn read_exit(
    status: Option<i32>,
    stdout: &[u8],
    stderr_tail: &str,
) -> Result<RunOutput, AgentFailure> {
    let (kind, what) = match status {
        Some(0) => return Ok(read_answer(stdout)),
        Some(EXIT_TRY_LATER) => (
            "try_later",
            "the command asks to try again later".to_owned(),
        ),
        Some(status) => (
            "exit_status",
            format!("the command exited with status {status}"),
        ),
        None => ("signal", "the command was ended by a signal".to_owned()),
    };
    let tail = stderr_tail.trim();
    let message = if tail.is_empty() {
        what
    } else {
        format!("{what}: {tail}")
    };
    let details = status.map(|status| Box::new(serde_json::json!({ "status": status })));
    Err(AgentFailure {
        kind: kind.to_owned(),
        message,
        retriable: true,
        details,
    })
}

/// The answer on stdout: an object or array, a number, a boolean or null is `data`; a JSON string, and what is no JSON,
/// is `text`. Nothing at all is an empty answer.
#[must_use]
pub fn read_answer(stdout: &[u8]) -> RunOutput {
    let text = String::from_utf8_lossy(stdout);
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return RunOutput::default();
    }
    match serde_json::from_str(trimmed) {
        Ok(Value::String(text)) => RunOutput {
            text: Some(text),
            ..RunOutput::default()
        },
        Ok(data) => RunOutput {
            data: Some(data),
            ..RunOutput::default()
        },
        // The newline that every command prints at the end is not part of what it says.
        Err(_) => RunOutput {
            text: Some(text.trim_end().to_owned()),
            ..RunOutput::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_data_and_everything_else_is_text() {
        let data = |data| RunOutput {
            data: Some(data),
            ..RunOutput::default()
        };
        let text = |text: &str| RunOutput {
            text: Some(text.into()),
            ..RunOutput::default()
        };
        let cases = [
            ("{\"a\": 1}\n", data(json!({"a": 1}))),
            ("[1]", data(json!([1]))),
            ("7", data(json!(7))),
            ("\"quoted\"", text("quoted")),
            ("hello\nworld\n", text("hello\nworld")),
            ("  indented\n", text("  indented")),
            ("{broken", text("{broken")),
            (" \n", RunOutput::default()),
        ];
        for (stdout, output) in cases {
            assert_eq!(read_answer(stdout.as_bytes()), output, "{stdout:?}");
        }
        assert_eq!(read_answer(b"\xff"), text("\u{fffd}"));
    }

    #[test]
    fn only_status_zero_is_success() {
        assert!(read_exit(Some(0), b"ok", "").is_ok());
        for (status, kind) in [
            (Some(1), "exit_status"),
            (Some(75), "try_later"),
            (None, "signal"),
        ] {
            let failure = read_exit(status, b"ignored", " tail\n").unwrap_err();
            assert_eq!(failure.kind, kind);
            assert!(failure.retriable && failure.message.ends_with(": tail"));
        }
    }
}
