//! A host that answers model calls as it is told.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    missing_docs,
    reason = "shared by tests, none of which needs all"
)]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use adjutant_core::{
    AgentError, AgentKey, ApprovalRequest, ChildOutcome, ConversationId, Decision, Delegate,
    DeltaSink, Error, ErrorInfo, FinishReason, HostStep, Json, Message, ModelCall, ModelDelta,
    ModelRequest, ModelResponse, NewEvent, RunContext, RunHost, RunId, StepBody, Timestamp,
    TokenUsage, ToolCall,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// What the host does with a call: by the last message's text.
///
/// - `call TOOL …`: asks for the tool, twice, with arguments.
/// - `fail KIND`: fails for good.
/// - `busy KIND`: fails and says to come back after 10 ms.
/// - `wait …`: answers when a permit comes.
/// - `slow …`: the same, but its first words are shown at once.
/// - `json TEXT`: answers with the text.
/// - anything else: says it back.
pub struct Host {
    run: RunId,
    agent: AgentKey,
    /// Calls that were executed.
    pub calls: Mutex<Vec<ModelCall>>,
    /// Answers of executed calls, as a journal keeps them: by key and number.
    pub journal: Mutex<HashMap<(String, usize), ModelResponse>>,
    seen: Mutex<HashMap<String, usize>>,
    pub gate: Semaphore,
    /// Calls that have begun, and those that were dropped before their end.
    pub begun: AtomicUsize,
    pub dropped: AtomicUsize,
}

impl Host {
    pub fn new() -> Arc<Self> {
        Self::with_journal(HashMap::new())
    }

    pub fn with_journal(journal: HashMap<(String, usize), ModelResponse>) -> Arc<Self> {
        Arc::new(Self {
            run: RunId::new(),
            agent: "agent".into(),
            calls: Mutex::default(),
            journal: Mutex::new(journal),
            seen: Mutex::default(),
            gate: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
        })
    }

    pub fn context(self: &Arc<Self>) -> RunContext {
        RunContext::new(self.clone())
    }

    /// The next attempt at the same run.
    pub fn restarted(&self) -> Arc<Self> {
        Self::with_journal(self.journal.lock().unwrap().clone())
    }

    pub fn executed(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    pub fn last_request(&self) -> ModelRequest {
        self.calls.lock().unwrap().last().unwrap().request.clone()
    }

    async fn execute(
        &self,
        call: &ModelCall,
        mut deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse, AgentError> {
        let text = call.request.messages.last().unwrap().text();
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match word {
            "fail" => return Err(AgentError::permanent(rest, "on purpose")),
            "busy" => {
                let info = ErrorInfo::retriable(rest, "come back");
                return Err(info.with_details(json!({ "retry_after_ms": 10 })).into());
            }
            "wait" | "slow" => {
                if let ("slow", Some(deltas)) = (word, deltas.as_deref_mut()) {
                    let text = "you said: ".to_owned();
                    deltas(ModelDelta::Text { text });
                }
                let permit = self.gate.acquire().await?;
                permit.forget();
            }
            _ => {}
        }
        let response = match word {
            "call" => calling(rest),
            "json" => response(Message::assistant(rest), FinishReason::Stop),
            _ => saying(&text),
        };
        if let (true, Some(deltas)) = (word != "slow", deltas) {
            show(&response, deltas);
        }
        Ok(response)
    }
}

fn response(message: Message, finish_reason: FinishReason) -> ModelResponse {
    ModelResponse {
        message,
        finish_reason,
        model: "provider-model".to_owned(),
        usage: TokenUsage {
            input_tokens: 11,
            output_tokens: 7,
            cache_read_tokens: Some(3),
            cache_write_tokens: None,
            reasoning_tokens: Some(2),
        },
        cost_usd: None,
        response_id: None,
    }
}

fn saying(text: &str) -> ModelResponse {
    response(
        Message::assistant(format!("you said: {text}")),
        FinishReason::Stop,
    )
}

fn calling(tool: &str) -> ModelResponse {
    let mut message = Message::assistant("one moment");
    let call = |id: &str, city: &str| ToolCall {
        id: id.to_owned(),
        name: tool.to_owned(),
        arguments: json!({ "city": city }).into(),
    };
    message.tool_calls = vec![call("call_a", "Paris"), call("call_b", "Rome")];
    let thinking = json!({ "model": "m", "text": "hm", "blocks": [{ "type": "signature", "signature": "s" }] });
    message.metadata = json!({ "thinking": thinking }).into();
    response(message, FinishReason::ToolCalls)
}

/// Shows an answer in small pieces, some of it not at all.
fn show(response: &ModelResponse, deltas: &mut DeltaSink<'_>) {
    for word in response.message.text().split_inclusive(' ') {
        let text = word.to_owned();
        deltas(ModelDelta::Text { text });
    }
    for (index, call) in (0..).zip(&response.message.tool_calls).take(1) {
        deltas(ModelDelta::ToolCall {
            index,
            id: Some(call.id.clone()),
            name: Some(call.name.clone()),
            arguments: String::new(),
        });
        deltas(ModelDelta::ToolCall {
            index,
            id: None,
            name: None,
            arguments: r#"{"city":"#.to_owned(),
        });
    }
}

/// Counts a call that was dropped before its end.
struct Counted<'a>(&'a Host, bool);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl RunHost for Host {
    async fn generate(
        &self,
        call: ModelCall,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse, AgentError> {
        let number = {
            let mut seen = self.seen.lock().unwrap();
            let number = seen.entry(call.key.clone()).or_default();
            *number += 1;
            *number
        };
        let place = (call.key.clone(), number);
        if let Some(recorded) = self.journal.lock().unwrap().get(&place) {
            return Ok(recorded.clone());
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut counted = Counted(self, false);
        let answer = self.execute(&call, deltas).await;
        counted.1 = true;
        self.calls.lock().unwrap().push(call);
        let answer = answer?;
        self.journal.lock().unwrap().insert(place, answer.clone());
        Ok(answer)
    }

    fn run_id(&self) -> RunId {
        self.run
    }
    fn agent(&self) -> &AgentKey {
        &self.agent
    }
    fn attempt(&self) -> u32 {
        1
    }
    fn epoch(&self) -> u64 {
        1
    }
    fn input(&self) -> &Json {
        const { &Json::null() }
    }
    fn metadata(&self) -> &Json {
        const { &Json::null() }
    }
    fn conversation_id(&self) -> Option<ConversationId> {
        None
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }
    fn cancelled(&self) -> bool {
        false
    }
    async fn cancellation(&self) {
        std::future::pending::<()>().await;
    }
    async fn emit(&self, _event: NewEvent) -> Result<u64, Error> {
        Ok(1)
    }
    fn note(&self, _event: NewEvent) {}
    async fn checkpoint(&self, _state: Json) -> Result<u64, Error> {
        Ok(1)
    }
    fn state(&self) -> Option<Json> {
        None
    }
    async fn step(&self, _: HostStep, body: &mut StepBody<'_>) -> Result<Json, AgentError> {
        body(1).await
    }
    async fn sleep(&self, _: &str, _: Duration) -> Result<(), AgentError> {
        Ok(())
    }
    async fn wait_for_signal(
        &self,
        _: &str,
        _: Option<Duration>,
    ) -> Result<Option<Json>, AgentError> {
        Ok(None)
    }
    async fn request_approval(&self, _: ApprovalRequest) -> Result<Decision, AgentError> {
        Err(AgentError::permanent("denied", "nobody is there"))
    }
    async fn delegate(&self, _: Delegate) -> Result<Vec<ChildOutcome>, AgentError> {
        Ok(Vec::new())
    }
}

/// Waits until something is so.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert!(waited.is_ok(), "it never came to this: {what}");
}

/// The events of a stream: their names and data.
pub fn events(body: &str) -> Vec<(Option<String>, Value)> {
    let blocks = body.split("\n\n").filter(|block| !block.trim().is_empty());
    let read = |block: &str| {
        let field = |name: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(name).map(str::trim))
        };
        let data = field("data:")?;
        let data = serde_json::from_str(data).unwrap_or_else(|_| json!(data));
        Some((field("event:").map(str::to_owned), data))
    };
    blocks.filter_map(read).collect()
}
