//! What live instances use: measured from outside, kept for a while, and told to whoever asks.
//!
//! [`Observed`] wraps a [`ProcessManager`](crate::ProcessManager) and enters each process it starts into [`Instances`].
//! Those who talk with the process tell its [`Observer`] what they hear: lines of its log, the runs it works on, the
//! tokens it spends.

mod figures;
#[cfg(feature = "gpu")]
mod gpu;
mod history;
mod instances;
mod observed;
mod observer;
mod proc;
mod rate;

pub use crate::procfs::Snapshot;

pub use self::{
    figures::{InstanceState, InstanceView, Sample, Usage},
    instances::Instances,
    observed::{About, Observed},
    observer::{Observer, Working},
};
