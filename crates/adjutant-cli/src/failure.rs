//! What went wrong, for a person or a program: one line each for what, why, and what to do now.

use adjutant::core::{Error, IllegalTransition, RunState, Transition};
use serde::Serialize;

use crate::exit::Exit;

/// The result of everything in this program that can fail.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// A failed command.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// The stable name, with a page `docs/reference/errors/CODE.md`.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// Why, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether the same command may succeed later.
    pub retryable: bool,
    /// What the process ends with.
    #[serde(skip)]
    pub exit: Exit,
}

// Codes of this program's own errors; the others come from [`Error::code`].
pub const ACCOUNT_NOT_FOUND: &str = "account_not_found";
pub const AGENT_NOT_FOUND: &str = "agent_not_found";
pub const BACKUP_INVALID: &str = "backup_invalid";
pub const BUILD_FAILED: &str = "build_failed";
pub const CONFIG_INVALID: &str = "config_invalid";
pub const ENGINE_NOT_BUILT: &str = "engine_not_built";
pub const INSTANCE_NOT_FOUND: &str = "instance_not_found";
pub const INPUT_NOT_JSON: &str = "input_not_json";
pub const INPUT_UNREADABLE: &str = "input_unreadable";
pub const IO: &str = "io";
pub const MANIFEST_INVALID: &str = "manifest_invalid";
pub const MCP_FAILED: &str = "mcp_failed";
pub const MODEL_FAILED: &str = "model_failed";
pub const NO_APPROVAL_PENDING: &str = "no_approval_pending";
pub const NO_EFFECT_OPEN: &str = "no_effect_open";
pub const RUN_ID_AMBIGUOUS: &str = "run_id_ambiguous";
pub const RUN_NOT_FOUND: &str = "run_not_found";
pub const STORE_IN_USE: &str = "store_in_use";
pub const STORE_NOT_FOUND: &str = "store_not_found";
pub const USAGE: &str = "usage";

impl Failure {
    /// Something the user asked for cannot be had.
    pub fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            retryable: false,
            exit: Exit::Usage,
        }
    }

    /// The command failed for a reason outside of the request.
    pub fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            ..Self::usage(code, message)
        }
    }

    /// A file or stream could not be used.
    pub fn io(what: impl Into<String>, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self {
                exit: Exit::BrokenPipe,
                ..Self::usage(IO, "nobody reads the output any more")
            };
        }
        Self::failed(IO, what).because(error.to_string())
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// The same failure with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        // The message of a refused transition already ends in its source.
        if matches!(error, Error::Illegal { .. }) {
            causes.clear();
        }
        Self {
            code: error.code().0,
            message: error.to_string(),
            causes,
            hint: hint(&error),
            retryable: matches!(error.retry(), adjutant::core::RetryAdvice::After(_)),
            exit: exit(&error),
        }
    }
}

fn exit(error: &Error) -> Exit {
    match error {
        Error::RunNotFound(_)
        | Error::Conflict { .. }
        | Error::Illegal { .. }
        | Error::Invalid { .. }
        | Error::TooLarge { .. }
        | Error::Pruned { .. } => Exit::Usage,
        Error::SchemaTooNew { .. } | Error::ReadOnly { .. } | Error::Corrupt { .. } => Exit::Store,
        Error::StorageFull { .. }
        | Error::Backend {
            transient: true, ..
        } => Exit::TryLater,
        _ => Exit::Failed,
    }
}

