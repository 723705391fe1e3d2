//! The figures, in the form in which they are told. Every name ends in its unit.

use adjutant_core::Timestamp;
use serde::{Deserialize, Serialize};

/// One live instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its name, such as `my-agent-01`.
    pub instance: String,
    /// Its agent.
    pub agent: String,
    /// The runs that it works on.
    pub runs: Vec<String>,
    /// The operating system's number for its first process.
    pub pid: u32,
    /// What it does.
    pub state: InstanceState,
    /// The profile that confines it.
    pub isolation: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// Seconds since then.
    pub uptime_seconds: f64,
    /// What it uses.
    pub usage: Usage,
    /// What it used, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Sample>,
}

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InstanceState {
    /// It has had no run yet.
    Starting,
    /// It works on a run.
    Busy,
    /// It waits for its next run.
    Idle,
    /// It was told to end.
    Stopping,
}

impl InstanceState {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Busy => "busy",
            Self::Idle => "idle",
            Self::Stopping => "stopping",
        }
    }
}

/// What an instance uses with all its processes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// What it used when it was looked at last.
    #[serde(flatten)]
    pub now: Sample,
    /// The most resident memory seen so far.
    pub peak_rss_bytes: u64,
    /// Processor time of all its processes, of those too that have ended.
    pub cpu_seconds: f64,
    /// Runs begun in all.
    pub requests: u64,
    /// Tokens spent in all.
    pub tokens: u64,
}

/// What an instance used at one time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Resident memory of all its processes; what they share counts for each.
    pub rss_bytes: u64,
    /// Processor time since the sample before; 100 is one core.
    pub cpu_percent: f64,
    /// Open files.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
    /// Processes besides the first one.
    pub children: u64,
    /// Read from storage in all.
    pub read_bytes: u64,
    /// Written to storage in all.
    pub written_bytes: u64,
    /// Memory on graphics processors, where those can be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory_bytes: Option<u64>,
    /// Runs under way.
    pub concurrent_requests: u64,
    /// Runs begun in the minute before.
    pub requests_per_minute: u64,
    /// Tokens spent in the minute before.
    pub tokens_per_minute: u64,
}
