//! Calls that were recorded into a file, and answered from it.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use adjutant_core::{DeltaSink, Json, ModelDelta, ModelRequest, ModelResponse};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, LanguageModel, ModelError, ModelErrorKind, Result};

/// What a cassette is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CassetteMode {
    /// Answer from the file only; a request that is not in it fails.
    #[default]
    Replay,
    /// Ask the model, and write a new file.
    Record,
    /// Answer from the file, and ask the model and add to the file what is not in it.
    Auto,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Of the request, in hexadecimal digits.
    fingerprint: String,
    request: ModelRequest,
    response: ModelResponse,
}

/// A model whose answers are recorded into a file, or come from it: one JSON object a line. Equal requests have equal
/// answers, the first one that was recorded; failures are not recorded.
pub struct RecordReplayModel<M> {
    inner: Option<M>,
    path: PathBuf,
    tape: Mutex<Tape>,
}

struct Tape {
    known: HashMap<String, (Json, ModelResponse)>,
    file: Option<File>,
}

impl<M: LanguageModel> RecordReplayModel<M> {
    /// Opens the file. `inner` answers what is not recorded, in the modes that ask.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a line of it is no recorded call.
    pub fn open(inner: M, path: &Path, mode: CassetteMode) -> Result<Self, ConfigError> {
        let trouble = |error: &dyn std::fmt::Display| {
            ConfigError::new(format!("cassette {}: {error}", path.display()))
        };
        let text = match mode {
            CassetteMode::Record => String::new(),
            CassetteMode::Replay => std::fs::read_to_string(path).map_err(|e| trouble(&e))?,
            CassetteMode::Auto => match std::fs::read_to_string(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                other => other.map_err(|error| trouble(&error))?,
            },
        };
        let mut options = OpenOptions::new();
        let file = match mode {
            CassetteMode::Replay => None,
            CassetteMode::Record => {
                Some(options.write(true).create(true).truncate(true).open(path))
            }
            CassetteMode::Auto => Some(options.append(true).create(true).open(path)),
        };
        let file = file.transpose().map_err(|error| trouble(&error))?;
        let known = read(&text).map_err(|error| trouble(&error))?;
        Ok(Self {
            inner: (mode != CassetteMode::Replay).then_some(inner),
            path: path.to_owned(),
            tape: Mutex::new(Tape { known, file }),
        })
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recorded(&self, fingerprint: &str, request: &Json) -> Option<ModelResponse> {
        let tape = self.tape();
        let (known, response) = tape.known.get(fingerprint)?;
        (known.fingerprint() == request.fingerprint()).then(|| response.clone())
    }

    fn record(&self, line: &Line, request: Json) -> io::Result<()> {
        let mut tape = self.tape();
        if tape.known.contains_key(&line.fingerprint) {
            return Ok(());
        }
        let entry = (request, line.response.clone());
        tape.known.insert(line.fingerprint.clone(), entry);
        if let Some(file) = &mut tape.file {
            let mut text = serde_json::to_vec(line)?;
            text.push(b'\n');
            file.write_all(&text)?;
        }
        Ok(())
    }
}

fn read(text: &str) -> Result<HashMap<String, (Json, ModelResponse)>, String> {
    let mut known = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let refuse = |error: serde_json::Error| format!("line {}: {error}", index + 1);
        let line: Line = serde_json::from_str(line).map_err(refuse)?;
        let request = Json::from_value(&line.request).map_err(refuse)?;
        // Computed again, so that a request that was edited by hand is found as what it is now.
        let fingerprint = fingerprint(&request);
        known.entry(fingerprint).or_insert((request, line.response));
    }
    Ok(known)
}

fn fingerprint(request: &Json) -> String {
    format!("{:016x}", request.fingerprint().0)
}

