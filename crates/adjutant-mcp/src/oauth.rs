//! Tokens that a person has let us have: kept, used, and got by a login.

mod callback;
mod discover;
mod files;
mod login;
mod store;
mod used;

pub use self::{
    files::FileTokens,
    login::Login,
    store::{Account, Grant, TokenStore},
};
pub(crate) use self::{login::Wanted, used::authorized};

/// What to do about a server that wants a person to let us in.
pub(crate) fn hint(server: &str, scopes: Option<&str>) -> String {
    let command = format!("agent mcp login PATH {server}");
    match scopes {
        Some(scopes) => {
            format!("it wants a token that allows more: `{command} --scope '{scopes}'` gets one")
        }
        None => format!("it wants a token, or another: `{command}` gets one"),
    }
}
