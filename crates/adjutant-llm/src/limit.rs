//! Limits of one provider: calls at the same time, calls and tokens within a minute.

mod bucket;
mod concurrency;
mod pace;

pub use self::{concurrency::Limited, pace::Paced};
