//! The pool of MCP servers: started when they are needed, shared by those who may share them, watched, started again when
//! they die, and ended with all that they have started.
//!
//! [`ServersConfig`] is the `mcpServers` map that other programs read too. A [`McpServerPool`] owns the servers; an agent
//! uses them through a [`Lease`] each, or all of them through a [`McpSource`], whose tools are named `server__tool`. What is
//! not done twice, who shares what, and which clocks run is in `docs/guide/mcp.md`.
//!
//! ```
//! use adjutant_mcp::{McpServerPool, PoolOptions, ServersConfig, State};
//! use adjutant_process::NativeProcesses;
//! use std::sync::Arc;
//!
//! let config = ServersConfig::from_json(r#"{"mcpServers": {"files": {"command": "mcp-server-filesystem"}}}"#)?;
//! let pool = McpServerPool::new(config, PoolOptions::new(Arc::new(NativeProcesses::new()?)));
//! assert_eq!(pool.list()[0].state, State::Idle, "nothing starts before it is needed");
//!
//! let error = ServersConfig::from_json(r#"{"mcpServers": {"files": {"comand": "x"}}}"#).unwrap_err();
//! assert!(error.to_string().contains("comand"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod error;
mod names;

mod audit;
mod catalog;
mod gate;
mod key;
mod locate;
mod machine;
mod metrics;
mod secrets;

mod oauth;
mod peer;
mod server;

mod pool;
mod source;

pub use crate::{
    audit::{AuditRecord, AuditSink, TraceAudit},
    catalog::{Catalog, ServerTool},
    config::{
        ConfigError, Flow, Kind, OAuth, Problem, RateLimit, Restart, Scope, ServerConfig,
        ServersConfig, ToolFilter,
    },
    error::{Error, Result},
    key::Owner,
    locate::Lookup,
    machine::State,
    metrics::{CallFigures, ServerMetrics},
    oauth::{Account, FileTokens, Grant, Login, TokenStore},
    peer::{Era, PeerInfo},
    pool::{Lease, McpServerPool, PoolOptions, Request, ServerView},
    source::McpSource,
};
