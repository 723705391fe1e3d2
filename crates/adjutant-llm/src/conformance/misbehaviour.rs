//! What is made of a provider that misbehaves.

use std::time::{Duration, Instant};

use adjutant_core::{ModelDelta, RetryAdvice};
use tokio::{net::TcpListener, time::timeout};

use super::{Answer, FakeProvider, Scene, Subject, cases::request};
use crate::{LanguageModel, MAX_RESPONSE_BYTES, ModelError, ModelErrorKind as Kind, Timeouts};

/// How long cases wait for what must come.
const WAIT: Duration = Duration::from_secs(60);

async fn start(subject: &dyn Subject, scene: Scene) -> FakeProvider {
    FakeProvider::start(subject.wire(), [scene]).await.unwrap()
}

/// Asks with somebody looking on, and returns the failure with what was seen.
async fn fails(model: &dyn LanguageModel) -> (ModelError, String) {
    let mut seen = String::new();
    let mut sink = |delta: ModelDelta| {
        if let ModelDelta::Text { text } = delta
            && seen.len() < 1000
        {
            seen.push_str(&text);
        }
    };
    let request = request();
    let call = model.generate(&request, Some(&mut sink));
    let result = timeout(WAIT, call).await.expect("an end in time");
    (result.expect_err("a failure"), seen)
}

async fn failure(subject: &dyn Subject, scene: Scene) -> (ModelError, String) {
    failure_within(subject, scene, Timeouts::default()).await
}

async fn failure_within(
    subject: &dyn Subject,
    scene: Scene,
    timeouts: Timeouts,
) -> (ModelError, String) {
    let provider = start(subject, scene).await;
    let model = subject.connect(&provider.base_url(), timeouts);
    fails(&*model).await
}

/// Times that no case waits out for long.
fn impatient() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(10),
        first_byte: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        total: Duration::from_secs(30),
    }
}

pub async fn too_many_requests_say_when_to_come_back(subject: &dyn Subject) {
    let (error, _) = failure(subject, Scene::Fail(429, Some(7))).await;
    assert_eq!(error.kind, Kind::RateLimited, "{error}");
    assert_eq!(error.status, Some(429));
    assert_eq!(error.retry(), RetryAdvice::After(Duration::from_secs(7)));
    assert!(!error.may_be_charged && !error.shown);
}

pub async fn a_failing_server_may_be_asked_again(subject: &dyn Subject) {
    let (error, _) = failure(subject, Scene::Fail(500, None)).await;
    assert_eq!(error.kind, Kind::Server, "{error}");
    assert_ne!(error.retry(), RetryAdvice::Never);
}

pub async fn a_wrong_key_is_not_tried_again(subject: &dyn Subject) {
    let (error, _) = failure(subject, Scene::Fail(401, None)).await;
    assert_eq!(error.kind, Kind::Auth, "{error}");
    assert_eq!(error.retry(), RetryAdvice::Never);
    assert!(!format!("{error:?}").contains("test-key"));
}

pub async fn a_context_too_long_is_told_as_such(subject: &dyn Subject) {
    let (error, _) = failure(subject, Scene::Fail(400, None)).await;
    assert_eq!(error.kind, Kind::ContextTooLong, "{error}");
}

pub async fn an_error_within_the_answer_is_an_error(subject: &dyn Subject) {
    let scene = Scene::ErrorWithin(Answer::text(&["half of"]));
    let (error, seen) = failure(subject, scene).await;
    assert!(
        matches!(error.kind, Kind::Server | Kind::Overloaded),
        "{error:?}"
    );
    assert!(error.message.contains("went wrong"), "{error}");
    assert!(error.may_be_charged && error.shown);
    assert_eq!(seen, "half of");
}

pub async fn an_answer_that_ends_early_is_no_answer(subject: &dyn Subject) {
    let scene = Scene::EndEarly(Answer::text(&["It looks ", "finished."]));
    let (error, seen) = failure(subject, scene).await;
    assert_eq!(error.kind, Kind::Malformed, "{error}");
    assert!(error.may_be_charged && error.shown);
    assert_eq!(seen, "It looks finished.");
}

