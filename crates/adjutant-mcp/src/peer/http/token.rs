//! Tokens for a server, by the client's own credentials.

use std::{path::Path, sync::Arc, time::Duration};

use reqwest::Url;
use rmcp::transport::auth::{AuthorizationManager, ClientCredentialsConfig};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{super::rmcp::chain, StartError, lasting};
use crate::{
    config::OAuth,
    locate::Lookup,
    oauth::{Account, TokenStore, authorized},
    secrets,
};

/// Time to get a token.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A token is renewed when so much of its life is over.
const RENEW_AT: f64 = 0.8;

/// Time between two tries to renew one.
const AGAIN: Duration = Duration::from_secs(5);

/// Has a token.
pub(super) struct Manager {
    pub(super) authorized: AuthorizationManager,
    pub(super) credentials: ClientCredentialsConfig,
    /// How long the token lives, where that is known.
    pub(super) lives: Option<Duration>,
}

/// The client's secret, where it has one.
pub(crate) fn client_secret(
    oauth: &OAuth,
    dir: &Path,
    lookup: &Lookup,
) -> Result<Option<String>, String> {
    let Some(variable) = &oauth.client_secret else {
        return Ok(None);
    };
    let secret = secrets::value(variable, dir, lookup)
        .map_err(|problem| format!("`oauth.client_secret`: {problem}"))?;
    Ok(Some(secret.0))
}

/// Tokens that somebody has logged in for, if there are any.
pub(super) async fn kept(
    tokens: Option<&(Arc<dyn TokenStore>, Account)>,
    url: &Url,
    private: bool,
) -> Result<Option<AuthorizationManager>, StartError> {
    let Some((store, account)) = tokens else {
        return Ok(None);
    };
    let got = timeout(TIMEOUT, authorized(store, account, url, private)).await;
    got.map_err(|_| passing(format!("no token within {TIMEOUT:?}")))?
        .map_err(|error| passing(format!("no token: {}", chain(&error))))
}

/// Gets a token from the authorization server that the server names.
pub(super) async fn manager(
    url: &Url,
    oauth: &OAuth,
    private: bool,
    (dir, lookup): (&Path, &Lookup),
) -> Result<Manager, StartError> {
    let secret = client_secret(oauth, dir, lookup).map_err(lasting)?;
    let credentials = ClientCredentialsConfig::ClientSecret {
        client_id: oauth.client_id.clone().unwrap_or_default(),
        client_secret: secret.unwrap_or_default(),
        scopes: oauth.scopes.clone(),
        resource: Some(url.to_string()),
    };
    let time = oauth.timeout.unwrap_or(TIMEOUT);
    let got = timeout(time, get(url, private, &credentials)).await;
    let (authorized, lives) = got
        .map_err(|_| passing(format!("no token within {time:?}")))?
        .map_err(|error| passing(format!("no token: {}", chain(&error))))?;
    Ok(Manager {
        authorized,
        credentials,
        lives,
    })
}

const fn passing(why: String) -> StartError {
    StartError {
        why,
        lasting: false,
        next: None,
    }
}

async fn get(
    url: &Url,
    private: bool,
    credentials: &ClientCredentialsConfig,
) -> Result<(AuthorizationManager, Option<Duration>), rmcp::transport::auth::AuthError> {
    let mut manager = if private {
        AuthorizationManager::new_allowing_private_addresses(url.clone()).await?
    } else {
        AuthorizationManager::new(url.clone()).await?
    };
    let resolution = manager.resolve_metadata().await?;
    manager.set_metadata(resolution.metadata);
    manager.validate_client_credentials_metadata(credentials)?;
    manager.configure_client_credentials(credentials)?;
    let token = manager.exchange_client_credentials(credentials).await?;
    Ok((manager, life(&token)))
}

/// How long a token lives.
fn life(token: &impl serde::Serialize) -> Option<Duration> {
    let token = serde_json::to_value(token).ok()?;
    token.get("expires_in")?.as_u64().map(Duration::from_secs)
}

/// Gets a new token in time, for as long as the connection lasts.
pub(super) async fn renew(
    manager: Arc<Mutex<AuthorizationManager>>,
    credentials: ClientCredentialsConfig,
    mut lives: Option<Duration>,
    closed: CancellationToken,
) {
    while let Some(life) = lives {
        tokio::select! {
            () = closed.cancelled() => return,
            () = tokio::time::sleep(life.mul_f64(RENEW_AT).max(AGAIN)) => {}
        }
        let renewed = {
            let manager = manager.lock().await;
            manager.exchange_client_credentials(&credentials).await
        };
        match renewed {
            Ok(token) => lives = self::life(&token),
            Err(error) => {
                tracing::warn!(error = chain(&error), "a token could not be renewed");
                lives = Some(AGAIN);
            }
        }
    }
}
