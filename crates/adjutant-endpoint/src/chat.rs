//! OpenAI's chat completions.

mod read;
mod write;

pub use self::{
    read::{read, response_format as read_format, tool_choice as read_choice},
    write::ChatWriter,
};
