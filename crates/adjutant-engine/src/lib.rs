//! What engines over a database share: grouped commits, a batch's working set, and waiting.
//!
//! An engine brings a [`Storage`], one writing connection that reads and writes rows within a transaction, and
//! [`Reads`] beside it. [`EngineStore`] makes a store of them: one writer takes whatever requests have queued up,
//! loads the records they concern, lets [`RunRecord`](adjutant_queue::RunRecord) decide in memory, writes what changed
//! in one transaction, and answers when that is durable.

mod storage; // what an engine brings

mod columns; // how records are stored
mod outcome;

mod cache;
mod slot;
mod undo;

mod apply;
mod batch; // the working set of one transaction
mod changes;
mod claim;
mod effects;
mod handover;
mod journal;

mod recent; // what is known without a look
mod reply;
mod request;
mod round;
mod writer;

mod wake;

mod ledger; // the contracts
mod queue;
mod state;
mod store;

pub use crate::{
    columns::Columns,
    ledger::{ledger_row, ledger_text},
    outcome::{outcome, outcome_text},
    reply::again,
    slot::Place,
    storage::{
        Added, Begun, ChangedRun, Changes, Failure, Loaded, Reads, Ready, Storage, StoredStep,
        class, state_of_class,
    },
    store::{Counters, EngineConfig, EngineStore, WriterStats},
    wake::WakeUps,
};
