//! A run's input, from an argument, a file or stdin.

use std::{
    fs,
    io::{self, Read},
};

use adjutant::core::{Json, RunInput};
use serde_json::Value;

use crate::failure::{Failure, INPUT_NOT_JSON, INPUT_UNREADABLE, Result};

/// Fields of a [`RunInput`]; an object with nothing else is one.
const INPUT_FIELDS: &[&str] = &["messages", "data", "params", "conversation_id"];

/// Reads what the command line gives as input.
pub fn read(text: Option<&str>, file: Option<&str>, params: Option<&str>) -> Result<RunInput> {
    let mut input = match (text, file) {
        (Some(text), _) => from_text(text),
        (None, Some(file)) => from_file(file)?,
        (None, None) => RunInput::default(),
    };
    if let Some(params) = params {
        input.params = json_argument("--params", params)?;
    }
    Ok(input)
}

/// A JSON object or array is data; everything else is what a user says.
fn from_text(text: &str) -> RunInput {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => RunInput::data(value),
        _ => RunInput::text(text),
    }
}

fn from_file(file: &str) -> Result<RunInput> {
    let (name, text) = read_text(file)?;
    let value: Value = serde_json::from_str(&text).map_err(|error| not_json(&name, &error))?;
    let is_input = value.as_object().is_some_and(|map| {
        !map.is_empty() && map.keys().all(|key| INPUT_FIELDS.contains(&key.as_str()))
    });
    if !is_input {
        return Ok(RunInput::data(value));
    }
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(INPUT_NOT_JSON, format!("{name} is not a valid run input"))
            .because(error.to_string())
            .hint("see `messages`, `data` and `params` in docs/reference/cli.md; put other JSON below `data`")
    })
}

fn read_text(file: &str) -> Result<(String, String)> {
    if file == "-" {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| unreadable("stdin", &error))?;
        return Ok(("stdin".to_owned(), text));
    }
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    Ok((file.to_owned(), text))
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::usage(INPUT_UNREADABLE, format!("the input {name} cannot be read"))
        .because(error.to_string())
        .hint("--input takes a file with JSON, or - for stdin")
}

fn not_json(name: &str, error: &serde_json::Error) -> Failure {
    let message = format!(
        "{name}:{}:{}: the input is not JSON",
        error.line(),
        error.column()
    );
    Failure::usage(INPUT_NOT_JSON, message)
        .because(error.to_string())
        .hint("pass plain text as an argument: agent run PATH \"text\"; --input takes JSON only")
}

/// JSON given as the value of a flag.
pub fn json_argument(flag: &str, text: &str) -> Result<Json> {
    Json::parse(text.to_owned()).map_err(|error| {
        Failure::usage(INPUT_NOT_JSON, format!("the value of {flag} is not JSON"))
            .because(error.to_string())
            .hint(format!(
                "quote it for the shell: {flag} '{{\"key\": \"value\"}}'"
            ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structured_text_is_data_and_the_rest_is_a_message() {
        assert_eq!(from_text("{\"a\":1}").data.as_str(), "{\"a\":1}");
        assert_eq!(from_text("[1]").data.as_str(), "[1]");
        for text in ["hello", "42", "\"x\"", "{broken", ""] {
            assert_eq!(from_text(text), RunInput::text(text), "{text}");
        }
    }

    #[test]
    fn a_file_is_an_input_only_when_it_has_nothing_but_an_inputs_fields() {
        let dir = tempfile::tempdir().unwrap();
        let read_file = |text: &str| {
            let path = dir.path().join("input.json");
            fs::write(&path, text).unwrap();
            from_file(path.to_str().unwrap())
        };
        let input =
            read_file(r#"{"messages":[{"role":"user","content":"hi"}],"params":{"n":1}}"#).unwrap();
        assert_eq!(input.messages[0].text(), "hi");
        let data = read_file(r#"{"data":1,"other":2}"#).unwrap();
        assert_eq!(data.data.as_str(), r#"{"data":1,"other":2}"#);
        let failure = read_file("{\n  \"a\": nope\n}").unwrap_err();
        assert_eq!(failure.code, INPUT_NOT_JSON);
        assert!(
            failure.message.contains("input.json:2:"),
            "{}",
            failure.message
        );
    }
}
