//! A run in a process that speaks the agent wire.
//!
//! Everything about an attempt is one future without tasks of its own: reading, writing, the host's calls, the log and
//! the clock. Dropping it, which is how a run is suspended or given up, drops the process with all of that.

mod calls;
mod desk;
mod link;
mod session;
mod steps;

pub(crate) use self::session::Session;
