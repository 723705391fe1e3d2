//! The pool of MCP servers.

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

mod peer;
mod pool;
mod server;

mod source;

pub use crate::{
    audit::{AuditRecord, AuditSink, TraceAudit},
    catalog::{Catalog, ServerTool},
    config::*,
    error::{Error, Result},
    key::Owner,
    locate::Lookup,
    machine::State,
    metrics::{CallFigures, ServerMetrics},
    peer::{Era, PeerInfo},
    pool::{Lease, McpServerPool, PoolOptions, Request, ServerView},
    source::McpSource,
};
