//! Anthropic's messages.

mod read;
mod write;

pub use self::{read::read, write::MessagesWriter};
