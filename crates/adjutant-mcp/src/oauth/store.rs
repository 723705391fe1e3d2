//! Where tokens are kept.

use std::{fmt, io};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whose tokens, for what. Never an address alone: the authorization server's name belongs to the key, too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Account {
    /// The server's address.
    pub resource: String,
    /// The customer for whom a run works.
    pub tenant: Option<String>,
    /// The person or service in whose name a run works.
    pub principal: Option<String>,
}

/// What a login gives: tokens, and the client that they were given to. Nobody may see it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Grant {
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<String>,
    /// As the library has it.
    pub(crate) tokens: Value,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Keeps grants. Contract:
///
/// - What was saved is loaded until it is saved again or forgotten, by this process and by others that share the store.
/// - Nobody but the runtime's own user reads it.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// The authorization servers that an account has grants of.
    async fn issuers(&self, account: &Account) -> io::Result<Vec<String>>;

    /// An account's grant of an authorization server.
    async fn load(&self, account: &Account, issuer: &str) -> io::Result<Option<Grant>>;

    /// Keeps a grant in place of the one before.
    async fn save(&self, account: &Account, issuer: &str, grant: &Grant) -> io::Result<()>;

    /// Forgets a grant; one that is not there is none to forget.
    async fn forget(&self, account: &Account, issuer: &str) -> io::Result<()>;

    /// Held while a grant is renewed, so that nobody else renews it with the same token. Given back when it is dropped.
    async fn lock(&self, account: &Account, issuer: &str) -> io::Result<Box<dyn Send>>;
}
