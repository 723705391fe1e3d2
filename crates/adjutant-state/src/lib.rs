//! What a run has done so far: its journal of steps and its checkpoints.
//!
//! [`StateStore`] is the contract, [`MemoryStateStore`] the simplest engine. Every engine passes the
//! cases of `conformance`.
//!
//! ```
//! use adjutant_core::{Json, RunId};
//! use adjutant_state::{MemoryStateStore, StateStore, StateWrite};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> adjutant_core::Result<()> {
//! let (store, run, epoch) = (MemoryStateStore::new(), RunId::new(), 1);
//! let seq = store.write(run, epoch, vec![StateWrite::Checkpoint(Json::from("page 7"))]).await?;
//! assert_eq!(seq, 1);
//! assert_eq!(store.history(run).await?.checkpoint.map(|saved| saved.seq), Some(1));
//! # Ok(()) }
//! ```

mod port;

mod memory;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

#[doc(hidden)]
pub use crate::memory::engine;
pub use crate::{
    memory::{MemoryStateStore, StateConfig},
    port::{Checkpoint, DEFAULT_CHECKPOINTS_KEPT, History, StateStore, StateWrite},
};
