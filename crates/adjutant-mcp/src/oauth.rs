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

/// How a server gets its token, for telling people what to do when it refuses it.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) server: String,
    /// Whether the configuration gives it a token, and not a login.
    pub(crate) configured: bool,
}

impl Access {
    /// What to do about a server that refuses its token, or wants one that allows more.
    pub(crate) fn hint(&self, scopes: Option<&str>) -> String {
        let command = format!("agent mcp login PATH {}", self.server);
        match (self.configured, scopes) {
            (true, None) => "it refuses the token of `headers` or `oauth`".to_owned(),
            (true, Some(scopes)) => {
                format!("its token has to allow `{scopes}`: see `oauth.scopes`")
            }
            (false, None) => format!("it wants a token, or another: `{command}` gets one"),
            (false, Some(scopes)) => {
                format!(
                    "it wants a token that allows more: `{command} --scope '{scopes}'` gets one"
                )
            }
        }
    }
}
