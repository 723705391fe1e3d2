//! HTTP tools against services on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "these are tests"
)]

mod common;

use std::time::Duration;

use adjutant_core::{Effect, Json, RunId, ToolAnswer};
use adjutant_tools::{
    Caller, HttpClient, HttpOptions, HttpTool, HttpToolConfig, HttpTools, Invocation, Reply,
    Result, ToolError, ToolSource,
};
use common::{Service, json as ok, response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

fn open() -> HttpOptions {
    HttpOptions {
        allow_private: vec!["127.0.0.1".into()],
        ..HttpOptions::default()
    }
}

fn tool(config: Value) -> HttpTool {
    let mut config = config;
    config["name"] = json!("t");
    HttpTool::new(serde_json::from_value(config).unwrap()).unwrap()
}

async fn call_with(options: &HttpOptions, config: Value, arguments: Value) -> Result<Reply> {
    let client = HttpClient::new(options).unwrap();
    let tools = HttpTools::new("http", client, vec![tool(config)]);
    let arguments = Json::from(arguments);
    let call = Invocation {
        timeout: Duration::from_secs(20),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ..Invocation::new("t", &arguments, "key-1")
    };
    tools.call(&Caller::new("a", RunId::new()), call).await
}

async fn call(config: Value, arguments: Value) -> ToolAnswer {
    match call_with(&open(), config, arguments).await.unwrap() {
        Reply::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn arguments_go_into_path_and_query_encoded() {
    let service = Service::start(|_| ok(r#"{"a":1}"#)).await;
    let config = json!({ "url": service.url("/users/{id}/v{v}?x={x}&fixed=1&absent={no}") });
    let arguments = json!({ "id": "a/b ?", "v": 2, "x": "&=", "more": ["p", "q"] });
    let answer = call(config, arguments).await;
    assert_eq!(answer.structured_content, Some(json!({ "a": 1 })));
    let uri = service.only().uri;
    assert_eq!(uri, "/users/a%2Fb%20%3F/v2?x=%26%3D&fixed=1&more=p&more=q");
}

#[tokio::test]
async fn no_argument_leads_to_another_path() {
    let service = Service::start(|_| ok("{}")).await;
    let config = json!({ "url": service.url("/users/{id}/files") });
    for id in ["..", ".", "", ".\t.", "\n.."] {
        let error = call_with(&open(), config.clone(), json!({ "id": id })).await;
        assert!(error.unwrap_err().is_models_mistake(), "{id:?}");
    }
    for (id, path) in [
        ("../..", "..%2F.."),
        ("%2e%2e", "%252e%252e"),
        ("..\\..", "..%5C.."),
    ] {
        call(config.clone(), json!({ "id": id })).await;
        let uri = service.asked().last().unwrap().uri.clone();
        assert_eq!(uri, format!("/users/{path}/files"));
    }
}

#[tokio::test]
async fn a_post_carries_its_arguments_in_the_body_and_its_key_in_a_header() {
    let service = Service::start(|_| ok("{}")).await;
    let config = json!({
        "method": "post",
        "url": service.url("/pay/{to}"),
        "headers": { "X-Api-Key": "s3cret" },
    });
    call(config, json!({ "to": "me", "sum": 5 })).await;
    let asked = service.only();
    assert_eq!(
        (asked.uri.as_str(), asked.body.as_str()),
        ("/pay/me", r#"{"sum":5}"#)
    );
    assert_eq!(asked.headers["content-type"], "application/json");
    assert_eq!(asked.headers["idempotency-key"], "key-1");
    assert_eq!(asked.headers["x-api-key"], "s3cret");
    assert!(asked.headers["traceparent"].starts_with("00-"));
}

#[tokio::test]
async fn a_form_is_sent_as_a_form_and_a_get_has_no_key() {
    let service = Service::start(|_| ok("{}")).await;
    let config = json!({ "method": "POST", "url": service.url("/f"), "body": "form" });
    call(config, json!({ "a": "x y", "b": [1, 2] })).await;
    let asked = service.only();
    assert_eq!(asked.body, "a=x+y&b=1&b=2");
    assert_eq!(
        asked.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    call(json!({ "url": service.url("/g") }), json!({})).await;
    assert!(!service.asked()[1].headers.contains_key("idempotency-key"));
}

#[test]
fn effects_follow_the_method_unless_said_otherwise() {
    let effect = |method: &str, effect: Value| {
        let config = json!({ "method": method, "url": "https://h/", "effect": effect });
        tool(config).spec().effect
    };
    assert_eq!(effect("GET", Value::Null), Effect::ReadOnly);
    assert_eq!(effect("PUT", Value::Null), Effect::Idempotent);
    assert_eq!(effect("DELETE", Value::Null), Effect::Idempotent);
    assert_eq!(effect("POST", Value::Null), Effect::Unsafe);
    assert_eq!(effect("POST", json!("keyed")), Effect::Keyed);
}

#[test]
fn a_bad_configuration_is_refused_and_secrets_are_not_shown() {
    for url in [
        "https://{host}/",
        "https://user{x}@h/",
        "ftp://h/",
        "h/x",
        "https://h/{",
        "https://h/{}",
    ] {
        let config = json!({ "name": "t", "url": url });
        let config: HttpToolConfig = serde_json::from_value(config).unwrap();
        assert!(HttpTool::new(config).is_err(), "{url}");
    }
    let config = json!({ "name": "t", "url": "https://h/", "headers": { "k": "s3cret" } });
    let config: HttpToolConfig = serde_json::from_value(config).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_failure_of_the_service_is_an_answer_that_a_model_reads() {
    let service = Service::start(|_| response(404, "text/plain", "no such user")).await;
    let answer = call(json!({ "url": service.url("/") }), json!({})).await;
    assert!(answer.is_error);
    assert_eq!(answer.joined_text(), "HTTP 404 Not Found\nno such user");
}

#[tokio::test]
async fn a_service_that_says_later_is_busy_for_as_long() {
    let service = Service::start(|_| {
        let mut response = response(429, "text/plain", "slow down");
        response
            .headers_mut()
            .insert("retry-after", "7".parse().unwrap());
        response
    })
    .await;
    let error = call_with(&open(), json!({ "url": service.url("/") }), json!({})).await;
    let Err(ToolError::Busy { retry_after, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(retry_after, Duration::from_secs(7));
}

#[tokio::test]
async fn a_response_beyond_the_limit_is_not_read() {
    let service = Service::start(|_| response(200, "text/plain", "x".repeat(5000))).await;
    let options = HttpOptions {
        max_response: 1000,
        ..open()
    };
    let error = call_with(&options, json!({ "url": service.url("/") }), json!({})).await;
    assert!(matches!(error, Err(ToolError::Limit { .. })), "{error:?}");
}

#[tokio::test]
async fn redirects_are_followed_within_the_origin_only() {
    let other = Service::start(|_| ok("{}")).await;
    let elsewhere = other.url("/stolen");
    let service = Service::start(move |path| {
        let to = match path {
            "/near" => "/there",
            "/far" => elsewhere.as_str(),
            "/round" => "/round",
            _ => return ok(r#"{"at":"there"}"#),
        };
        let mut response = response(307, "text/plain", "");
        response
            .headers_mut()
            .insert("location", to.parse().unwrap());
        response
    })
    .await;
    let near = call(json!({ "url": service.url("/near") }), json!({})).await;
    assert_eq!(near.structured_content, Some(json!({ "at": "there" })));
    for path in ["/far", "/round"] {
        let error = call_with(&open(), json!({ "url": service.url(path) }), json!({})).await;
        assert!(matches!(error, Err(ToolError::Failed { .. })), "{error:?}");
    }
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn private_networks_are_out_of_reach_unless_their_host_is_named() {
    let service = Service::start(|_| ok("{}")).await;
    let by_name = format!("http://localhost:{}/", service.port);
    let closed = HttpOptions::default();
    for url in [&service.url("/"), &by_name] {
        let error = call_with(&closed, json!({ "url": url }), json!({})).await;
        assert!(matches!(error, Err(ToolError::Denied { .. })), "{error:?}");
    }
    assert!(service.asked().is_empty());
    let named = HttpOptions {
        allow_private: vec!["local*".into()],
        ..HttpOptions::default()
    };
    call_with(&named, json!({ "url": by_name }), json!({}))
        .await
        .unwrap();
    assert_eq!(service.asked().len(), 1);
}

#[tokio::test]
async fn an_error_says_whether_the_request_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let config = json!({ "method": "POST", "url": url });
    // The server takes the request and hangs up.
    let hang_up = async {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
    };
    let options = open();
    let (error, ()) = tokio::join!(call_with(&options, config.clone(), json!({})), hang_up);
    let error = error.unwrap_err();
    assert!(matches!(error, ToolError::Unavailable { .. }), "{error:?}");
    assert!(error.sent_unanswered());
    // Nobody is there.
    drop(listener);
    let error = call_with(&open(), config, json!({})).await.unwrap_err();
    assert!(!error.sent_unanswered(), "{error:?}");
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let tools = HttpTools::new(
        "http",
        HttpClient::new(&open()).unwrap(),
        vec![tool(json!({ "url": url }))],
    );
    let arguments = json!({}).into();
    let call = Invocation {
        timeout: Duration::from_millis(50),
        ..Invocation::new("t", &arguments, "")
    };
    let error = tools
        .call(&Caller::new("a", RunId::new()), call)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ToolError::Timeout { sent: true, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_image_is_an_image_and_bytes_are_a_resource() {
    let service = Service::start(|path| match path {
        "/png" => response(200, "image/png", vec![1, 2, 3]),
        _ => response(200, "application/zip", vec![0xff, 0xfe]),
    })
    .await;
    let image = call(json!({ "url": service.url("/png") }), json!({})).await;
    let block = json!({ "type": "image", "data": "AQID", "mimeType": "image/png" });
    assert_eq!(image.content, [block]);
    let zip = call(json!({ "url": service.url("/zip") }), json!({})).await;
    assert_eq!(zip.content[0]["resource"]["blob"], "//4=");
}
