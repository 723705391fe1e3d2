//! Starts programs by way of a helper: this very program, executed again under a hidden name.
//!
//! The helper is single-threaded and knows nothing yet, so a copy of it can join control groups, take limits and rights
//! from itself, and only then become the agent. One helper serves a runtime for as long as it lives: it forks for each
//! agent, which costs a fraction of executing a large program once more. The copy is the runtime's own child, so that the
//! runtime can wait for it and the kernel can end it with the runtime.
//!
//! ```text
//! runtime -- stdin, stdout, stderr, a socket --> helper -- forks --> copy
//!         <-- the copy's number ----------------
//!         -- order ----------------------------------------------> joins, limits itself --> agent
//!         <-- ready, then the socket closes on exec ------------------------------------
//! ```
//!
//! Nothing has to be inherited by chance, and nothing is in arguments or environment. Where there are no control groups
//! the copy stays as the agent's *keeper*: see [`keeper`].

mod child;
mod keeper;
mod order;
mod parent;
mod server;

pub use self::order::Step;
pub(crate) use self::{
    order::Order,
    parent::{Control, Launcher},
    server::{LAUNCH, serve},
};
