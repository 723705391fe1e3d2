//! A model that follows a script.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use adjutant_core::{
    DeltaSink, FinishReason, Json, Message, ModelDelta, ModelRequest, ModelResponse, Role,
    TokenUsage, ToolCall,
};
use async_trait::async_trait;
use serde_json::Value;
use tokio::time::sleep;

use super::{Script, ScriptedAnswer, ScriptedError};
use crate::{LanguageModel, ModelError, ModelErrorKind, Result, estimate_input_tokens};

/// Requests that are kept for tests; older ones go.
const MAX_RECORDED: usize = 10_000;

/// A model that follows a [`Script`], streams its words and remembers what it was asked.
pub struct ScriptedModel {
    script: Script,
    /// For each answer how often it has failed.
    failures: Vec<AtomicU32>,
    requests: Mutex<VecDeque<ModelRequest>>,
}

impl ScriptedModel {
    /// Follows `script`.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self {
            failures: script.answers.iter().map(|_| AtomicU32::new(0)).collect(),
            script,
            requests: Mutex::default(),
        }
    }

    /// Answers with these texts, in order.
    #[must_use]
    pub fn saying<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        let answers = texts.into_iter().map(|text| ScriptedAnswer {
            text: text.into(),
            ..ScriptedAnswer::default()
        });
        Self::new(Script {
            answers: answers.collect(),
        })
    }

    /// What it was asked so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<ModelRequest> {
        self.recorded().iter().cloned().collect()
    }

    fn recorded(&self) -> MutexGuard<'_, VecDeque<ModelRequest>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, request: &ModelRequest) {
        let mut recorded = self.recorded();
        if recorded.len() == MAX_RECORDED {
            recorded.pop_front();
        }
        recorded.push_back(request.clone());
    }

    /// The answer to a conversation, with its place in the script.
    fn choose(&self, messages: &[Message]) -> Result<(usize, &ScriptedAnswer)> {
        let last = messages.last().map(Message::text).unwrap_or_default();
        let mut answers = self.script.answers.iter().enumerate();
        let fitting = answers.find(|(_, answer)| {
            answer
                .when
                .as_ref()
                .is_some_and(|when| last.contains(when.as_str()))
        });
        if let Some(fitting) = fitting {
            return Ok(fitting);
        }
        let place = place(messages);
        let in_order = self.script.answers.iter().enumerate();
        let mut in_order = in_order.filter(|(_, answer)| answer.when.is_none());
        in_order.nth(place).ok_or_else(|| {
            let message = format!(
                "the script has no answer {} and none for {last:?}",
                place + 1
            );
            ModelError::new(ModelErrorKind::InvalidRequest, message)
        })
    }

    fn failure<'a>(&self, index: usize, answer: &'a ScriptedAnswer) -> Option<&'a ScriptedError> {
        let error = answer.error.as_ref()?;
        let Some(times) = error.times else {
            return Some(error);
        };
        let before = self.failures.get(index)?.fetch_add(1, Ordering::Relaxed);
        (before < times).then_some(error)
    }
}

/// How far a conversation is.
fn place(messages: &[Message]) -> usize {
    messages
        .iter()
        .filter(|message| message.role == Role::Assistant)
        .count()
}

#[async_trait]
impl LanguageModel for ScriptedModel {
    async fn generate(
        &self,
        request: &ModelRequest,
        mut deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        self.record(request);
        let (index, answer) = self.choose(&request.messages)?;
        if answer.delay_ms > 0 {
            sleep(answer.delay()).await;
        }
        let failure = self.failure(index, answer);
        if let Some(failure) = failure.filter(|failure| !failure.after_text) {
            return Err(told(failure));
        }
        let calls = calls(place(&request.messages), answer);
        let pause = answer.word_delay();
        let words = answer.reasoning.split_inclusive(' ');
        let thoughts = words.map(|word| ModelDelta::Reasoning { text: word.into() });
        let words = answer.text.split_inclusive(' ');
        let said = words.map(|word| ModelDelta::Text { text: word.into() });
        let shown = deltas.is_some() && !answer.text.is_empty();
        show(thoughts.chain(said), pause, deltas.as_deref_mut()).await;
        if let Some(failure) = failure {
            let mut error = told(failure).charged();
            error.shown = shown;
            return Err(error);
        }
        let called = calls
            .iter()
            .zip(0..)
            .map(|(call, index)| piece(index, call));
        show(called, Duration::ZERO, deltas).await;
        Ok(response(request, answer, calls))
    }
}

async fn show(
    pieces: impl Iterator<Item = ModelDelta> + Send,
    pause: Duration,
    mut deltas: Option<&mut DeltaSink<'_>>,
) {
    for piece in pieces {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        if let Some(deltas) = &mut deltas {
            deltas(piece);
        }
    }
}