pub async fn a_connection_that_breaks_is_no_answer(subject: &dyn Subject) {
    let scene = Scene::Break(Answer::text(&["It looks ", "finished."]));
    let (error, _) = failure(subject, scene).await;
    assert_eq!(error.kind, Kind::Network, "{error}");
    assert!(error.may_be_charged);
    assert_ne!(error.retry(), RetryAdvice::Never);
}

pub async fn garbage_within_an_answer_is_no_answer(subject: &dyn Subject) {
    let (error, _) = failure(subject, Scene::Garbage(Answer::text(&["fine"]))).await;
    assert_eq!(error.kind, Kind::Malformed, "{error}");
    assert!(error.may_be_charged);
}

pub async fn what_is_no_stream_is_no_answer(subject: &dyn Subject) {
    let (error, _) = failure(subject, Scene::NoStream).await;
    assert_eq!(error.kind, Kind::Malformed, "{error}");
}

pub async fn a_silent_provider_is_given_up(subject: &dyn Subject) {
    let (error, _) = failure_within(subject, Scene::Silence, impatient()).await;
    assert_eq!(error.kind, Kind::Timeout, "{error}");
    assert!(error.message.contains("timeout.first_byte"), "{error}");
    assert!(error.may_be_charged);
}

pub async fn a_provider_that_stops_speaking_is_given_up(subject: &dyn Subject) {
    let scene = Scene::Hang(Answer::text(&["And then"]));
    let (error, seen) = failure_within(subject, scene, impatient()).await;
    assert_eq!(error.kind, Kind::Timeout, "{error}");
    assert!(error.message.contains("timeout.idle"), "{error}");
    assert_eq!(seen, "And then");
}

pub async fn a_provider_that_never_ends_is_given_up(subject: &dyn Subject) {
    let timeouts = Timeouts {
        total: Duration::from_secs(1),
        ..impatient()
    };
    let scene = Scene::Comments(Answer::text(&["And then"]));
    let (error, _) = failure_within(subject, scene, timeouts).await;
    assert_eq!(error.kind, Kind::Timeout, "{error}");
    assert!(error.message.contains("timeout.total"), "{error}");
}

pub async fn an_endless_answer_is_bounded(subject: &dyn Subject) {
    let (error, _) = failure(subject, Scene::Endless).await;
    assert_eq!(error.kind, Kind::TooLarge, "{error}");
    assert!(error.message.contains(&MAX_RESPONSE_BYTES.to_string()));
    assert_eq!(error.retry(), RetryAdvice::Never);
}

pub async fn a_single_endless_event_is_given_up(subject: &dyn Subject) {
    let (error, _) = failure_within(subject, Scene::EndlessEvent, impatient()).await;
    assert_eq!(error.kind, Kind::Timeout, "{error}");
}

pub async fn a_refused_connection_was_not_charged(subject: &dyn Subject) {
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let model = subject.connect(&format!("http://{address}/v1"), Timeouts::default());
    let (error, _) = fails(&*model).await;
    assert_eq!(error.kind, Kind::Network, "{error}");
    assert!(!error.may_be_charged && !error.shown);
}

pub async fn a_dropped_call_closes_its_connection(subject: &dyn Subject) {
    let provider = start(subject, Scene::Hang(Answer::text(&["Well"]))).await;
    let model = subject.connect(&provider.base_url(), Timeouts::default());
    let (shown, mut seen) = tokio::sync::mpsc::channel(8);
    let mut sink = |_: ModelDelta| {
        let _full_or_closed = shown.try_send(());
    };
    let request = request();
    {
        let mut call = model.generate(&request, Some(&mut sink));
        tokio::select! {
            _ = &mut call => panic!("the provider never ends"),
            piece = seen.recv() => assert!(piece.is_some()),
        }
    }
    let begun = Instant::now();
    timeout(WAIT, provider.closed(1)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1));
}

pub async fn redirects_are_not_followed(subject: &dyn Subject) {
    let other = start(subject, Scene::Answer(Answer::text(&["stolen"]))).await;
    let scene = Scene::Redirect(other.base_url());
    let (error, _) = failure(subject, scene).await;
    assert_eq!(error.status, Some(307), "{error}");
    assert!(other.heard().is_empty());
}
