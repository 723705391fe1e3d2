//! Requests to a collector over HTTP.

use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, header};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use tokio::runtime::Handle;

/// Longest answer of a collector that is read, in bytes.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Sends requests on the runtime in which it was made, whoever waits for them: the SDK's meters do so on a thread without
/// one.
#[derive(Debug, Clone)]
pub(super) struct Client {
    client: reqwest::Client,
    headers: HeaderMap,
    runtime: Handle,
}

impl Client {
    /// A client that sends these headers. Has to be called within a runtime.
    pub fn new(headers: HeaderMap, timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(timeout)
            // Nobody else is told what the headers say.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            client,
            headers,
            runtime: Handle::current(),
        })
    }

    /// Of the exporter's headers, only what describes the body: others may come from the environment.
    fn headers(&self, given: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers.clone();
        for name in [
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::USER_AGENT,
        ] {
            if let Some(value) = given.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        headers
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let headers = self.headers(request.headers());
        let (parts, body) = request.into_parts();
        let request = self.client.request(parts.method, parts.uri.to_string());
        let exchange = exchange(request.headers(headers).body(body));
        self.runtime.spawn(exchange).await?
    }
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Response<Bytes>, HttpError> {
    // The address may hold a password, and the log is no place for it.
    let mut answer = request.send().await.map_err(reqwest::Error::without_url)?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        *headers = answer.headers().clone();
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(Box::new(ResponseBodyTooLarge::new()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(response.body(body.into())?)
}