fn piece(index: u32, call: &ToolCall) -> ModelDelta {
    ModelDelta::ToolCall {
        index,
        id: Some(call.id.clone()),
        name: Some(call.name.clone()),
        arguments: call.arguments.to_string(),
    }
}

fn told(error: &ScriptedError) -> ModelError {
    let message = error
        .message
        .clone()
        .unwrap_or_else(|| format!("scripted failure: {}", error.kind));
    ModelError::new(error.kind, message)
        .retry_after(error.retry_after_ms.map(Duration::from_millis))
}

fn calls(place: usize, answer: &ScriptedAnswer) -> Vec<ToolCall> {
    let calls = answer.tool_calls.iter().enumerate();
    let whole = calls.map(|(index, call)| ToolCall {
        id: call
            .id
            .clone()
            .unwrap_or_else(|| format!("call_{}_{}", place + 1, index + 1)),
        name: call.name.clone(),
        arguments: match &call.arguments {
            Value::Null => serde_json::json!({}).into(),
            other => Json::from(other.clone()),
        },
    });
    whole.collect()
}

fn response(
    request: &ModelRequest,
    answer: &ScriptedAnswer,
    calls: Vec<ToolCall>,
) -> ModelResponse {
    let finish_reason = answer.finish_reason.unwrap_or(if calls.is_empty() {
        FinishReason::Stop
    } else {
        FinishReason::ToolCalls
    });
    let mut message = Message::assistant(answer.text.clone());
    message.tool_calls = calls;
    if !answer.reasoning.is_empty() {
        let thinking = serde_json::json!({"model": request.model, "text": answer.reasoning});
        message.metadata = serde_json::json!({ "thinking": thinking }).into();
    }
    let usage = answer.usage.unwrap_or_else(|| TokenUsage {
        input_tokens: estimate_input_tokens(request),
        output_tokens: output_tokens(&message),
        ..TokenUsage::default()
    });
    ModelResponse {
        message,
        finish_reason,
        model: if request.model.is_empty() {
            "scripted".to_owned()
        } else {
            request.model.clone()
        },
        usage,
        cost_usd: None,
        response_id: None,
    }
}

fn output_tokens(message: &Message) -> u64 {
    let answer = ModelRequest {
        messages: vec![message.clone()],
        ..ModelRequest::default()
    };
    estimate_input_tokens(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "
- tool_calls: [{name: look, arguments: {at: 1}}, {name: look}]
- text: two words
- {when: bye, text: Until then.}
";

    fn scripted() -> ScriptedModel {
        ScriptedModel::new(Script::from_yaml(SCRIPT).unwrap())
    }

    fn conversation(turns: usize, last: &str) -> ModelRequest {
        let mut messages = Vec::new();
        for _ in 0..turns {
            messages.extend([Message::user("q"), Message::assistant("a")]);
        }
        messages.push(Message::user(last));
        ModelRequest {
            messages,
            ..ModelRequest::default()
        }
    }

    #[tokio::test]
    async fn the_same_conversation_gets_the_same_answer_in_any_process_and_order() {
        let (one, other) = (scripted(), scripted());
        for turns in [1, 0, 0, 1] {
            let request = conversation(turns, "go");
            let a = one.generate(&request, None).await.unwrap();
            let b = other.generate(&request, None).await.unwrap();
            assert_eq!(a, b);
            assert_eq!(a.message.tool_calls.is_empty(), turns == 1);
        }
        assert_eq!(one.requests().len(), 4);
    }

    #[tokio::test]
    async fn calls_have_ids_and_arguments() {
        let answer = scripted()
            .generate(&conversation(0, "go"), None)
            .await
            .unwrap();
        let calls = &answer.message.tool_calls;
        assert_eq!(calls[0].id, "call_1_1");
        assert_eq!(calls[1].id, "call_1_2");
        assert_eq!(calls[1].arguments.as_str(), "{}");
        assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    }

    #[tokio::test]
    async fn an_answer_with_when_comes_wherever_it_fits() {
        let model = scripted();
        for turns in [0, 1, 7] {
            let request = conversation(turns, "well, bye");
            let answer = model.generate(&request, None).await.unwrap();
            assert_eq!(answer.message.text(), "Until then.");
        }
    }

    #[tokio::test]
    async fn the_words_are_shown_in_order() {
        let mut seen = Vec::new();
        let mut sink = |piece: ModelDelta| seen.push(piece);
        let request = conversation(1, "go");
        let model = scripted();
        model.generate(&request, Some(&mut sink)).await.unwrap();
        let words = ["two ", "words"].map(|text| ModelDelta::Text { text: text.into() });
        assert_eq!(seen, words);
    }

    #[tokio::test]
    async fn beyond_its_end_a_script_says_what_is_missing() {
        let error = scripted().generate(&conversation(5, "what?"), None).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::InvalidRequest);
        assert!(error.message.contains("answer 6") && error.message.contains("what?"));
    }
}
