//! Logins: a person lets the pool in with a browser, and the tokens are kept, renewed and never shown.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use adjutant_mcp::{McpServerPool, PoolOptions, ServerConfig, ServersConfig};
use adjutant_process::NativeProcesses;
use adjutant_tools::Caller;
use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use support::{call, caller, echo};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server with an authorization server of its own, and how they behave.
#[derive(Default)]
struct Site {
    base: String,
    /// Life of tokens in seconds; short ones are renewed before each use.
    life: u64,
    /// What the authorization server calls itself when it sends browsers back, if something else than its name.
    issuer: Option<&'static str>,
    /// The scope that calls need.
    scope: Option<&'static str>,
    refuses_refresh: bool,
    /// Whether the authorization server is out of order.
    broken: bool,
    /// The number of the newest tokens, and the scopes that they are for; only the newest refresh token is worth something.
    newest: (u32, String),
    /// What logins asked for.
    asked: Vec<String>,
    refreshes: u32,
}

type Shared = Arc<Mutex<Site>>;

async fn serve(site: Site) -> (ServerConfig, Shared) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let config = ServerConfig::at(format!("{base}/mcp"));
    let site = Arc::new(Mutex::new(Site { base, ..site }));
    let app = Router::new()
        .route("/mcp", post(mcp))
        .route("/.well-known/oauth-protected-resource/mcp", get(resource))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/register", post(register))
        .route("/authorize", get(authorize))
        .route("/token", post(token))
        .with_state(Arc::clone(&site));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (config, site)
}

/// The fields of a form or a query.
fn pairs(text: &str) -> HashMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://x/?{text}")).unwrap();
    url.query_pairs().into_owned().collect()
}

async fn resource(State(site): State<Shared>) -> Json<Value> {
    let base = site.lock().unwrap().base.clone();
    Json(json!({ "resource": format!("{base}/mcp"), "authorization_servers": [base] }))
}

async fn metadata(State(site): State<Shared>) -> Json<Value> {
    let base = site.lock().unwrap().base.clone();
    Json(json!({
        "issuer": base, "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"), "registration_endpoint": format!("{base}/register"),
        "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
    }))
}

async fn register(Json(client): Json<Value>) -> Response {
    let client = json!({ "client_id": "client-1", "client_secret": "hush-client", "redirect_uris": client["redirect_uris"] });
    (StatusCode::CREATED, Json(client)).into_response()
}

async fn authorize(State(site): State<Shared>, RawQuery(asked): RawQuery) -> Redirect {
    let mut site = site.lock().unwrap();
    let asked = pairs(&asked.unwrap());
    let scope = asked.get("scope").cloned().unwrap_or_default();
    site.asked.push(scope.clone());
    site.newest.1 = scope;
    let issuer = site.issuer.unwrap_or(&site.base);
    let (back, state) = (&asked["redirect_uri"], &asked["state"]);
    Redirect::to(&format!("{back}?code=hush-code&state={state}&iss={issuer}"))
}

