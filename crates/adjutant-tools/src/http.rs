//! Tools that are HTTP services.

mod answer;
mod client;
mod guard;
mod request;
mod secret;
mod tool;

pub(crate) use self::{
    answer::answer,
    client::{Outgoing, secret_header},
    request::{Filled, Template, append, fill_segment, scalar},
    tool::{call_headers, effect_of},
};
pub use self::{
    client::{HttpClient, HttpOptions},
    request::BodyForm,
    secret::Secret,
    tool::{HttpTool, HttpToolConfig, HttpTools},
};
