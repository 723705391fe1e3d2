//! The HTTP client of one provider.

use std::fmt::Display;

use genai::Client;
use reqwest::{
    Proxy, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};

use super::Connection;
use crate::{ModelError, ModelErrorKind, Result};

/// Builds the client. It follows no redirects, which would carry keys to another host, and does not look at the
/// environment for proxies.
pub(super) fn build(connection: &Connection) -> Result<Client> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(connection.timeouts.connect)
        .default_headers(headers(connection)?)
        .redirect(Policy::none())
        .tcp_nodelay(true)
        .no_proxy();
    if let Some(proxy) = &connection.proxy {
        let proxy = Proxy::all(proxy).map_err(|error| unusable("proxy", &error))?;
        builder = builder.proxy(proxy);
    }
    let client = builder
        .build()
        .map_err(|error| unusable("HTTP client", &error))?;
    Client::builder()
        .with_reqwest(client)
        .build()
        .map_err(|error| unusable("HTTP client", &error))
}

fn headers(connection: &Connection) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &connection.headers {
        // What is wrong with a value is not told: it may be a key.
        let wrong = || {
            ModelError::new(
                ModelErrorKind::InvalidRequest,
                format!("header `{name}` cannot be sent"),
            )
        };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// The address with a `/` at the end of its path, so that the adapters append to it and replace nothing.
pub(super) fn base_url(text: &str) -> Result<String> {
    let mut url = Url::parse(text).map_err(|error| unusable("`base_url`", &error))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable(
            "`base_url`",
            &"it has to begin with http or https",
        ));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url.into())
}

fn unusable(what: &str, why: &dyn Display) -> ModelError {
    ModelError::new(
        ModelErrorKind::InvalidRequest,
        format!("{what} is not usable: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_append_to_the_address() {
        for (text, expected) in [
            ("http://h:1/v1", "http://h:1/v1/"),
            ("http://h:1/v1/", "http://h:1/v1/"),
            ("http://h", "http://h/"),
            (
                "https://h/a/b?api-version=1",
                "https://h/a/b/?api-version=1",
            ),
        ] {
            assert_eq!(base_url(text).unwrap(), expected);
        }
        assert!(base_url("localhost:8080/v1").is_err());
        assert!(base_url("v1").is_err());
    }
}
