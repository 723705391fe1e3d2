//! The endpoint over plain HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "these are tests"
)]

mod common;

use std::{sync::atomic::Ordering, time::Duration};

use adjutant_endpoint::{Dialect, Endpoint, EndpointOptions, Grant};
use common::{Host, events, until};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use std::sync::Arc;

struct Desk {
    host: Arc<Host>,
    endpoint: Endpoint,
    grant: Grant,
    client: Client,
}

impl Desk {
    async fn new() -> Self {
        Self::with(Host::new(), EndpointOptions::default()).await
    }

    async fn with(host: Arc<Host>, options: EndpointOptions) -> Self {
        let endpoint = Endpoint::start(options).await.unwrap();
        Self {
            grant: endpoint.grant(host.context()),
            client: client(),
            endpoint,
            host,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.endpoint.address())
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        let request = self
            .client
            .post(self.url(path))
            .bearer_auth(self.grant.token());
        request.json(body)
    }

    async fn ask(&self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body).send().await.unwrap();
        let status = response.status();
        let body: Value = response.json().await.unwrap();
        assert!(status.is_success(), "{status} {body}");
        body
    }

    async fn chat(&self, text: &str) -> Response {
        self.post(CHAT, &chat(text)).send().await.unwrap()
    }
}

/// A client that gives up: what hangs has failed.
fn client() -> Client {
    let client = Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30));
    client.build().unwrap()
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const PATHS: [&str; 3] = [CHAT, RESPONSES, MESSAGES];

fn chat(text: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": text }] })
}

/// A request that every dialect takes as this text.
fn saying(path: &str, text: &str) -> Value {
    match path {
        RESPONSES => json!({ "model": "m", "input": text }),
        _ => {
            let mut body = chat(text);
            body["max_tokens"] = json!(100);
            body
        }
    }
}

