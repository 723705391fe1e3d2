//! The one place from which tools go out to the network.

use std::{error::Error as _, time::Duration};

use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::{Attempt, Policy},
};

use super::{
    Secret,
    guard::{Guard, Refused},
};
use crate::{Pattern, Result, ToolError};

/// How tools reach the network.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Hosts, as names, addresses or patterns, that may be within a private network. Default: none.
    pub allow_private: Vec<Pattern>,
    /// Bytes of a response at most. Default 8 MiB.
    pub max_response: usize,
    /// Longest time for connecting. Default 10 s.
    pub connect_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            allow_private: Vec::new(),
            max_response: 8 * 1024 * 1024,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// Redirects that are followed at most, all within one origin.
const MAX_REDIRECTS: usize = 5;

/// A client for tools: bounded responses, no redirects to other origins, no private networks unless they are named, no
/// proxies from the environment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client,
    guard: Guard,
    max_response: usize,
}

/// What is sent.
pub struct Outgoing {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Vec<u8>>,
}

/// What came back.
pub struct Incoming {
    pub status: StatusCode,
    pub mime: String,
    pub body: Vec<u8>,
}

impl HttpClient {
    /// A client with these options.
    ///
    /// # Errors
    /// When the system's TLS cannot be set up.
    pub fn new(options: &HttpOptions) -> Result<Self> {
        let guard = Guard::new(&options.allow_private);
        let client = Client::builder()
            .no_proxy()
            .connect_timeout(options.connect_timeout)
            .redirect(Policy::custom(within_origin))
            .dns_resolver(guard.clone())
            .user_agent(concat!("adjutant/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ToolError::Failed {
                tool: "http".to_owned(),
                problem: "the client cannot be made".to_owned(),
                source: Some(error.into()),
            })?;
        Ok(Self {
            client,
            guard,
            max_response: options.max_response,
        })
    }

    /// Sends a request and reads the whole response.
    pub async fn send(&self, tool: &str, out: Outgoing, timeout: Duration) -> Result<Incoming> {
        self.guard
            .check(&out.url)
            .map_err(|refused| ToolError::denied(tool, refused.to_string()))?;
        let mut request = self
            .client
            .request(out.method, out.url)
            .headers(out.headers);
        if let Some(body) = out.body {
            request = request.body(body);
        }
        let exchange = self.exchange(tool, request);
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| {
                Err(ToolError::Timeout {
                    tool: tool.to_owned(),
                    after: timeout,
                    sent: true,
                })
            })
    }

    async fn exchange(&self, tool: &str, request: RequestBuilder) -> Result<Incoming> {
        let response = request.send().await.map_err(|error| told(tool, error))?;
        refuse_busy(tool, &response)?;
        let status = response.status();
        let mime = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let body = self.read(tool, response).await?;
        Ok(Incoming { status, mime, body })
    }

    async fn read(&self, tool: &str, mut response: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| told(tool, error))? {
            if body.len() + chunk.len() > self.max_response {
                return Err(ToolError::Limit {
                    tool: tool.to_owned(),
                    problem: format!("the response is longer than {} bytes", self.max_response),
                    sent: true,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// A server that says "later" has done nothing.
fn refuse_busy(tool: &str, response: &Response) -> Result<()> {
    let later = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    match (response.status(), later) {
        (StatusCode::TOO_MANY_REQUESTS, later) => Err(later.unwrap_or(Duration::from_secs(1))),
        (StatusCode::SERVICE_UNAVAILABLE, Some(later)) => Err(later),
        _ => Ok(()),
    }
    .map_err(|retry_after| ToolError::Busy {
        tool: tool.to_owned(),
        retry_after,
    })
}

fn within_origin(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let first = attempt.previous().first().map(Url::origin);
    if first != Some(attempt.url().origin()) {
        return attempt.error("it redirects to another origin");
    }
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("it redirects too often");
    }
    attempt.follow()
}

fn told(tool: &str, error: reqwest::Error) -> ToolError {
    let tool = tool.to_owned();
    // The URL may hold what nobody should read in a log.
    let error = error.without_url();
    if let Some(refused) = refusal(&error) {
        return ToolError::denied(tool, refused);
    }
    if error.is_redirect() {
        return ToolError::Failed {
            tool,
            problem: "the server sent the request elsewhere".to_owned(),
            source: Some(error.into()),
        };
    }
    ToolError::Unavailable {
        tool,
        problem: "the server cannot be reached".to_owned(),
        sent: !error.is_connect() && !error.is_builder(),
        source: Some(error.into()),
    }
}

fn refusal(error: &reqwest::Error) -> Option<String> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return Some(refused.to_string());
        }
        source = cause.source();
    }
    None
}

/// A header whose value is not shown in logs.
pub fn secret_header(tool: &str, name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue)> {
    let bad = |what| ToolError::failed(tool, format!("header `{name}`: its {what} is not valid"));
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("name"))?;
    let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| bad("value"))?;
    value.set_sensitive(true);
    Ok((header, value))
}
