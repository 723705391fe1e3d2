//! Tokens: who may call in whose name.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use adjutant_core::{RunContext, RunId};
use tokio_util::sync::CancellationToken;

use crate::flight::Flights;

/// A token and where to use it. Dropping it revokes the token and cuts off the calls that are being made with it.
#[must_use = "the token is revoked when this is dropped"]
pub struct Grant {
    token: String,
    env: Vec<(String, String)>,
    id: u64,
    grants: Arc<Grants>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Grant {
    /// The token: an API key for this attempt. A secret.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Environment variables with which the published OpenAI and Anthropic libraries find the endpoint by themselves.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.grants.revoke(self.id);
    }
}

/// What a token stands for.
struct Granted {
    secret: [u8; SECRET],
    flights: Arc<Flights>,
    revoked: CancellationToken,
    attempt: (RunId, u32, u64),
}

/// Characters of a token's secret part: 32 random bytes.
const SECRET: usize = 64;
const PREFIX: &str = "sk-adj-";

/// All tokens that are good.
#[derive(Default)]
pub struct Grants {
    table: Mutex<HashMap<u64, Granted>>,
}

impl Grants {
    /// A new token for an attempt.
    pub fn grant(
        self: &Arc<Self>,
        ctx: RunContext,
        linger: Duration,
        openai: &str,
        anthropic: &str,
    ) -> Grant {
        let attempt = (ctx.run_id(), ctx.attempt(), ctx.epoch());
        let revoked = CancellationToken::new();
        let id = rand::random();
        let secret: [u8; 32] = rand::random();
        let secret = hex(&secret);
        let token = format!("{PREFIX}{id:016x}-{}", String::from_utf8_lossy(&secret));
        let granted = Granted {
            secret,
            flights: Arc::new(Flights::new(ctx, revoked.clone(), linger)),
            revoked,
            attempt,
        };
        tracing::debug!(run_id = %attempt.0, attempt = attempt.1, epoch = attempt.2, "token granted");
        self.table().insert(id, granted);
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Grant {
            env: vec![
                variable("OPENAI_BASE_URL", openai),
                // Its older name, which some frameworks read first.
                variable("OPENAI_API_BASE", openai),
                variable("OPENAI_API_KEY", &token),
                variable("ANTHROPIC_BASE_URL", anthropic),
                variable("ANTHROPIC_API_KEY", &token),
            ],
            token,
            id,
            grants: self.clone(),
        }
    }

    /// The calls of the attempt that a token was made for. Takes the same time however much of the secret is right.
    pub fn find(&self, token: &str) -> Option<Arc<Flights>> {
        let (id, secret) = token.strip_prefix(PREFIX)?.split_once('-')?;
        let id = u64::from_str_radix(id, 16).ok()?;
        let table = self.table();
        let granted = table.get(&id)?;
        same(secret.as_bytes(), &granted.secret).then(|| granted.flights.clone())
    }

    fn revoke(&self, id: u64) {
        if let Some(granted) = self.table().remove(&id) {
            granted.revoked.cancel();
            let (run, attempt, epoch) = granted.attempt;
            tracing::debug!(run_id = %run, attempt, epoch, "token revoked");
        }
    }

    /// Revokes all tokens.
    pub fn revoke_all(&self) {
        for (_, granted) in self.table().drain() {
            granted.revoked.cancel();
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u64, Granted>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hex(bytes: &[u8; 32]) -> [u8; SECRET] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; SECRET];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// Compares without stopping at the first difference.
fn same(given: &[u8], secret: &[u8; SECRET]) -> bool {
    if given.len() != SECRET {
        return false;
    }
    let difference = given
        .iter()
        .zip(secret)
        .fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}