async fn token(State(site): State<Shared>, form: String) -> Response {
    let mut site = site.lock().unwrap();
    if site.broken {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let form = pairs(&form);
    let newest = format!("hush-refresh-{}", site.newest.0);
    let right = form.get("client_secret").map(String::as_str) == Some("hush-client")
        && form["resource"] == format!("{}/mcp", site.base)
        && match form["grant_type"].as_str() {
            "authorization_code" => {
                form["code"] == "hush-code" && form.contains_key("code_verifier")
            }
            _ => form["refresh_token"] == newest && !site.refuses_refresh,
        };
    if !right {
        let refused = Json(json!({ "error": "invalid_grant" }));
        return (StatusCode::BAD_REQUEST, refused).into_response();
    }
    site.newest.0 += 1;
    site.refreshes += u32::from(form["grant_type"] == "refresh_token");
    Json(json!({
        "access_token": format!("hush-access-{}", site.newest.0), "token_type": "Bearer",
        "refresh_token": format!("hush-refresh-{}", site.newest.0), "expires_in": site.life,
    }))
    .into_response()
}

async fn mcp(
    State(site): State<Shared>,
    headers: HeaderMap,
    Json(message): Json<Value>,
) -> Response {
    let site = site.lock().unwrap();
    let given = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap());
    let number = given.and_then(|given| given.strip_prefix("Bearer hush-access-"));
    let number: u32 = number.map_or(0, |number| number.parse().unwrap());
    if number == 0 || number > site.newest.0 {
        let from = format!("{}/.well-known/oauth-protected-resource/mcp", site.base);
        let challenge = format!("Bearer scope=\"read\", resource_metadata=\"{from}\"");
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response();
    }
    let method = message["method"].as_str().unwrap_or_default();
    if let Some(scope) = site
        .scope
        .filter(|scope| method == "tools/call" && !site.newest.1.contains(scope))
    {
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
        return (StatusCode::FORBIDDEN, [("www-authenticate", challenge)]).into_response();
    }
    let mut result = match method {
        "server/discover" => {
            json!({ "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}} })
        }
        "tools/list" => json!({ "tools": [{ "name": "echo", "inputSchema": {"type": "object"} }] }),
        "tools/call" => {
            json!({ "content": [{"type": "text", "text": message["params"]["arguments"]["text"]}] })
        }
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    result["resultType"] = json!("complete");
    result["ttlMs"] = json!(0);
    result["cacheScope"] = json!("private");
    Json(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })).into_response()
}

fn pool_in(dir: &Path, config: &ServerConfig) -> McpServerPool {
    let config = ServersConfig {
        servers: [("s".to_owned(), config.clone())].into(),
    };
    assert_eq!(config.problems(), []);
    let processes = Arc::new(NativeProcesses::new().unwrap());
    McpServerPool::new(config, PoolOptions::new(processes).token_dir(dir))
}

/// What a browser does; returns what it shows at the end.
async fn open(url: &str) -> String {
    let browser = reqwest::Client::builder().no_proxy().build().unwrap();
    let shown = browser.get(url.to_owned()).send().await.unwrap();
    shown.text().await.unwrap()
}

async fn log_in(pool: &McpServerPool, scopes: &[String]) -> adjutant_mcp::Result<()> {
    let login = pool.login("s", &caller("a"), scopes).await?;
    let url = login.url().to_owned();
    tokio::join!(login.finish(PATIENCE), open(&url)).0
}

async fn refusal(pool: &McpServerPool) -> String {
    let lease = pool.acquire("s", &caller("a")).unwrap();
    let refused = call(&lease, "echo", json!({ "text": "hello" })).await;
    refused.unwrap_err().to_string()
}

fn lasting() -> Site {
    Site {
        life: 3600,
        ..Site::default()
    }
}

#[tokio::test]
async fn a_login_lets_in_whoever_logged_in_until_they_log_out() {
    let dir = tempfile::tempdir().unwrap();
    let (config, site) = serve(lasting()).await;
    let pool = pool_in(dir.path(), &config);
    let told = refusal(&pool).await;
    assert!(told.contains("agent mcp login PATH s"), "{told}");
    log_in(&pool, &[]).await.unwrap();
    pool.restart("s").await.unwrap();
    echo(&pool.acquire("s", &caller("a")).unwrap(), "hello").await;
    assert_eq!(
        site.lock().unwrap().asked,
        ["read"],
        "what the server named"
    );

    let later = pool_in(dir.path(), &config);
    echo(&later.acquire("s", &caller("a")).unwrap(), "later").await;
    let bob = Caller {
        principal: Some("bob".into()),
        ..caller("a")
    };
    let lease = later.acquire("s", &bob).unwrap();
    let error = call(&lease, "echo", json!({})).await.unwrap_err();
    assert!(error.to_string().contains("agent mcp login"), "{error}");

    assert!(later.logout("s", &caller("a")).await.unwrap());
    assert!(!later.logout("s", &caller("a")).await.unwrap());
    let told = refusal(&pool_in(dir.path(), &config)).await;
    assert!(told.contains("agent mcp login"), "{told}");
}

#[tokio::test]
async fn tokens_are_renewed_by_many_at_once_and_after_they_were_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    // Each renewal makes the token before it worthless: two that do not wait for each other lose it.
    let (config, site) = serve(Site::default()).await;
    log_in(&pool_in(dir.path(), &config), &[]).await.unwrap();
    let used = [0; 4].map(|_| async {
        let pool = pool_in(dir.path(), &config);
        echo(&pool.acquire("s", &caller("a")).unwrap(), "hello").await;
    });
    futures::future::join_all(used).await;
    assert!(site.lock().unwrap().refreshes >= 4);

    let (config, site) = serve(lasting()).await;
    let pool = pool_in(dir.path(), &config);
    log_in(&pool, &[]).await.unwrap();
    let lease = pool.acquire("s", &caller("a")).unwrap();
    echo(&lease, "hello").await;
    assert_eq!(site.lock().unwrap().refreshes, 0);
    // As if the access token had been taken back: it is renewed, and the call made again.
    let path = token_file(dir.path(), &site.lock().unwrap().base);
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, kept.replace("hush-access-1", "hush-access-0")).unwrap();
    echo(&lease, "again").await;
    assert_eq!(site.lock().unwrap().refreshes, 1);
}

/// The file with an issuer's tokens.
fn token_file(dir: &Path, issuer: &str) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path());
    let names = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|end| end == "json")
            && std::fs::read_to_string(path).unwrap().contains(issuer)
    };
    files.find(names).unwrap()
}

