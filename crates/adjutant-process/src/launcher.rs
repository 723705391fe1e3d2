//! Starts a program by way of a helper: this very program, executed again under a hidden name.
//!
//! The helper is single-threaded and knows nothing yet, so it can join control groups, take limits and rights from itself,
//! and only then become the agent. It gets its order through a socket that stands in for its stdin; the agent's real stdin
//! comes through that socket too. Nothing has to be inherited by chance, and nothing is in arguments or environment.
//!
//! ```text
//! runtime -- order, stdin --> helper -- joins, limits itself --> agent
//!         <-- ready, then the socket closes on exec -----------
//! ```
//!
//! Where there are no control groups the helper stays as the agent's *keeper*: see [`keeper`].

mod child;
mod keeper;
mod order;
mod parent;

pub use self::order::Step;
pub(crate) use self::{
    child::{LAUNCH, launch},
    order::Order,
    parent::{Control, start},
};
