//! Attempts that end in order to wait: for people, or for a time.
//!
//! What an attempt wants to wait for is recorded like a step, and the wait goes on without a process. The attempt that
//! comes after finds the record and, once the wait is over, starts a process with the answers.

use std::time::Duration;

use adjutant_core::{AgentError, ApprovalRequest, Json, RunContext, Timestamp, Usage};
use adjutant_wire as wire;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{calls::MAX_CHECKPOINT_BYTES, failure::protocol_error};
use crate::convert;

/// Names the records. An agent's steps have names of their own.
const TURN: &str = "wire.turn";

/// The shortest sleep, so that there always is one and a new attempt after it.
const SHORTEST: Duration = Duration::from_millis(100);

/// What an attempt ended with, if not with a result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Turn {
    /// What it took.
    usage: Usage,
    wait: Wait,
    /// What the next attempt begins with; saved as a checkpoint and not in the record.
    #[serde(skip)]
    state: Option<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wait {
    /// For people: questions by key.
    Input(Vec<(String, Question)>),
    /// For a time.
    Until(Timestamp),
}

/// One of the `inputRequests`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    #[serde(default)]
    kind: wire::InputKind,
    message: String,
    schema: Option<Value>,
    data: Option<Value>,
    timeout_seconds: Option<f64>,
}

/// What earlier attempts leave to the next one.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// All answers of people by key.
    pub(crate) resume: Option<Map<String, Value>>,
    /// What they took.
    pub(crate) usage: Usage,
}

impl Turn {
    /// Reads the end of an attempt that waits for people.
    pub(super) fn input(answer: wire::RunResult) -> Result<Self, AgentError> {
        let requests = answer.input_requests.unwrap_or_default();
        if requests.is_empty() {
            let why = "`input_required` without `inputRequests`: name what to ask by key";
            return Err(protocol_error(why));
        }
        let question = |(key, request): (String, Value)| {
            let read = serde_json::from_value::<Question>(request);
            let question =
                read.map_err(|error| protocol_error(format!("inputRequests.{key}: {error}")));
            question.map(|question| (key, question))
        };
        let questions: Result<Vec<_>, _> = requests.into_iter().map(question).collect();
        Ok(Self {
            usage: convert::usage(answer.usage),
            wait: Wait::Input(questions?),
            state: answer.state,
        })
    }

    /// Reads the end of an attempt that waits for a time.
    pub(super) fn yielded(answer: wire::RunResult) -> Result<Self, AgentError> {
        let Some(wake_at) = answer.wake_at else {
            let why = "the agent ended its attempt with `yield` although no call was parked; say when to go on with `wakeAt`";
            return Err(protocol_error(why));
        };
        let until = wake_at
            .parse()
            .map_err(|error| protocol_error(format!("wakeAt: {error}")))?;
        Ok(Self {
            usage: convert::usage(answer.usage),
            wait: Wait::Until(until),
            state: answer.state,
        })
    }

    /// Records the end and waits. As a rule this never returns: the run is suspended, and a later attempt goes on.
    pub(crate) async fn take(mut self, ctx: &RunContext) -> AgentError {
        let taken = async {
            if let Some(state) = self.state.take() {
                save(ctx, state).await?;
            }
            let record = Json::from_value(&self)?;
            ctx.step(TURN, || std::future::ready(Ok(record.clone())))
                .await?;
            self.over(ctx).await?;
            // Steps are numbered within an attempt, so that the agent has to begin anew in a new one.
            ctx.sleep("wire.again", SHORTEST).await
        };
        match taken.await {
            Ok(()) => AgentError::retriable("turn_over", "the wait was over at once"),
            Err(error) => error,
        }
    }

    /// Waits until the wait is over; the answers, if it was for answers.
    async fn over(&self, ctx: &RunContext) -> Result<Option<Map<String, Value>>, AgentError> {
        match &self.wait {
            Wait::Until(until) => {
                let left = until.since(ctx.now()).max(SHORTEST);
                ctx.sleep("wire.wake", left).await?;
                Ok(None)
            }
            Wait::Input(questions) => {
                let asked = questions.iter().map(|(key, question)| async move {
                    let decision = ctx.request_approval(question.request(key)?).await?;
                    let answer = convert::value(&convert::answer(decision));
                    Ok::<_, AgentError>((key.clone(), answer))
                });
                Ok(Some(try_join_all(asked).await?.into_iter().collect()))
            }
        }
    }
}

impl Question {
    /// The keys have a prefix, because the agent's own calls of `input/request` are counted apart from these.
    fn request(&self, key: &str) -> Result<ApprovalRequest, AgentError> {
        let mut request = ApprovalRequest::new(format!("input:{key}"), &self.message);
        request.data = convert::question(self.kind, self.schema.clone(), self.data.clone());
        request.expires_in = self
            .timeout_seconds
            .map(Duration::try_from_secs_f64)
            .transpose()
            .map_err(|error| protocol_error(format!("timeoutSeconds: {error}")))?;
        Ok(request)
    }
}

async fn save(ctx: &RunContext, state: Value) -> Result<(), AgentError> {
    let state = Json::from(state);
    if state.len() > MAX_CHECKPOINT_BYTES {
        let why = format!(
            "the state is {} bytes; the limit is {MAX_CHECKPOINT_BYTES} bytes",
            state.len()
        );
        return Err(AgentError::permanent("payload_too_large", why));
    }
    ctx.checkpoint(&state).await?;
    Ok(())
}

/// What earlier attempts ended with, after their waits.
pub(crate) async fn past(ctx: &RunContext) -> Result<Past, AgentError> {
    let mut past = Past::default();
    while ctx.host().is_recorded(TURN) {
        let gone = || AgentError::permanent("step_changed", "the record of a wait is gone");
        let record: Json = ctx.step(TURN, || std::future::ready(Err(gone()))).await?;
        let turn: Turn = record.to()?;
        if let Some(answers) = turn.over(ctx).await? {
            past.resume.get_or_insert_default().extend(answers);
        }
        past.usage += turn.usage;
    }
    Ok(past)
}
