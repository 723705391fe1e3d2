//! Logging in to servers and out of them.

use std::sync::Arc;

use adjutant_tools::Caller;
use reqwest::Url;

use super::{Inner, McpServerPool, unknown};
use crate::{
    config::{Flow, Kind, ServerConfig},
    error::{Error, Result},
    oauth::{Account, Login, TokenStore, Wanted},
    peer::client_secret,
};

type Tokens = (Arc<dyn TokenStore>, Account);

impl McpServerPool {
    /// Begins to log in to a server: whoever opens the login's address lets this caller's tenant and principal use it. Asks for
    /// the configured scopes, or those that the server names, and for `scopes` besides. A server that is up already has to be
    /// restarted afterwards.
    ///
    /// # Errors
    /// When there is no such server, no place to keep tokens, or the server does not say who gives them.
    pub async fn login(&self, server: &str, caller: &Caller, scopes: &[String]) -> Result<Login> {
        let failed = |problem: String| failed(server, problem);
        let (config, (store, account)) = self.kept(server, caller)?;
        let oauth = config.oauth.clone().unwrap_or_default();
        let options = &self.inner.options;
        let secret = client_secret(&oauth, &options.dir, &options.lookup).map_err(failed)?;
        let url = Url::parse(&account.resource);
        let wanted = Wanted {
            server: server.to_owned(),
            url: url.map_err(|error| failed(error.to_string()))?,
            account,
            oauth,
            client_secret: secret,
            private: config.allow_private_network,
            scopes: scopes.to_vec(),
            store,
        };
        Login::start(wanted).await.map_err(failed)
    }

    /// Forgets the tokens of this caller's tenant and principal for a server; returns whether there were any.
    ///
    /// # Errors
    /// When there is no such server, or the tokens cannot be forgotten.
    pub async fn logout(&self, server: &str, caller: &Caller) -> Result<bool> {
        let broken = |error: std::io::Error| failed(server, error.to_string());
        let (_, (store, account)) = self.kept(server, caller)?;
        let issuers = store.issuers(&account).await.map_err(broken)?;
        for issuer in &issuers {
            store.forget(&account, issuer).await.map_err(broken)?;
        }
        Ok(!issuers.is_empty())
    }

    fn kept(&self, server: &str, caller: &Caller) -> Result<(&ServerConfig, Tokens)> {
        let config = self.config(server).ok_or_else(|| unknown(server))?;
        if config.kind() != Kind::Http {
            let problem = "only a server with `url` is logged in to";
            return Err(failed(server, problem.to_owned()));
        }
        let own = config.oauth.as_ref();
        if own.is_some_and(|oauth| oauth.flow() == Flow::ClientCredentials) {
            let problem = "its tokens come by the client's own secret, without a login";
            return Err(failed(server, problem.to_owned()));
        }
        let tokens = self.inner.tokens(config, caller);
        let tokens = tokens.ok_or_else(|| failed(server, "tokens have no place".to_owned()))?;
        Ok((config, tokens))
    }
}

impl Inner {
    /// Where a caller's tokens for a server are.
    pub(super) fn tokens(&self, config: &ServerConfig, caller: &Caller) -> Option<Tokens> {
        let store = self.options.tokens.clone()?;
        let account = Account {
            resource: config.url.clone()?,
            tenant: caller.tenant.clone(),
            principal: caller.principal.clone(),
        };
        Some((store, account))
    }
}

fn failed(server: &str, problem: String) -> Error {
    Error::Login {
        server: server.to_owned(),
        problem,
    }
}