#[tokio::test]
async fn only_a_token_that_is_good_opens_a_door() {
    let desk = Desk::new().await;
    let token = desk.grant.token().to_owned();
    let mut wrong = token.clone();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(last);
    for path in PATHS {
        let body = saying(path, "hi");
        for bad in ["", "sk-adj-", "sk-adj-0-1", wrong.as_str()] {
            let request = desk.client.post(desk.url(path)).json(&body);
            let response = request.header("x-api-key", bad).send().await.unwrap();
            assert_eq!(response.status(), 401, "{bad}");
            assert_eq!(response.headers()["x-should-retry"], "false");
            let told: Value = response.json().await.unwrap();
            assert_eq!(told["error"]["type"], "authentication_error");
            assert_eq!(told["type"] == "error", path == MESSAGES);
        }
        let request = desk.client.post(desk.url(path)).json(&body);
        let response = request.header("x-api-key", &token).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
    let models = desk
        .client
        .get(desk.url("/v1/models"))
        .send()
        .await
        .unwrap();
    assert_eq!(models.status(), 401);
}

#[tokio::test]
async fn the_environment_leads_both_libraries_here() {
    let desk = Desk::new().await;
    let env = desk.grant.env();
    let value = |name: &str| &env.iter().find(|(key, _)| key == name).unwrap().1;
    assert_eq!(value("OPENAI_BASE_URL"), &desk.url("/v1"));
    assert_eq!(value("ANTHROPIC_BASE_URL"), &desk.url(""));
    assert_eq!(value("OPENAI_API_KEY"), desk.grant.token());
    assert_eq!(value("ANTHROPIC_API_KEY"), desk.grant.token());
    assert!(!format!("{:?}{:?}", desk.grant, desk.endpoint).contains(desk.grant.token()));
}

#[tokio::test]
async fn dropping_the_grant_cuts_off_its_calls_and_no_others() {
    let mut desk = Desk::new().await;
    let other_host = Host::new();
    let other = desk.endpoint.grant(other_host.context());
    let waiting: Vec<_> = PATHS
        .into_iter()
        .map(|path| {
            tokio::spawn(
                desk.post(path, &saying(path, &format!("wait {path}")))
                    .send(),
            )
        })
        .collect();
    let in_other = desk
        .client
        .post(desk.url(CHAT))
        .bearer_auth(other.token())
        .json(&chat("wait"));
    let in_other = tokio::spawn(in_other.send());
    until("all calls have begun", || {
        desk.host.begun.load(Ordering::SeqCst) == 3 && other_host.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    let revoked = desk.grant.token().to_owned();
    desk.grant = desk.endpoint.grant(desk.host.context());
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap().status(), 401);
    }
    assert_eq!(desk.host.dropped.load(Ordering::SeqCst), 3);
    let again = desk
        .client
        .post(desk.url(CHAT))
        .bearer_auth(revoked)
        .json(&chat("hi"));
    assert_eq!(again.send().await.unwrap().status(), 401);
    other_host.gate.add_permits(1);
    assert_eq!(in_other.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_browser_under_another_name_is_sent_away() {
    let desk = Desk::new().await;
    let port = desk.endpoint.address().port();
    for (host, status) in [
        (format!("evil.example:{port}"), 403),
        ("127.0.0.1:1".to_owned(), 403),
        (format!("localhost:{port}"), 200),
    ] {
        let request = desk.post(CHAT, &chat("hi")).header("host", &host);
        assert_eq!(request.send().await.unwrap().status(), status, "{host}");
    }
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused() {
    let desk = Desk::new().await;
    let response = desk.chat(&"x".repeat(17 * 1024 * 1024)).await;
    assert_eq!(response.status(), 413);
    assert_eq!(desk.host.executed(), 0);
}

#[tokio::test]
async fn a_repeat_by_the_clients_library_is_not_paid_twice() {
    let desk = Desk::new().await;
    let repeat = || {
        desk.post(CHAT, &chat("wait"))
            .header("x-stainless-retry-count", "1")
            .send()
    };
    let first = tokio::spawn(desk.post(CHAT, &chat("wait")).send());
    until("the first has begun", || {
        desk.host.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    let in_flight = tokio::spawn(repeat());
    // Enough for both, should the second be a call of its own.
    desk.host.gate.add_permits(2);
    let first: Value = first.await.unwrap().unwrap().json().await.unwrap();
    let joined: Value = in_flight.await.unwrap().unwrap().json().await.unwrap();
    let afterwards: Value = repeat().await.unwrap().json().await.unwrap();
    assert_eq!((&joined, &afterwards), (&first, &first));
    assert_eq!(desk.host.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_that_is_the_same_and_no_repeat_is_a_call_of_its_own() {
    let desk = Desk::new().await;
    desk.host.gate.add_permits(2);
    let (one, two) = tokio::join!(desk.chat("wait"), desk.chat("wait"));
    let (one, two): (Value, Value) = (one.json().await.unwrap(), two.json().await.unwrap());
    assert_ne!(one["id"], two["id"]);
    assert_eq!(desk.host.executed(), 2);
}

#[tokio::test]
async fn a_repeat_of_a_failed_call_is_made_again() {
    let desk = Desk::new().await;
    for count in ["0", "1"] {
        let request = desk.post(CHAT, &chat("busy model_server"));
        let response = request
            .header("x-stainless-retry-count", count)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()["x-should-retry"], "true");
        assert_eq!(response.headers()["retry-after-ms"], "10");
    }
    assert_eq!(desk.host.executed(), 2);
}

#[tokio::test]
async fn a_client_that_comes_back_finds_its_call_and_one_that_does_not_has_it_dropped() {
    let linger = Duration::from_millis(300);
    let options = EndpointOptions {
        linger,
        ..EndpointOptions::default()
    };
    let desk = Desk::with(Host::new(), options).await;
    let gone = tokio::spawn(desk.post(CHAT, &chat("wait")).send());
    until("it has begun", || {
        desk.host.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let back = tokio::spawn(desk.post(CHAT, &chat("wait")).send());
    // Longer than a call without listeners lives.
    tokio::time::sleep(linger * 3).await;
    let (begun, dropped) = (&desk.host.begun, &desk.host.dropped);
    let back_joined = begun.load(Ordering::SeqCst) == 1 && dropped.load(Ordering::SeqCst) == 0;
    assert!(back_joined);
    back.abort();
    until("nobody waits any more", || {
        dropped.load(Ordering::SeqCst) == 1
    })
    .await;
    desk.host.gate.add_permits(1);
    assert_eq!(desk.chat("wait").await.status(), 200);
    assert_eq!(begun.load(Ordering::SeqCst), 2);
}

/// A stream whose first words have come.
async fn begun_stream(desk: &Desk, path: &str) -> Response {
    let mut body = saying(path, "slow");
    body["stream"] = json!(true);
    let mut response = desk.post(path, &body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut seen = String::new();
    while !seen.contains("you said: ") {
        let chunk = response.chunk().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    response
}

#[tokio::test]
async fn a_stream_that_nobody_reads_any_more_is_dropped() {
    let options = EndpointOptions {
        linger: Duration::ZERO,
        ..EndpointOptions::default()
    };
    let desk = Desk::with(Host::new(), options).await;
    for (count, path) in (1..).zip(PATHS) {
        drop(begun_stream(&desk, path).await);
        until("the call is dropped", || {
            desk.host.dropped.load(Ordering::SeqCst) == count
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_of_a_revoked_token_ends_with_an_error() {
    let mut desk = Desk::new().await;
    for path in PATHS {
        let stream = begun_stream(&desk, path).await;
        desk.grant = desk.endpoint.grant(desk.host.context());
        let rest = events(&stream.text().await.unwrap());
        let (name, last) = rest.last().unwrap();
        assert_eq!(last["error"]["type"], "authentication_error", "{last}");
        assert_eq!(name.as_deref() == Some("error"), path != CHAT);
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_when_the_answer_is_whole() {
    let desk = Desk::new().await;
    for path in PATHS {
        let stream = begun_stream(&desk, path).await;
        desk.host.gate.add_permits(1);
        let rest = stream.text().await.unwrap();
        assert!(
            rest.contains(r#"slow""#) && !rest.contains(r#"delta":"you said: slow"#),
            "{rest}"
        );
    }
}

#[tokio::test]
async fn a_restarted_agent_gets_recorded_answers_in_whatever_order_it_asks() {
    let desk = Desk::new().await;
    let first = [
        desk.ask(CHAT, &chat("a")).await,
        desk.ask(CHAT, &chat("b")).await,
    ];
    let again = Desk::with(desk.host.restarted(), EndpointOptions::default()).await;
    let mut streamed = chat("a");
    streamed["stream"] = json!(true);
    let b = again.ask(CHAT, &chat("b")).await;
    let a = again
        .post(CHAT, &streamed)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(b, first[1]);
    let words: String = events(&a)
        .iter()
        .filter_map(|(_, chunk)| {
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(
        words,
        first[0]["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
    );
    assert_eq!(again.host.executed(), 0);
    again.ask(CHAT, &chat("c")).await;
    assert_eq!(again.host.executed(), 1);
}

#[tokio::test]
async fn failures_have_their_providers_form() {
    let desk = Desk::new().await;
    for (kind, status, openai, anthropic) in [
        (
            "budget_exceeded",
            429,
            "insufficient_quota",
            "rate_limit_error",
        ),
        ("cancelled", 409, "conflict_error", "invalid_request_error"),
        (
            "model_unknown",
            404,
            "invalid_request_error",
            "not_found_error",
        ),
        ("model_timeout", 504, "server_error", "timeout_error"),
        ("model_overloaded", 503, "server_error", "overloaded_error"),
        (
            "whatever",
            400,
            "invalid_request_error",
            "invalid_request_error",
        ),
    ] {
        for path in PATHS {
            for stream in [false, true] {
                let mut body = saying(path, &format!("fail {kind}"));
                body["stream"] = json!(stream);
                let response = desk.post(path, &body).send().await.unwrap();
                assert_eq!(response.status(), status, "{kind} {path}");
                assert_eq!(response.headers()["x-should-retry"], "false");
                let told: Value = response.json().await.unwrap();
                let wanted = if path == MESSAGES { anthropic } else { openai };
                assert_eq!(told["error"]["type"], wanted, "{kind} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_bad_request_is_told_and_costs_nothing() {
    let desk = Desk::new().await;
    let image = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://x/y.png" } }] }]);
    for (path, body, word) in [
        (CHAT, json!({ "messages": [] }), "model"),
        (CHAT, json!({ "model": "m", "messages": image }), "fetched"),
        (CHAT, json!({ "model": "m", "messages": [], "n": 2 }), "`n`"),
        (
            RESPONSES,
            json!({ "model": "m", "input": "x", "previous_response_id": "r" }),
            "previous_response_id",
        ),
        (
            RESPONSES,
            json!({ "model": "m", "input": "x", "tools": [{ "type": "web_search" }] }),
            "web_search",
        ),
        (
            MESSAGES,
            json!({ "model": "m", "messages": [] }),
            "max_tokens",
        ),
    ] {
        let response = desk.post(path, &body).send().await.unwrap();
        assert_eq!(response.status(), 400);
        let told: Value = response.json().await.unwrap();
        assert!(
            told["error"]["message"].as_str().unwrap().contains(word),
            "{told}"
        );
    }
    let response = desk.post(CHAT, &json!(1)).body("{").send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(desk.host.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn models_are_listed_in_both_providers_words_and_renamed_on_the_way() {
    let options = EndpointOptions {
        models: vec!["openai/gpt-5".to_owned()],
        names: Arc::new(|dialect, name| match dialect {
            Dialect::Messages => format!("anthropic/{name}"),
            _ => format!("openai/{name}"),
        }),
        ..EndpointOptions::default()
    };
    let desk = Desk::with(Host::new(), options).await;
    let get = |path: &str| {
        desk.client
            .get(desk.url(path))
            .bearer_auth(desk.grant.token())
            .send()
    };
    let list: Value = get("/v1/models").await.unwrap().json().await.unwrap();
    assert_eq!(
        (&list["data"][0]["id"], &list["first_id"]),
        (&json!("openai/gpt-5"), &json!("openai/gpt-5"))
    );
    assert_eq!(get("/v1/models/openai/gpt-5").await.unwrap().status(), 200);
    assert_eq!(get("/v1/models/other").await.unwrap().status(), 404);
    let answer = desk.ask(MESSAGES, &saying(MESSAGES, "hi")).await;
    assert_eq!(answer["model"], "m");
    assert_eq!(desk.host.last_request().model, "anthropic/m");
}
