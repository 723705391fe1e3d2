//! The server and its life.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use adjutant_core::RunContext;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    grant::{Grant, Grants},
    route::{self, State},
};

/// Whose API a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
}

/// Turns the model's name that a client uses into one that the runtime knows.
pub type ModelNames = dyn Fn(Dialect, &str) -> String + Send + Sync;

/// How the endpoint behaves.
#[derive(Clone)]
pub struct EndpointOptions {
    /// The models that `GET /v1/models` lists.
    pub models: Vec<String>,
    /// What a client's `gpt-5` is called here; default: as the client calls it.
    pub names: Arc<ModelNames>,
    /// How long a call goes on after its client has gone away, so that the client's own retry finds it. Default 3 s, which
    /// is longer than the published libraries wait before their first retry.
    pub linger: Duration,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            names: Arc::new(|_, name| name.to_owned()),
            linger: Duration::from_secs(3),
        }
    }
}

impl fmt::Debug for EndpointOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointOptions")
            .field("models", &self.models)
            .field("linger", &self.linger)
            .finish_non_exhaustive()
    }
}

/// Where clients find the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrls {
    /// For OpenAI's libraries: with `/v1`.
    pub openai: String,
    /// For Anthropic's libraries: without.
    pub anthropic: String,
}

/// A server on loopback that makes the model calls of runs. Dropping it ends it, and all calls that are being made.
pub struct Endpoint {
    address: SocketAddr,
    urls: BaseUrls,
    grants: Arc<Grants>,
    linger: Duration,
    closed: CancellationToken,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Starts the server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(options: EndpointOptions) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let grants = Arc::new(Grants::default());
        let linger = options.linger;
        let router = route::router(State {
            grants: grants.clone(),
            options: Arc::new(options),
            port: address.port(),
        });
        let closed = CancellationToken::new();
        let server =
            axum::serve(listener, router).with_graceful_shutdown(closed.clone().cancelled_owned());
        // Ends when the endpoint is dropped, and with it the connections, whose calls have then been cut off.
        tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the endpoint for model calls has ended");
            }
        });
        let anthropic = format!("http://{address}");
        Ok(Self {
            address,
            urls: BaseUrls {
                openai: format!("{anthropic}/v1"),
                anthropic,
            },
            grants,
            linger,
            closed,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients find it.
    #[must_use]
    pub fn base_urls(&self) -> &BaseUrls {
        &self.urls
    }

    /// A token for one attempt at a run: its calls are made through this context. Keep the grant for as long as the attempt.
    pub fn grant(&self, ctx: RunContext) -> Grant {
        let BaseUrls { openai, anthropic } = &self.urls;
        self.grants.grant(ctx, self.linger, openai, anthropic)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.grants.revoke_all();
        self.closed.cancel();
    }
}