fn hint(error: &Error) -> Option<String> {
    let text = match error {
        Error::RunNotFound(_) => "see the runs of this store with `agent runs list`".to_owned(),
        Error::Conflict { .. } => {
            "use another key for another request, or leave the key out".to_owned()
        }
        Error::Illegal { run, source } => illegal(*run, *source),
        Error::Invalid { .. } => return None,
        Error::TooLarge { what, .. } => format!(
            "pass a path or URL instead of the content, or raise the limit: `limits.{what}` in adjutant.yaml"
        ),
        Error::Pruned { run, first } => {
            format!("read on from there: `agent runs events {run} --after {}`", first.saturating_sub(1))
        }
        Error::SchemaTooNew { .. } => {
            "update `agent`, or point --store at another store; nothing was changed".to_owned()
        }
        Error::ReadOnly { location } if is_server(location) => {
            "use the primary's address; this server is a replica, or told to take no writes".to_owned()
        }
        Error::ReadOnly { .. } => {
            "make the file and its folder writable for this user, or use another store with --store".to_owned()
        }
        Error::StorageFull { .. } => {
            "free some space (`agent runs prune --older-than 30d` forgets finished runs) and repeat the command; \
             what was acknowledged is safe"
                .to_owned()
        }
        Error::Corrupt { location, .. } if is_server(location) => {
            "look closer with `agent doctor`; a backup is put back with the server's own tools".to_owned()
        }
        Error::Corrupt { .. } => {
            "look closer with `agent doctor`; a backup is put back with `agent restore FILE --force`".to_owned()
        }
        Error::Backend {
            transient: true, ..
        } => "the store is busy or cannot be reached just now: repeat the command".to_owned(),
        Error::Backend { .. } => "look closer with `agent doctor`".to_owned(),
        _ => return None,
    };
    Some(text)
}

/// Whether a store of this place is kept by a server, and not in a file.
fn is_server(location: &str) -> bool {
    location.contains("://")
}

fn illegal(run: adjutant::core::RunId, refused: IllegalTransition) -> String {
    match (refused.state, refused.transition) {
        (RunState::Parked, Transition::Resumed) => {
            format!("a parked run goes on with `agent runs redrive {run}`")
        }
        (RunState::Paused, Transition::Redriven) => {
            format!("a paused run goes on with `agent runs resume {run}`")
        }
        (state, _) if state.is_terminal() => {
            format!("the run has ended; start it anew with `agent runs retry {run}`")
        }
        _ => format!("see where it stands with `agent runs show {run}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page() {
        let own = [
            ACCOUNT_NOT_FOUND,
            AGENT_NOT_FOUND,
            BACKUP_INVALID,
            BUILD_FAILED,
            CONFIG_INVALID,
            ENGINE_NOT_BUILT,
            INSTANCE_NOT_FOUND,
            INPUT_NOT_JSON,
            INPUT_UNREADABLE,
            IO,
            MANIFEST_INVALID,
            NO_APPROVAL_PENDING,
            RUN_ID_AMBIGUOUS,
            STORE_IN_USE,
            STORE_NOT_FOUND,
            USAGE,
        ];
        // Those of `adjutant::core::Error`, which has no list of them.
        let of_the_contracts = [
            "run_not_found",
            "lease_lost",
            "conflict",
            "illegal_transition",
            "invalid_request",
            "payload_too_large",
            "events_pruned",
            "schema_too_new",
            "store_read_only",
            "storage_full",
            "store_corrupt",
            "store_closed",
            "backend",
        ];
        let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/errors");
        for code in own.into_iter().chain(of_the_contracts) {
            let page = std::path::Path::new(pages).join(format!("{code}.md"));
            let text = std::fs::read_to_string(&page).unwrap_or_default();
            assert!(
                text.starts_with(&format!("# {code}\n")),
                "{} is missing",
                page.display()
            );
        }
    }

    #[test]
    fn only_what_may_pass_is_to_be_tried_again() {
        let full = Failure::from(Error::StorageFull {
            location: "x".to_owned(),
        });
        assert!(full.retryable && full.exit == Exit::TryLater);
        let corrupt = Failure::from(Error::Corrupt {
            location: "x".to_owned(),
            problem: "y".to_owned(),
        });
        assert!(!corrupt.retryable && corrupt.exit == Exit::Store);
    }
}
