//! Servers at an address: both eras, headers, tokens, and where they may not lead.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use adjutant_mcp::{Era, Lease, McpServerPool, PoolOptions, Request, ServerConfig, ServersConfig};
use adjutant_process::NativeProcesses;
use adjutant_tools::{Caller, Progress, ToolError};
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
    routing::{any, get, post},
};
use serde_json::{Map, Value, json};
use support::{call, caller, echo, eventually, text};

/// What one server of the test's does and has seen.
#[derive(Default)]
struct Site {
    legacy: bool,
    token: Option<&'static str>,
    calls: Mutex<Vec<String>>,
    tokens: AtomicU32,
    base: Mutex<String>,
}

async fn serve(site: Site) -> (String, Arc<Site>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let site = Arc::new(site);
    *site.base.lock().unwrap() = base.clone();
    let app = Router::new()
        .route("/mcp", post(mcp))
        .route("/moved", any(|| async { Redirect::temporary("/mcp") }))
        .route(
            "/astray",
            any(|| async { Redirect::temporary("http://127.0.0.2:9/mcp") }),
        )
        .route("/.well-known/oauth-protected-resource", get(resource))
        .route("/.well-known/oauth-protected-resource/mcp", get(resource))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/token", post(token))
        .with_state(Arc::clone(&site));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (base, site)
}

async fn resource(State(site): State<Arc<Site>>) -> Json<Value> {
    let base = site.base.lock().unwrap().clone();
    Json(json!({ "resource": format!("{base}/mcp"), "authorization_servers": [base] }))
}

async fn metadata(State(site): State<Arc<Site>>) -> Json<Value> {
    let base = site.base.lock().unwrap().clone();
    Json(json!({
        "issuer": base, "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"), "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
    }))
}

async fn token(State(site): State<Arc<Site>>, body: String) -> Response {
    if !body.contains("client_secret=hush") {
        return (
            StatusCode::UNAUTHORIZED,
            Json(json!({ "error": "invalid_client" })),
        )
            .into_response();
    }
    site.tokens.fetch_add(1, Ordering::Relaxed);
    Json(json!({ "access_token": "tok-1", "token_type": "Bearer", "expires_in": 3600 }))
        .into_response()
}

