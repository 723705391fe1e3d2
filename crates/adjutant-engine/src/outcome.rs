//! How outcomes are stored.

use adjutant_core::{Error, Outcome, Result, RunState};

/// The outcome without what the run's state says already: a result, an error, a reason or seconds, as JSON.
///
/// # Errors
/// `Invalid` when it has no JSON form.
pub fn outcome_text(outcome: &Outcome) -> Result<String> {
    let text = match outcome {
        Outcome::Succeeded(result) => serde_json::to_string(result),
        Outcome::Failed { error } => serde_json::to_string(error),
        Outcome::Cancelled { reason } => serde_json::to_string(reason),
        Outcome::TimedOut { timeout_seconds } => serde_json::to_string(timeout_seconds),
    };
    text.map_err(|error| Error::Invalid {
        field: "outcome",
        problem: error.to_string(),
    })
}

/// The way back from [`outcome_text`]; `None` for a state without an outcome.
///
/// # Errors
/// When the text is not what this state has.
pub fn outcome(state: RunState, text: &str) -> Result<Option<Outcome>, serde_json::Error> {
    Ok(match state {
        RunState::Succeeded => Some(Outcome::Succeeded(serde_json::from_str(text)?)),
        RunState::Failed => Some(Outcome::Failed {
            error: serde_json::from_str(text)?,
        }),
        RunState::Cancelled => Some(Outcome::Cancelled {
            reason: serde_json::from_str(text)?,
        }),
        RunState::TimedOut => Some(Outcome::TimedOut {
            timeout_seconds: serde_json::from_str(text)?,
        }),
        _ => None,
    })
}
