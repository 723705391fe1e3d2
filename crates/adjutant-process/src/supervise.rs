//! Processes that are kept running: who starts when, who is restarted and when, and who goes down with whom.
//!
//! [`Machine`] decides and does nothing; it is told what happens and when, and answers with [`Action`]s.

mod order;
mod policy;

mod event;
mod machine;
mod slot;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    event::{Action, Child, Event, Happened},
    machine::Machine,
    order::OrderError,
    policy::{Backoff, Intensity, Restart, RestartPolicy, Strategy},
    state::{Failure, State, Up, Verdict},
};
