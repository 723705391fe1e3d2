//! Between the words of the runtime and the words of the wire.

mod models;
mod tools;

use adjutant_core::{
    AgentError, Artifact, BudgetLeft, ChildOutcome, Decision, ErrorInfo, FailurePolicy, Json,
    Message, RunContext, RunInput, RunResult, RunState, Timestamp, Usage,
};
use adjutant_wire as wire;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub(crate) use self::{
    models::{model_answer, model_delta, model_request},
    tools::{tool, tool_answer, tool_use},
};

/// Failures of the host that are no failures of a step or child: the wire has a number for each.
const HOST_FAILURES: &[(&str, wire::ErrorCode)] = &[
    ("lease_lost", wire::ErrorCode::Fenced),
    ("payload_too_large", wire::ErrorCode::TooLarge),
    ("step_changed", wire::ErrorCode::CallConflict),
    ("cancelled", wire::ErrorCode::Cancelled),
    ("invalid_request", wire::ErrorCode::InvalidParams),
];

/// Failures of calls to tools and models that have a number of their own. They keep their kind, because it says more.
const CALL_FAILURES: &[(&str, wire::ErrorCode)] = &[
    ("budget_exceeded", wire::ErrorCode::Budget),
    ("deadline_exceeded", wire::ErrorCode::Deadline),
    ("overloaded", wire::ErrorCode::Overloaded),
    ("rate_limited", wire::ErrorCode::Overloaded),
    ("model_unavailable", wire::ErrorCode::ToolUnavailable),
    ("model_not_found", wire::ErrorCode::ToolUnavailable),
    ("tool_unavailable", wire::ErrorCode::ToolUnavailable),
    ("tool_not_found", wire::ErrorCode::ToolUnavailable),
    ("tool_timeout", wire::ErrorCode::ToolTimeout),
    ("tool_denied", wire::ErrorCode::Denied),
    ("model_denied", wire::ErrorCode::Denied),
    ("invalid_arguments", wire::ErrorCode::InvalidParams),
];

/// A value whose JSON form exists by construction.
pub(crate) fn value<T: Serialize + ?Sized>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Any JSON as a tree.
pub(crate) fn tree(json: &Json) -> Value {
    json.to().unwrap_or_default()
}

fn reread<T: DeserializeOwned>(what: &str, from: Value) -> Result<T, AgentError> {
    serde_json::from_value(from).map_err(|error| {
        AgentError::permanent("protocol_error", format!("the agent's {what}: {error}"))
    })
}

pub(crate) fn scope(ctx: &RunContext) -> wire::RunScope {
    wire::RunScope {
        run_id: ctx.run_id().to_string(),
        attempt: ctx.attempt(),
        epoch: ctx.epoch(),
    }
}

/// What people say to the run.
pub(crate) fn said(messages: &[Message]) -> Result<Vec<wire::RunMessage>, AgentError> {
    let said = messages.iter();
    said.map(|message| reread("message", value(message)))
        .collect()
}

/// The run's input as the agent gets it.
pub(crate) fn input(ctx: &RunContext) -> Result<wire::RunInput, AgentError> {
    let input = ctx.input();
    Ok(wire::RunInput {
        messages: said(&input.messages)?,
        data: (!input.data.is_null()).then(|| tree(&input.data)),
    })
}

/// A child's input as the runtime takes it.
pub(crate) fn child_input(child: wire::Child) -> Result<RunInput, AgentError> {
    let messages: Result<Vec<Message>, _> = child
        .input
        .messages
        .iter()
        .map(|message| reread("message", value(message)))
        .collect();
    Ok(RunInput {
        messages: messages?,
        data: child.input.data.map(Json::from).unwrap_or_default(),
        params: child.params.into(),
        conversation_id: None,
    })
}

pub(crate) const fn policy(policy: wire::FailurePolicy) -> FailurePolicy {
    match policy {
        wire::FailurePolicy::All => FailurePolicy::All,
        wire::FailurePolicy::FailFast => FailurePolicy::FailFast,
        wire::FailurePolicy::Settle => FailurePolicy::Settle,
    }
}

pub(crate) fn child_result(child: &ChildOutcome) -> wire::ChildResult {
    let succeeded = child.status == RunState::Succeeded;
    wire::ChildResult {
        run_id: child.run_id.to_string(),
        status: match child.status {
            RunState::Succeeded => wire::ChildStatus::Succeeded,
            RunState::Cancelled => wire::ChildStatus::Cancelled,
            RunState::TimedOut => wire::ChildStatus::TimedOut,
            RunState::Parked => wire::ChildStatus::Parked,
            _ => wire::ChildStatus::Failed,
        },
        output: succeeded.then(|| tree(&child.output).into()),
        error: child.error.as_ref().map(failure),
    }
}

/// What a question is about. A form or an address is a question too: its schema goes along, and what is entered comes with
/// the decision.
pub(crate) fn question(kind: wire::InputKind, schema: Option<Value>, about: Option<Value>) -> Json {
    match (kind, schema) {
        (wire::InputKind::Approval, None) => about.map(Json::from).unwrap_or_default(),
        (kind, schema) => json!({ "kind": kind, "schema": schema, "data": about }).into(),
    }
}

pub(crate) fn answer(decision: Decision) -> wire::InputAnswer {
    wire::InputAnswer {
        action: match (decision.expired, decision.approved) {
            (true, _) => wire::InputAction::Cancel,
            (false, true) => wire::InputAction::Accept,
            (false, false) => wire::InputAction::Decline,
        },
        by: decision.by,
        comment: decision.comment,
        content: (!decision.data.is_null()).then(|| tree(&decision.data)),
    }
}

