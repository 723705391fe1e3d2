//! A service that remembers what it was asked.
#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    reason = "shared by tests, none of which needs all"
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Response, Uri},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A request as the service saw it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub uri: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// A service on a port of its own that ends with the test.
pub struct Service {
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    /// Answers every request by `answer`, which gets its path and query.
    pub async fn start<F>(answer: F) -> Self
    where
        F: Fn(&str) -> Response<Body> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (book, answer) = (asked.clone(), Arc::new(answer));
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let (book, answer) = (book.clone(), answer.clone());
            async move {
                let headers = headers.iter();
                let headers = headers.map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned()));
                book.lock().unwrap().push(Asked {
                    method,
                    uri: uri.to_string(),
                    headers: headers.collect(),
                    body: String::from_utf8(body.to_vec()).unwrap(),
                });
                answer(&uri.to_string())
            }
        };
        let router = Router::new().fallback(handler);
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { port, asked, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The only request that came.
    pub fn only(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.into_iter().next().unwrap()
    }
}

/// A response with this status, type and body.
pub fn response(status: u16, mime: &str, body: impl Into<Body>) -> Response<Body> {
    let response = Response::builder().status(status);
    let response = response.header("content-type", mime);
    response.body(body.into()).unwrap()
}

/// A JSON response.
pub fn json(text: &str) -> Response<Body> {
    response(200, "application/json; charset=utf-8", text.to_owned())
}
