//! The run queue: who may work on which run, until when, and what happens when nobody does.
//!
//! [`RunQueue`] is the contract, [`RunRecord`] the decisions behind it, [`MemoryQueue`] the simplest
//! engine. Every engine passes the cases of `conformance`.
//!
//! ```
//! use adjutant_core::{RunInput, SystemClock, Timestamp};
//! use adjutant_queue::{NewRun, RunRecord};
//!
//! let run = NewRun::new("greeter", &RunInput::text("hello"))?;
//! let (record, _) = RunRecord::submitted(&run, Timestamp::from_micros(1));
//! assert!(record.is_ready());
//! # Ok::<(), adjutant_core::Error>(())
//! ```

mod run;

mod port;

mod machine;
mod payload;

mod memory;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

#[doc(hidden)]
pub use crate::memory::engine;
pub use crate::{
    machine::{AGEING, ChildEnded, Effects, Group, Held, RunRecord, group_is_done},
    memory::{MemoryQueue, QueueConfig},
    port::{RunLookup, RunQueue},
    run::{
        AgentFilter, Beat, ClaimRequest, Claimed, Command, Concurrency, DEFAULT_MAX_DEATHS,
        Disposition, Lease, NewRun, Origin, ParentLink, Payload, PrunePolicy, QueueStats,
        RunFilter, RunView, Signal, Submitted, Swept, Wait, WakeOn,
    },
};
