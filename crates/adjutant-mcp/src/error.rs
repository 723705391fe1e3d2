//! What can go wrong with servers.

use std::time::Duration;

use adjutant_tools::ToolError;

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a server cannot be used. A call's failures are [`ToolError`]s, which also say whether the call was sent.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration has no such server.
    #[error("there is no MCP server `{server}`")]
    UnknownServer {
        /// The name that was asked for.
        server: String,
    },
    /// The pool has been closed.
    #[error("the pool of MCP servers has been closed")]
    Closed,
    /// It did not start, and will not before something is corrected.
    #[error("MCP server `{server}` cannot be started: {problem}")]
    Unusable {
        /// The server.
        server: String,
        /// What is wrong, and what to do about it.
        problem: String,
    },
    /// Nobody could be logged in to it, or out of it.
    #[error("MCP server `{server}`: no login: {problem}")]
    Login {
        /// The server.
        server: String,
        /// What is wrong.
        problem: String,
    },
    /// It is down at present.
    #[error("MCP server `{server}` is down: {problem}")]
    Down {
        /// The server.
        server: String,
        /// What happened last.
        problem: String,
        /// When it will be tried again.
        retry_after: Duration,
    },
    /// It was not up in time.
    #[error("MCP server `{server}` was not up within {after:?}")]
    Slow {
        /// The server.
        server: String,
        /// The time that was given.
        after: Duration,
    },
    /// It went away while it was asked.
    #[error("MCP server `{server}` went away: {problem}")]
    Lost {
        /// The server.
        server: String,
        /// What happened.
        problem: String,
    },
    /// It refused a request, or answered nonsense.
    #[error("MCP server `{server}` refused `{method}`: {problem}")]
    Refused {
        /// The server.
        server: String,
        /// What was asked.
        method: String,
        /// Its words.
        problem: String,
        /// The protocol's number for the failure; 0 where there is none.
        code: i32,
    },
    /// Two of its tools have one name, or a name is none that models take.
    #[error("MCP server `{server}`: {problem}")]
    Names {
        /// The server.
        server: String,
        /// Which.
        problem: String,
    },
}

impl Error {
    /// Whether trying again may help, and when.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        match self {
            Self::Down { retry_after, .. } => Some(*retry_after),
            Self::Slow { .. } | Self::Lost { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// The stable name of this failure.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::UnknownServer { .. } => "mcp_unknown_server",
            Self::Closed => "mcp_closed",
            Self::Unusable { .. } => "mcp_unusable",
            Self::Login { .. } => "mcp_login",
            Self::Down { .. } => "mcp_down",
            Self::Slow { .. } => "mcp_slow",
            Self::Lost { .. } => "mcp_lost",
            Self::Refused { .. } => "mcp_refused",
            Self::Names { .. } => "mcp_names",
        }
    }

    /// The failure of a call that was not sent because of this.
    #[must_use]
    pub fn into_tool_error(self, tool: &str) -> ToolError {
        let tool = tool.to_owned();
        match &self {
            Self::UnknownServer { .. } => ToolError::NotFound { tool },
            Self::Refused { .. } | Self::Names { .. } => ToolError::Failed {
                tool,
                problem: self.to_string(),
                source: None,
            },
            _ => ToolError::Unavailable {
                tool,
                problem: self.to_string(),
                sent: false,
                source: None,
            },
        }
    }
}
