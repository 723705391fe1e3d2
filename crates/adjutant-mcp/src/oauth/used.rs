//! Stored tokens, put to use.

use std::{io, sync::Arc};

use async_trait::async_trait;
use reqwest::Url;
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, CredentialRefreshGuard, CredentialStore, OAuthClientConfig,
    StoredCredentials,
};

use super::{Account, Grant, TokenStore, discover::discover};

/// A manager with an account's tokens, if there are any of the authorization server that the server names now.
///
/// # Errors
/// When the store cannot be read, or the server does not say who gives tokens.
pub(crate) async fn authorized(
    store: &Arc<dyn TokenStore>,
    account: &Account,
    url: &Url,
    private: bool,
) -> Result<Option<AuthorizationManager>, AuthError> {
    // Servers that nobody has logged in to are not asked.
    if store.issuers(account).await.map_err(broken)?.is_empty() {
        return Ok(None);
    }
    let found = discover(url, private).await?;
    let Some(grant) = store.load(account, &found.issuer).await.map_err(broken)? else {
        return Ok(None);
    };
    let mut manager = found.manager;
    manager.configure_client(client(&grant, url))?;
    manager.set_credential_store(Kept {
        store: Arc::clone(store),
        account: account.clone(),
        issuer: found.issuer,
        client_secret: grant.client_secret,
    });
    Ok(Some(manager))
}

fn client(grant: &Grant, url: &Url) -> OAuthClientConfig {
    // Nobody is sent anywhere with it: any address will do for the way back.
    let client = OAuthClientConfig::new(&grant.client_id, url.as_str());
    match &grant.client_secret {
        Some(secret) => client.with_client_secret(secret),
        None => client,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what errors are mapped with")]
fn broken(error: io::Error) -> AuthError {
    AuthError::CredentialStoreError(error.to_string())
}

/// Our store as the library wants it, for one account and one authorization server.
pub(super) struct Kept {
    pub(super) store: Arc<dyn TokenStore>,
    pub(super) account: Account,
    pub(super) issuer: String,
    pub(super) client_secret: Option<String>,
}

#[async_trait]
impl CredentialStore for Kept {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        let grant = self.store.load(&self.account, &self.issuer).await;
        let read = |grant: Grant| serde_json::from_value(grant.tokens);
        let tokens = grant.map_err(broken)?.map(read).transpose();
        tokens.map_err(|error| broken(error.into()))
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        let tokens = serde_json::to_value(&credentials).map_err(|error| broken(error.into()))?;
        let grant = Grant {
            client_id: credentials.client_id,
            client_secret: self.client_secret.clone(),
            tokens,
        };
        let saved = self.store.save(&self.account, &self.issuer, &grant).await;
        saved.map_err(broken)
    }

    async fn clear(&self) -> Result<(), AuthError> {
        let forgotten = self.store.forget(&self.account, &self.issuer).await;
        forgotten.map_err(broken)
    }

    async fn acquire_refresh_guard(&self) -> Result<Option<CredentialRefreshGuard>, AuthError> {
        let guard = self.store.lock(&self.account, &self.issuer).await;
        Ok(Some(CredentialRefreshGuard::new(guard.map_err(broken)?)))
    }
}
