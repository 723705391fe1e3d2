//! A run in a process that speaks the agent wire.
//!
//! Everything about an attempt is one future without tasks of its own: reading, writing, the host's calls, the log and
//! the clock. Dropping it, which is how a run is suspended or given up, drops the process with all of that.

mod door;
mod link;
mod peer;
mod websocket;

mod calls;
mod deltas;
mod desk;
mod routed;
mod steps;

mod failure;
mod farewell;
mod handshake;
mod hub;
mod idle;
mod session;
mod steering;
mod turn;

pub(crate) use self::{
    door::Door,
    hub::Hub,
    peer::Peer,
    session::{Conclusion, Session},
    turn::{Past, past},
};