/// What the agent answered as the run's result.
pub(crate) fn result(
    output: wire::RunOutput,
    usage: Option<wire::TokenUsage>,
) -> Result<RunResult, AgentError> {
    let messages: Result<Vec<Message>, _> = output
        .messages
        .iter()
        .map(|message| reread("message", value(message)))
        .collect();
    let artifacts: Result<Vec<Artifact>, _> = output
        .artifacts
        .into_iter()
        .map(|artifact| reread("artifact", artifact))
        .collect();
    Ok(RunResult {
        final_output: match (output.data, output.text) {
            (Some(data), _) => data.into(),
            (None, Some(text)) => Json::from(text.as_str()),
            (None, None) => Json::null(),
        },
        final_messages: messages?,
        usage: self::usage(usage),
        artifacts: artifacts?,
    })
}

/// What the agent measured itself.
pub(crate) fn usage(usage: Option<wire::TokenUsage>) -> Usage {
    let usage = usage.unwrap_or_default();
    Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cached_tokens: usage.cache_read_tokens.unwrap_or_default(),
        cost_usd: usage.cost_usd,
        ..Usage::default()
    }
}

pub(crate) fn failure(error: &ErrorInfo) -> wire::AgentFailure {
    wire::AgentFailure {
        kind: error.kind.clone(),
        message: error.message.clone(),
        retriable: error.retriable,
        details: (!error.details.is_null()).then(|| Box::new(tree(&error.details))),
    }
}

pub(crate) fn agent_error(failure: wire::AgentFailure) -> AgentError {
    let info = if failure.retriable {
        ErrorInfo::retriable(failure.kind, failure.message)
    } else {
        ErrorInfo::permanent(failure.kind, failure.message)
    };
    AgentError::from(match failure.details {
        Some(details) => info.with_details(*details),
        None => info,
    })
}

/// Whether a failure says something about the host or the call rather than about the work.
pub(crate) fn is_host_failure(error: &ErrorInfo) -> bool {
    error.retriable || HOST_FAILURES.iter().any(|(kind, _)| *kind == error.kind)
}

/// A failed call to the host as its answer.
pub(crate) fn rpc_error(error: &AgentError) -> wire::RpcError {
    let info = error.info();
    match HOST_FAILURES.iter().find(|(kind, _)| *kind == info.kind) {
        Some((_, code)) => wire::RpcError::new(*code, info.message.clone()),
        None => failure(info).into(),
    }
}

/// A failed call to a tool or model as its answer; `otherwise` is the number of failures that have none of their own.
pub(crate) fn call_error(error: &AgentError, otherwise: wire::ErrorCode) -> wire::RpcError {
    let info = error.info();
    if HOST_FAILURES.iter().any(|(kind, _)| *kind == info.kind) {
        return rpc_error(error);
    }
    let known = CALL_FAILURES.iter().find(|(kind, _)| *kind == info.kind);
    let code = known.map_or(otherwise, |(_, code)| *code);
    wire::RpcError::new(code, info.message.clone()).with_data(&wire::ErrorData {
        code: code.name().to_owned(),
        retryable: info.retriable,
        kind: Some(info.kind.clone()),
        details: (!info.details.is_null()).then(|| tree(&info.details)),
        ..wire::ErrorData::default()
    })
}

/// When the attempt's time is over, if that is a date that can be written.
pub(crate) fn deadline(ctx: &RunContext) -> Option<String> {
    let text = ctx.host().deadline()?.to_string();
    text.parse::<Timestamp>().is_ok().then_some(text)
}

pub(crate) fn budget(left: BudgetLeft) -> Option<wire::RunBudget> {
    (left != BudgetLeft::default()).then_some(wire::RunBudget {
        tokens: left.tokens,
        usd: left.cost_usd,
        tool_calls: left.tool_calls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_goes_before_text_and_text_is_a_json_string() {
        let output = |data: Option<Value>, text: Option<&str>| {
            let output = wire::RunOutput {
                data,
                text: text.map(str::to_owned),
                ..wire::RunOutput::default()
            };
            result(output, None).unwrap().final_output.to_string()
        };
        assert_eq!(output(Some(json!({"a": 1})), Some("t")), r#"{"a":1}"#);
        assert_eq!(output(None, Some("t")), r#""t""#);
        assert_eq!(output(None, None), "null");
    }

    #[test]
    fn a_failure_keeps_its_kind_advice_and_details_both_ways() {
        let info = ErrorInfo::permanent("ValueError", "no").with_details(json!({"x": 1}));
        assert_eq!(agent_error(failure(&info)).into_info(), info);
    }

    #[test]
    fn host_failures_have_numbers_of_their_own() {
        let fenced = rpc_error(&AgentError::permanent("lease_lost", "gone"));
        assert!(fenced.is(wire::ErrorCode::Fenced));
        let other = rpc_error(&AgentError::permanent("child_failed", "no"));
        assert!(other.is(wire::ErrorCode::AgentFailed));
        assert_eq!(
            other.detail().unwrap().kind.as_deref(),
            Some("child_failed")
        );
    }

    #[test]
    fn an_answer_without_consent_is_never_accept() {
        let decision = |approved, expired| Decision {
            approved,
            by: None,
            comment: None,
            data: Json::null(),
            expired,
        };
        assert_eq!(
            answer(decision(true, false)).action,
            wire::InputAction::Accept
        );
        assert_eq!(
            answer(decision(false, false)).action,
            wire::InputAction::Decline
        );
        assert_eq!(
            answer(decision(false, true)).action,
            wire::InputAction::Cancel
        );
        assert_eq!(
            answer(decision(true, true)).action,
            wire::InputAction::Cancel
        );
    }
}
