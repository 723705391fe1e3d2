//! Warm processes: started and greeted ahead of their runs, and used again after them.
//!
//! [`Plan`] decides who is kept and for how long; [`Pool`] carries it out.

mod names;
mod plan;
mod warm;

pub(crate) use self::warm::Pool;
pub use self::{
    names::{Name, Names},
    plan::PoolConfig,
};
