//! The loopback endpoint in OpenAI's and Anthropic's shape, with a token for each attempt.
//!
//! An agent that is written with a published library of either provider needs no change to become durable: its
//! environment tells it another base URL and key, and every model call that it makes is the run's own, journaled, counted
//! against the budget, and cut off with the attempt.
//!
//! ```no_run
//! # async fn example(ctx: adjutant_core::RunContext) -> std::io::Result<()> {
//! use adjutant_endpoint::{Endpoint, EndpointOptions};
//!
//! let endpoint = Endpoint::start(EndpointOptions::default()).await?; // one for a worker's process
//! let grant = endpoint.grant(ctx); // one for an attempt
//! let mut agent = tokio::process::Command::new("agent.py");
//! agent.envs(grant.env().iter().cloned());
//! # drop(grant); // The token is revoked, and its calls end.
//! # Ok(())
//! # }
//! ```

mod endpoint;
mod grant;
mod route;

mod flight;
mod pieces;

mod failure;
mod thinking;
mod wire;

mod chat;
mod messages;
mod responses;

pub use crate::{
    endpoint::{BaseUrls, Dialect, Endpoint, EndpointOptions, ModelNames},
    grant::Grant,
};
