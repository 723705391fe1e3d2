//! A login: a person lets us in with a browser, and the tokens are kept.

use std::{fmt, net::Ipv4Addr, num::NonZeroU16, sync::Arc, time::Duration};

use reqwest::Url;
use rmcp::transport::auth::{AuthError, AuthorizationManager, OAuthClientConfig};
use tokio::{net::TcpListener, time::timeout};

use super::{
    Account, TokenStore, callback,
    discover::{Found, discover},
    used::Kept,
};
use crate::{config::OAuth, error::Error};

/// The name that people read when they are asked.
const NAME: &str = "Adjutant";

/// Who logs in, to what.
pub(crate) struct Wanted {
    pub(crate) server: String,
    pub(crate) account: Account,
    pub(crate) url: Url,
    pub(crate) oauth: OAuth,
    pub(crate) client_secret: Option<String>,
    /// Whether addresses in a private network are fine.
    pub(crate) private: bool,
    /// What to ask for besides.
    pub(crate) scopes: Vec<String>,
    pub(crate) store: Arc<dyn TokenStore>,
}

/// A login under way: somebody opens the address, says yes, and is sent back to this machine.
pub struct Login {
    server: String,
    url: String,
    state: String,
    listener: TcpListener,
    manager: AuthorizationManager,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl Login {
    pub(crate) async fn start(wanted: Wanted) -> Result<Self, String> {
        let port = wanted.oauth.redirect_port.map_or(0, NonZeroU16::get);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(|error| format!("`oauth.redirect_port`: {error}"))?;
        let port = listener.local_addr().map_err(|error| error.to_string())?;
        let back = format!("http://{port}{}", callback::PATH);
        let failed = |error: AuthError| crate::peer::chain(&error);
        let found = discover(&wanted.url, wanted.private);
        let mut found = found.await.map_err(failed)?;
        let scopes = scopes(&found, &wanted).await;
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let client = client(&mut found, &wanted, &back, &scopes).await?;
        let mut manager = found.manager;
        manager.configure_client(client.clone()).map_err(failed)?;
        manager.set_credential_store(Kept {
            store: wanted.store,
            account: wanted.account,
            issuer: found.issuer,
            client_secret: client.client_secret,
        });
        let url = manager.get_authorization_url(&scopes).await;
        let url = url.map_err(failed)?;
        let state = Url::parse(&url).ok().and_then(|url| {
            let mut pairs = url.query_pairs();
            pairs.find_map(|(key, value)| (key == "state").then(|| value.into_owned()))
        });
        Ok(Self {
            server: wanted.server,
            state: state.ok_or("the address to log in has no state")?,
            url,
            listener,
            manager,
        })
    }

    /// The address to open in a browser of this machine.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until somebody has said yes, gets the tokens and keeps them.
    ///
    /// # Errors
    /// When nobody did in time, somebody said no, the answer is another authorization server's, or there are no tokens.
    pub async fn finish(self, within: Duration) -> crate::Result<()> {
        let finished = self.exchange(within).await;
        finished.map_err(|problem| Error::Login {
            server: self.server,
            problem,
        })
    }

    async fn exchange(&self, within: Duration) -> Result<(), String> {
        let brought = timeout(within, callback::wait(&self.listener, &self.state)).await;
        let brought = brought.map_err(|_| format!("nobody came back within {within:?}"))??;
        let exchanged = self.manager.exchange_code_for_token_with_issuer(
            &brought.code,
            &self.state,
            brought.issuer.as_deref(),
        );
        match exchanged.await {
            Ok(_) => Ok(()),
            Err(error) => Err(crate::peer::chain(&error)),
        }
    }
}

/// The configured scopes, or those that the server names; and what is wanted besides.
async fn scopes(found: &Found, wanted: &Wanted) -> Vec<String> {
    let mut scopes = wanted.oauth.scopes.clone();
    if scopes.is_empty() {
        scopes = found.manager.select_initial_scopes(&[]).await;
    }
    // More than before is asked for: what was had is kept.
    let before = match wanted.scopes[..] {
        [] => Vec::new(),
        _ => granted(found, wanted).await,
    };
    for scope in before.iter().chain(&wanted.scopes) {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    scopes
}

/// The scopes of the login before.
async fn granted(found: &Found, wanted: &Wanted) -> Vec<String> {
    let grant = wanted.store.load(&wanted.account, &found.issuer).await;
    let scopes = grant
        .ok()
        .flatten()
        .map(|grant| grant.tokens["granted_scopes"].clone());
    scopes
        .and_then(|scopes| serde_json::from_value(scopes).ok())
        .unwrap_or_default()
}

/// Who we are at the authorization server: the configured client, else a document that describes us, else one that we
/// register.
async fn client(
    found: &mut Found,
    wanted: &Wanted,
    back: &str,
    scopes: &[&str],
) -> Result<OAuthClientConfig, String> {
    if let Some(id) = &wanted.oauth.client_id {
        let client = OAuthClientConfig::new(id, back);
        return Ok(match &wanted.client_secret {
            Some(secret) => client.with_client_secret(secret),
            None => client,
        });
    }
    let known = &found.metadata.additional_fields;
    let documents = known.get("client_id_metadata_document_supported");
    if let Some(document) = &wanted.oauth.client_metadata_url
        && documents.and_then(serde_json::Value::as_bool) == Some(true)
    {
        return Ok(OAuthClientConfig::new(document, back));
    }
    let registered = found.manager.register_client(NAME, back, scopes).await;
    registered.map_err(|error| {
        let why = crate::peer::chain(&error);
        format!("no client could be registered, set `oauth.client_id`: {why}")
    })
}
