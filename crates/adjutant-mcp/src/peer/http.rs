//! Servers at an address.

mod challenge;
mod guard;
mod token;

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use reqwest::{
    StatusCode, Url,
    header::{HeaderName, HeaderValue},
    redirect,
};
use rmcp::{
    service::{ClientInitializeError, ServiceError},
    transport::{
        StreamableHttpClientTransport,
        auth::AuthClient,
        streamable_http_client::{
            AuthRequiredError, InsufficientScopeError, StreamableHttpClientTransportConfig,
            StreamableHttpError,
        },
    },
};
use tokio_util::sync::CancellationToken;

use self::guard::Guard;
use super::{Dial, FORBIDDEN, Mode, RmcpPeer, StartError, UNAUTHORIZED, tickets::Tickets};
use crate::{config::Flow, oauth::Access, secrets::Resolved, server::Blueprint};

pub(crate) use self::{challenge::challenge, token::client_secret};

/// Time to reach a server.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a server far away may be silent when asked for the modern revision.
const PATIENCE: Duration = Duration::from_secs(10);

/// Redirects of one request.
const MOST_REDIRECTS: usize = 5;

/// Requests beyond the calls: lists, health.
const MORE_REQUESTS: usize = 4;

/// Whether a request whose sending failed may have arrived all the same: not when a line could not be written to its end,
/// nor when nobody was there to take it.
pub(super) fn may_have_arrived(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(current) = cause {
        let far: Option<&StreamableHttpError<reqwest::Error>> = current.downcast_ref();
        match far {
            Some(StreamableHttpError::Client(error)) => {
                return !error.is_connect() && !error.is_builder();
            }
            // There was no token to send it with, or it was refused for its token.
            Some(StreamableHttpError::Auth(_)) => return false,
            _ => {}
        }
        if current.is::<std::io::Error>() {
            return false;
        }
        cause = current.source();
    }
    true
}

fn lasting(why: String) -> StartError {
    StartError {
        why,
        lasting: true,
        next: None,
    }
}

/// How a server wants another token than it was given, if it does: the status, and what to do.
pub(super) fn refusal(error: &(dyn Error + 'static), access: &Access) -> Option<(i32, String)> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(more) = current.downcast_ref::<InsufficientScopeError>() {
            return Some((FORBIDDEN, access.hint(more.get_required_scope())));
        }
        if current.is::<AuthRequiredError>() {
            return Some((UNAUTHORIZED, access.hint(None)));
        }
        cause = below(current);
    }
    None
}

/// The cause of an error, also where the library does not give it as one.
fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(error) = error.downcast_ref::<ClientInitializeError>() {
        return match error {
            ClientInitializeError::LegacyFallbackFailed { fallback, .. } => Some(&**fallback),
            ClientInitializeError::TransportError { error, .. } => Some(&*error.error),
            other => other.source(),
        };
    }
    match error.downcast_ref() {
        Some(ServiceError::TransportSend(error)) => Some(&*error.error),
        _ => error.source(),
    }
}

/// Greets a server at an address.
pub(crate) async fn reach(blueprint: &Blueprint, mut dial: Dial) -> Result<RmcpPeer, StartError> {
    let Blueprint {
        config,
        values,
        dir,
        lookup,
        tokens,
        ..
    } = blueprint;
    let address = config.url.as_deref().unwrap_or_default();
    let url = Url::parse(address).map_err(|error| lasting(format!("`url`: {error}")))?;
    let guard = Guard::new(&url, config.allow_private_network).map_err(lasting)?;
    let client = client(&url, guard).map_err(|error| lasting(error.to_string()))?;
    let mut transport = StreamableHttpClientTransportConfig::with_uri(address)
        .max_concurrent_requests(config.at_once() + MORE_REQUESTS);
    transport = transport.custom_headers(header_map(values).map_err(lasting)?);
    if let Mode::Probe(_) = dial.mode {
        dial.mode = Mode::Probe(PATIENCE);
    }
    let closed = CancellationToken::new();
    let line = (Arc::<Tickets>::default(), closed.clone());
    let own = config.oauth.as_ref();
    let Some(oauth) = own.filter(|oauth| oauth.flow() == Flow::ClientCredentials) else {
        let private = config.allow_private_network;
        return match token::kept(tokens.as_ref(), &url, private).await? {
            Some(manager) => {
                let client = AuthClient::new(client, manager);
                let transport = StreamableHttpClientTransport::with_client(client, transport);
                dial.greet(transport, line, None).await
            }
            None => {
                let transport = StreamableHttpClientTransport::with_client(client, transport);
                dial.greet(transport, line, None).await
            }
        };
    };
    let manager = token::manager(&url, oauth, config.allow_private_network, (dir, lookup)).await?;
    let client = AuthClient::new(client, manager.authorized);
    // Ends with the connection, or with the try to make one.
    tokio::spawn(token::renew(
        Arc::clone(&client.auth_manager),
        manager.credentials,
        manager.lives,
        closed.clone(),
    ));
    let unless_greeted = closed.drop_guard();
    let transport = StreamableHttpClientTransport::with_client(client, transport);
    let greeted = dial.greet(transport, line, None).await?;
    unless_greeted.disarm();
    Ok(greeted)
}

/// A client for one server and one principal: nothing is shared with others, and it goes nowhere else.
fn client(url: &Url, guard: Guard) -> reqwest::Result<reqwest::Client> {
    let origin = url.origin();
    let redirects = redirect::Policy::custom(move |attempt| {
        // Others would lose the message's body.
        let keeps_body = matches!(
            attempt.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        let stays = attempt.url().origin() == origin;
        if keeps_body && stays && attempt.previous().len() <= MOST_REDIRECTS {
            attempt.follow()
        } else {
            attempt.stop()
        }
    });
    reqwest::Client::builder()
        // What the environment says of proxies is not read here, and would go round the guard.
        .no_proxy()
        .redirect(redirects)
        .dns_resolver(Arc::new(guard))
        .connect_timeout(CONNECT)
        // Connections that are used again stall for 40 ms where the answer before was not read to its end.
        .pool_max_idle_per_host(0)
        .build()
}

fn header_map(headers: &Resolved) -> Result<HashMap<HeaderName, HeaderValue>, String> {
    let mut map = HashMap::new();
    for (name, value) in &headers.values {
        let broken = |error: &dyn Error| format!("`headers.{name}`: {error}");
        let key: HeaderName = name.parse().map_err(|error| broken(&error))?;
        let mut value: HeaderValue = value.parse().map_err(|error| broken(&error))?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}
