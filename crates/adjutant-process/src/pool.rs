//! Warm processes: started and greeted ahead of their runs, and used again after them.
//!
//! [`Plan`] decides who is kept and for how long; [`Pool`] carries it out. [`SharedPool`] is for processes that work on several
//! runs at once.

mod names;
mod plan;
mod shared;
mod warm;

pub use self::{
    names::{Name, Names},
    plan::PoolConfig,
};
pub(crate) use self::{
    shared::{Place, SharedPool},
    warm::Pool,
};
