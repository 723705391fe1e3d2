//! Processes that are kept running: who starts when, who is restarted and when, and who goes down with whom.
//!
//! [`Machine`] decides and does nothing; it is told what happens and when, and answers with [`Action`]s. [`Supervisor`]
//! carries them out over a [`ProcessManager`](crate::ProcessManager).

mod declared;
mod order;
mod policy;

mod event;
mod machine;
mod slot;
mod state;
#[cfg(test)]
mod tests;

mod keeper;
mod ready;
mod supervisor;

pub use self::{
    declared::{DeclaredReady, DeclaredService},
    event::{Action, Child, Event, Happened},
    machine::Machine,
    order::OrderError,
    policy::{Backoff, Intensity, Restart, RestartPolicy, Strategy},
    ready::Ready,
    state::{Failure, State, Up, Verdict},
    supervisor::{Last, Service, Statistics, Status, Supervisor, SupervisorConfig},
};