#[async_trait]
impl<M: LanguageModel> LanguageModel for RecordReplayModel<M> {
    async fn generate(
        &self,
        request: &ModelRequest,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        let key = Json::from_value(request)
            .map_err(|error| ModelError::new(ModelErrorKind::InvalidRequest, error.to_string()))?;
        let fingerprint = fingerprint(&key);
        if let Some(response) = self.recorded(&fingerprint, &key) {
            show_whole(&response, deltas);
            return Ok(response);
        }
        let Some(inner) = &self.inner else {
            return Err(missing(&self.path, &fingerprint, request));
        };
        let response = inner.generate(request, deltas).await?;
        let line = Line {
            fingerprint,
            request: request.clone(),
            response,
        };
        self.record(&line, key).map_err(|error| {
            let message = format!("cassette {}: {error}", self.path.display());
            ModelError::new(ModelErrorKind::InvalidRequest, message).charged()
        })?;
        Ok(line.response)
    }
}

fn missing(path: &Path, fingerprint: &str, request: &ModelRequest) -> ModelError {
    let last = request.messages.last();
    let last = last.map(adjutant_core::Message::text).unwrap_or_default();
    let last: String = last.chars().take(80).collect();
    let message = format!(
        "cassette {} has no answer to request {fingerprint} (model `{}`, {} messages, the last: {last:?}); \
         record it with mode `auto`",
        path.display(),
        request.model,
        request.messages.len()
    );
    ModelError::new(ModelErrorKind::InvalidRequest, message)
}

/// Shows an answer that is there already, in as few pieces as it has kinds.
pub(crate) fn show_whole(response: &ModelResponse, deltas: Option<&mut DeltaSink<'_>>) {
    let Some(deltas) = deltas else { return };
    let text = response.message.text();
    if !text.is_empty() {
        deltas(ModelDelta::Text { text });
    }
    for (call, index) in response.message.tool_calls.iter().zip(0..) {
        deltas(ModelDelta::ToolCall {
            index,
            id: Some(call.id.clone()),
            name: Some(call.name.clone()),
            arguments: call.arguments.to_string(),
        });
    }
}

#[cfg(test)]
mod tests {
    use adjutant_core::Message;

    use super::*;
    use crate::ScriptedModel;

    fn ask(text: &str) -> ModelRequest {
        ModelRequest {
            model: "m".into(),
            messages: vec![Message::user(text)],
            ..ModelRequest::default()
        }
    }

    fn open(path: &Path, mode: CassetteMode) -> RecordReplayModel<ScriptedModel> {
        RecordReplayModel::open(ScriptedModel::saying(["recorded answer"]), path, mode).unwrap()
    }

    #[tokio::test]
    async fn what_was_recorded_is_replayed_without_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let recorded = open(&path, CassetteMode::Record)
            .generate(&ask("hi"), None)
            .await
            .unwrap();
        let replay = open(&path, CassetteMode::Replay);
        let mut seen = String::new();
        let mut sink = |piece: ModelDelta| {
            if let ModelDelta::Text { text } = piece {
                seen.push_str(&text);
            }
        };
        let replayed = replay.generate(&ask("hi"), Some(&mut sink)).await.unwrap();
        assert_eq!(replayed, recorded);
        assert_eq!(seen, "recorded answer");
        assert!(replay.inner.is_none());
    }

    #[tokio::test]
    async fn a_request_that_was_not_recorded_says_which() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        std::fs::write(&path, "").unwrap();
        let error = open(&path, CassetteMode::Replay)
            .generate(&ask("something else"), None)
            .await
            .unwrap_err();
        assert!(error.message.contains("something else") && error.message.contains("auto"));
    }

    #[tokio::test]
    async fn auto_asks_once_and_adds_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        for _ in 0..2 {
            let model = open(&path, CassetteMode::Auto);
            model.generate(&ask("a"), None).await.unwrap();
            model.generate(&ask("a"), None).await.unwrap();
            assert!(model.inner.as_ref().unwrap().requests().len() <= 1);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_damaged_file_names_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        std::fs::write(&path, "\n{}\n").unwrap();
        let result =
            RecordReplayModel::open(ScriptedModel::saying([""; 0]), &path, CassetteMode::Replay);
        assert!(result.err().unwrap().to_string().contains("line 2"));
    }
}
