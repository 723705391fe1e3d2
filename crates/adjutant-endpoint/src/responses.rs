//! OpenAI's responses.

mod read;
mod write;

pub use self::{read::read, write::ResponsesWriter};