async fn mcp(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Json(message): Json<Value>,
) -> Response {
    if let Some(token) = site.token {
        let given = headers
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        if given != Some(&format!("Bearer {token}")) {
            let challenge = [("www-authenticate", "Bearer error=\"invalid_token\"")];
            return (StatusCode::UNAUTHORIZED, challenge).into_response();
        }
    }
    let method = message["method"].as_str().unwrap_or_default();
    site.calls.lock().unwrap().push(method.to_owned());
    if message["id"].is_null() {
        return StatusCode::ACCEPTED.into_response();
    }
    let id = &message["id"];
    let result = match method {
        "server/discover" if site.legacy => {
            let error = json!({ "code": -32000, "message": "no session" });
            let body = Json(json!({ "jsonrpc": "2.0", "id": null, "error": error }));
            return (StatusCode::BAD_REQUEST, body).into_response();
        }
        "server/discover" => {
            json!({ "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}} })
        }
        "initialize" => {
            let result = json!({ "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "site", "version": "1"} });
            let body = Json(json!({ "jsonrpc": "2.0", "id": id, "result": result }));
            return ([("mcp-session-id", "one")], body).into_response();
        }
        "tools/list" => {
            let tool = |name| json!({ "name": name, "inputSchema": {"type": "object"} });
            let tools = ["echo", "headers", "progress", "hang", "break"].map(tool);
            json!({ "tools": tools })
        }
        "tools/call" => match message["params"]["name"].as_str().unwrap_or_default() {
            "echo" => content(message["params"]["arguments"]["text"].as_str().unwrap()),
            "headers" => {
                let value = |name| {
                    headers
                        .get(name)
                        .map_or("", |value| value.to_str().unwrap())
                };
                content(
                    &["authorization", "x-team", "mcp-method", "mcp-name"]
                        .map(value)
                        .join("|"),
                )
            }
            "progress" => return stream(id, &message["params"]["_meta"]["progressToken"]),
            "break" => return StatusCode::BAD_GATEWAY.into_response(),
            _ => std::future::pending().await,
        },
        _ => json!({}),
    };
    let mut result = result;
    if !site.legacy {
        result["resultType"] = json!("complete");
        result["ttlMs"] = json!(3_600_000);
        result["cacheScope"] = json!("private");
    }
    Json(json!({ "jsonrpc": "2.0", "id": id, "result": result })).into_response()
}

fn content(text: &str) -> Value {
    json!({ "content": [{"type": "text", "text": text}] })
}

fn stream(id: &Value, token: &Value) -> Response {
    let mut text = String::new();
    for step in 1..=3 {
        let params = json!({ "progressToken": token, "progress": step });
        let notice =
            json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
        text.push_str(&format!("data: {notice}\n\n"));
    }
    let mut result = content("done");
    result["resultType"] = json!("complete");
    text.push_str(&format!(
        "data: {}\n\n",
        json!({ "jsonrpc": "2.0", "id": id, "result": result })
    ));
    ([("content-type", "text/event-stream")], Body::from(text)).into_response()
}

fn pool_at(config: ServerConfig) -> McpServerPool {
    let config = ServersConfig {
        servers: [("s".to_owned(), config)].into(),
    };
    assert_eq!(config.problems(), []);
    let processes = Arc::new(NativeProcesses::new().unwrap());
    let secrets = |name: &str| (name == "SECRET").then(|| "hush".to_owned());
    McpServerPool::new(config, PoolOptions::new(processes).lookup(secrets))
}

fn lease(pool: &McpServerPool) -> Lease {
    pool.acquire("s", &caller("a")).unwrap()
}

#[tokio::test]
async fn both_eras_are_spoken_and_progress_is_streamed() {
    for legacy in [false, true] {
        let site = Site {
            legacy,
            ..Site::default()
        };
        let (base, site) = serve(site).await;
        let pool = pool_at(ServerConfig::at(format!("{base}/mcp")));
        let lease = lease(&pool);
        let era = if legacy { Era::Legacy } else { Era::Modern };
        assert_eq!(lease.info().await.unwrap().era, era);
        echo(&lease, "hello").await;
        let seen = Mutex::new(Vec::new());
        let sink = |progress: Progress| seen.lock().unwrap().push(progress.progress);
        let nothing = Map::new();
        let request = Request {
            progress: Some(&sink),
            ..Request::new("progress", &nothing)
        };
        lease.call(request).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(
            site.calls
                .lock()
                .unwrap()
                .contains(&"initialize".to_owned()),
            legacy
        );
        assert_eq!(pool.close().await, 0);
    }
}

#[tokio::test]
async fn headers_are_sent_and_their_secrets_are_found() {
    let (base, _site) = serve(Site::default()).await;
    let mut config = ServerConfig::at(format!("{base}/mcp"));
    let headers = json!({ "Authorization": "Bearer ${SECRET}", "X-Team": {"from_env": "SECRET"} });
    config.headers = serde_json::from_value(headers).unwrap();
    let pool = pool_at(config);
    let seen = text(&lease(&pool), "headers", json!({})).await;
    assert_eq!(seen, "Bearer hush|hush|tools/call|headers");
}

#[tokio::test]
async fn redirects_stay_at_their_origin() {
    let (base, _site) = serve(Site::default()).await;
    let pool = pool_at(ServerConfig::at(format!("{base}/moved")));
    echo(&lease(&pool), "moved").await;
    let pool = pool_at(ServerConfig::at(format!("{base}/astray")));
    call(&lease(&pool), "echo", json!({})).await.unwrap_err();
}

#[tokio::test]
async fn private_addresses_are_refused_before_anything_is_sent() {
    for url in ["http://10.1.2.3/mcp", "http://169.254.169.254/latest"] {
        let pool = pool_at(ServerConfig::at(url));
        let error = call(&lease(&pool), "echo", json!({})).await.unwrap_err();
        assert!(error.to_string().contains("private network"), "{error}");
    }
}

#[tokio::test]
async fn a_token_is_got_with_the_clients_own_credentials() {
    let (base, site) = serve(Site {
        token: Some("tok-1"),
        ..Site::default()
    })
    .await;
    let mut config = ServerConfig::at(format!("{base}/mcp"));
    let error = call(&lease(&pool_at(config.clone())), "echo", json!({}))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot be started"), "{error}");
    let oauth = json!({ "client_id": "me", "client_secret": {"from_env": "SECRET"} });
    config.oauth = Some(serde_json::from_value(oauth).unwrap());
    let pool = pool_at(config.clone());
    echo(&lease(&pool), "hello").await;
    assert_eq!(site.tokens.load(Ordering::Relaxed), 1);
    // Nobody can log in to what has a token of its own.
    config.oauth = None;
    let headers = json!({ "authorization": "Bearer ${SECRET}" });
    config.headers = serde_json::from_value(headers).unwrap();
    let refused = call(&lease(&pool_at(config)), "echo", json!({})).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("refuses the token of `headers`"), "{error}");
}

#[tokio::test]
async fn principals_do_not_share_a_connection() {
    let (base, site) = serve(Site::default()).await;
    let pool = pool_at(ServerConfig::at(format!("{base}/mcp")));
    for principal in ["ada", "bob", "ada"] {
        let caller = Caller {
            principal: Some(principal.into()),
            ..caller("a")
        };
        echo(&pool.acquire("s", &caller).unwrap(), principal).await;
    }
    let discovered =
        |calls: &[String]| calls.iter().filter(|one| *one == "server/discover").count();
    assert_eq!(discovered(&site.calls.lock().unwrap()), 2);
    assert_eq!(pool.list().len(), 2);
}

#[tokio::test]
async fn a_call_that_is_given_up_fails_no_other() {
    let (base, _site) = serve(Site::default()).await;
    let mut config = ServerConfig::at(format!("{base}/mcp"));
    config.call_timeout = Duration::from_millis(800);
    let pool = pool_at(config);
    let lease = lease(&pool);
    let error = call(&lease, "hang", json!({})).await.unwrap_err();
    assert!(
        matches!(error, ToolError::Timeout { sent: true, .. }),
        "{error}"
    );
    echo(&lease, "after").await;
    let error = call(&lease, "break", json!({})).await.unwrap_err();
    assert!(error.sent_unanswered(), "who knows what it did: {error}");
    echo(&lease, "after").await;
}

#[tokio::test]
async fn a_server_that_nobody_answers_for_was_not_sent_the_call_and_is_left_alone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    drop(listener);
    let mut config = ServerConfig::at(url);
    config.restart.delay = Duration::from_millis(5);
    let pool = pool_at(config);
    let error = call(&lease(&pool), "echo", json!({})).await.unwrap_err();
    assert!(
        matches!(error, ToolError::Unavailable { sent: false, .. }),
        "{error}"
    );
    let down = || support::view(&pool).state == adjutant_mcp::State::Open;
    eventually("it is left alone", down).await;
}
