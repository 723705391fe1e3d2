//! The built binary, used as its users use it: real agents, real processes, real signals, a store on disk.

mod support;

mod approvals;
mod backup;
mod control;
mod crash;
mod errors;
mod events;
mod output;
mod running;