#[tokio::test]
async fn a_renewal_that_is_refused_asks_for_a_login() {
    let dir = tempfile::tempdir().unwrap();
    let (config, site) = serve(Site::default()).await;
    log_in(&pool_in(dir.path(), &config), &[]).await.unwrap();
    site.lock().unwrap().refuses_refresh = true;
    let told = refusal(&pool_in(dir.path(), &config)).await;
    assert!(told.contains("agent mcp login PATH s"), "{told}");
}

#[tokio::test]
async fn a_call_without_a_token_was_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, site) = serve(Site::default()).await;
    config.restart.delay = Duration::from_millis(5);
    let pool = pool_in(dir.path(), &config);
    log_in(&pool, &[]).await.unwrap();
    let lease = pool.acquire("s", &caller("a")).unwrap();
    echo(&lease, "hello").await;
    site.lock().unwrap().broken = true;
    let error = call(&lease, "echo", json!({})).await.unwrap_err();
    assert!(!error.sent_unanswered(), "nothing is in doubt: {error}");
    site.lock().unwrap().broken = false;
    echo(&lease, "again").await;
}

#[tokio::test]
async fn an_answer_with_another_state_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _site) = serve(lasting()).await;
    let pool = pool_in(dir.path(), &config);
    let login = pool.login("s", &caller("a"), &[]).await.unwrap();
    let url = login.url().to_owned();
    let address = reqwest::Url::parse(&url).unwrap();
    let (_, back) = address
        .query_pairs()
        .find(|(key, _)| key == "redirect_uri")
        .unwrap();
    let opened = async {
        let shown = open(&format!("{back}?code=evil&state=evil")).await;
        assert!(shown.contains("no answer"), "{shown}");
        let shown = open(&format!("{back}?error=access_denied&state=evil")).await;
        assert!(shown.contains("no answer"), "{shown}");
        open(&url).await
    };
    let (finished, shown) = tokio::join!(login.finish(PATIENCE), opened);
    finished.unwrap();
    assert!(shown.contains("close this window"), "{shown}");
}

#[tokio::test]
async fn an_answer_of_another_authorization_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (config, site) = serve(Site {
        issuer: Some("https://evil.example"),
        ..lasting()
    })
    .await;
    let pool = pool_in(dir.path(), &config);
    let error = log_in(&pool, &[]).await.unwrap_err().to_string();
    assert!(error.contains("issuer mismatch"), "{error}");
    assert_eq!(site.lock().unwrap().newest.0, 0, "no token was asked for");
}

#[tokio::test]
async fn nobody_is_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _site) = serve(lasting()).await;
    let login = pool_in(dir.path(), &config);
    let login = login.login("s", &caller("a"), &[]).await.unwrap();
    let error = login.finish(Duration::from_millis(20)).await.unwrap_err();
    assert!(error.to_string().contains("nobody came back"), "{error}");
}

#[tokio::test]
async fn a_call_that_needs_more_says_so_and_a_login_asks_for_both() {
    let dir = tempfile::tempdir().unwrap();
    let (config, site) = serve(Site {
        scope: Some("write"),
        ..lasting()
    })
    .await;
    let pool = pool_in(dir.path(), &config);
    log_in(&pool, &[]).await.unwrap();
    let told = refusal(&pool).await;
    assert!(
        told.contains("agent mcp login PATH s --scope 'write'"),
        "{told}"
    );
    log_in(&pool, &["write".to_owned()]).await.unwrap();
    // A server that is up has the new tokens, too.
    echo(&pool.acquire("s", &caller("a")).unwrap(), "hello").await;
    assert_eq!(site.lock().unwrap().asked, ["read", "read write"]);
}

/// Everything that is logged, in one text.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

impl tracing::field::Visit for Heard {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0
            .lock()
            .unwrap()
            .push_str(&format!("{field}={value:?} "));
    }
}

impl tracing::Subscriber for Heard {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        about.target().starts_with("adjutant") || about.target().starts_with("rmcp")
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut self.clone());
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(flavor = "current_thread")]
async fn tokens_are_in_no_log() {
    let heard = Heard::default();
    let _guard = tracing::subscriber::set_default(heard.clone());
    let dir = tempfile::tempdir().unwrap();
    let (config, site) = serve(Site::default()).await;
    let pool = pool_in(dir.path(), &config);
    log_in(&pool, &[]).await.unwrap();
    echo(&pool.acquire("s", &caller("a")).unwrap(), "hello").await;
    site.lock().unwrap().refuses_refresh = true;
    refusal(&pool).await;
    let heard = heard.0.lock().unwrap();
    assert!(
        heard.contains("exchange token result"),
        "the library was heard"
    );
    for secret in ["hush-access", "hush-refresh", "hush-client"] {
        assert!(!heard.contains(secret), "{secret} was logged");
    }
}
