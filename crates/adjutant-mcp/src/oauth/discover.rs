//! Which authorization server a server names.

use reqwest::Url;
use rmcp::transport::auth::{AuthError, AuthorizationManager, AuthorizationMetadata};

use crate::peer::challenge;

/// A manager that knows the authorization server, what is known of it, and its name.
pub(super) struct Found {
    pub(super) manager: AuthorizationManager,
    pub(super) metadata: AuthorizationMetadata,
    pub(super) issuer: String,
}

/// Asks the server, which may say where to look when it refuses a request.
pub(super) async fn discover(url: &Url, private: bool) -> Result<Found, AuthError> {
    let mut manager = if private {
        AuthorizationManager::new_allowing_private_addresses(url.clone()).await?
    } else {
        AuthorizationManager::new(url.clone()).await?
    };
    let challenge = challenge(url, private).await;
    let challenge = challenge.as_deref();
    let resolution = manager.resolve_metadata_from_challenge(challenge).await?;
    let metadata = resolution.metadata;
    manager.set_metadata(metadata.clone());
    // Servers from before the metadata have no name but their address.
    let issuer = metadata.issuer.clone();
    let issuer = issuer.unwrap_or_else(|| metadata.authorization_endpoint.clone());
    Ok(Found {
        manager,
        metadata,
        issuer,
    })
}
