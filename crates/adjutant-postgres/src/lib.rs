//! Queue, state and events on PostgreSQL, for many processes on many machines.
//!
//! Each node groups its writes: whatever has queued up while the last group was on its way becomes the next
//! transaction, in one or two calls to the server. Nodes lock the runs that they work on, pass over those that others
//! have locked, and tell each other of what waiters wait for.
//!
//! ```no_run
//! use adjutant_core::RunInput;
//! use adjutant_postgres::PostgresConfig;
//! use adjutant_queue::{NewRun, RunQueue};
//!
//! # async fn example() -> adjutant_core::Result<()> {
//! let config = PostgresConfig::parse("postgres://me@db.example/jobs?sslmode=verify-full")?;
//! let store = adjutant_postgres::open(config).await?;
//! store.submit(vec![NewRun::new("greeter", &RunInput::text("hello"))?]).await?;
//! # Ok(())
//! # }
//! ```

mod config;
mod error;

mod schema;

mod history; // how things are stored
mod record;
mod text;

mod args;
mod db; // one connection

mod queries;
mod reads;
mod writes;

mod clock;
mod news; // what nodes tell each other

mod ledger;
mod listener;
mod reader;
mod session; // the writing connection
mod storage;

mod inspect;
mod store;

pub use adjutant_engine::{EngineStore, WriterStats};
pub use sqlx::postgres::PgConnectOptions;

pub use crate::{config::PostgresConfig, store::open};
