use adjutant_core::Message;

use super::*;
use crate::{
    Wire,
    conformance::{Answer, FakeProvider, Scene},
};

/// Files and variables of a test.
#[derive(Default)]
struct Source(Mutex<HashMap<String, String>>);

impl Source {
    fn get(&self, name: &str) -> Option<String> {
        self.0.lock().unwrap().get(name).cloned()
    }

    fn set(&self, name: &str, text: &str) {
        self.0.lock().unwrap().insert(name.into(), text.into());
    }
}

impl KeySource for Source {
    fn variable(&self, name: &str) -> Option<String> {
        self.get(name)
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        self.get(&path.display().to_string())
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

fn source<const N: usize>(entries: [(&str, &str); N]) -> Arc<Source> {
    let entries = entries.map(|(name, text)| (name.to_owned(), text.to_owned()));
    Arc::new(Source(Mutex::new(entries.into())))
}

fn config(yaml: &str) -> ModelsConfig {
    serde_saphyr::from_str(yaml).unwrap()
}

fn router(yaml: &str, source: Arc<Source>) -> ModelRouter {
    ModelRouter::from_config(config(yaml), source).unwrap()
}

fn ask(model: &str) -> ModelRequest {
    ModelRequest {
        model: model.to_owned(),
        messages: vec![Message::user("hello")],
        ..ModelRequest::default()
    }
}

fn names(router: &ModelRouter, model: &str) -> Vec<String> {
    let targets = router.targets(model).unwrap();
    targets.iter().map(Target::name).collect()
}

const CONFIG: &str = "
default: smart
providers:
  local: {base_url: 'http://127.0.0.1:9/v1', models: {small: 'org/small-7b:q4'}}
aliases:
  smart: {model: anthropic/claude-sonnet-4-5, fallback: [fast, local/small], max_output_tokens: 4000}
  fast: {model: openai/gpt-4.1-mini, fallback: [local/small], temperature: 0.5, max_output_tokens: 9}
";

#[test]
fn names_lead_to_models_and_their_fallbacks() {
    let router = router(CONFIG, source([]));
    let smart = [
        "anthropic/claude-sonnet-4-5",
        "openai/gpt-4.1-mini",
        "local/org/small-7b:q4",
    ];
    assert_eq!(names(&router, "smart"), smart);
    assert_eq!(names(&router, ""), smart);
    assert_eq!(
        names(&router, "openrouter/meta/llama-3"),
        ["openrouter/meta/llama-3"]
    );
}

#[test]
fn a_names_wishes_hold_for_its_model_and_requests_come_first() {
    let router = router(CONFIG, source([]));
    let targets = router.targets("smart").unwrap();
    let request = targets[0].apply(&ask("smart"));
    assert_eq!(request.model, "anthropic/claude-sonnet-4-5");
    assert_eq!(request.max_output_tokens, Some(4000));
    let request = targets[1].apply(&ask("smart"));
    assert_eq!(
        (request.temperature, request.max_output_tokens),
        (Some(0.5), Some(9))
    );
    let own = ModelRequest {
        max_output_tokens: Some(1),
        ..ask("smart")
    };
    assert_eq!(targets[0].apply(&own).max_output_tokens, Some(1));
}

#[test]
fn what_is_not_known_is_told_with_what_is() {
    let router = router(CONFIG, source([]));
    for model in ["gpt-4.1", "opanai/gpt-4.1", "openai/", "/x"] {
        let error = router.targets(model).unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::UnknownModel, "{model}");
        assert!(error.message.contains("anthropic, "), "{}", error.message);
        assert!(error.message.contains("fast, smart"), "{}", error.message);
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let wrong = "
default: nobody
providers:
  a: {}
  scripted: {base_url: 'http://x/'}
  b: {base_url: not an address}
  c: {base_url: 'http://x/', timeout: {idle: 0}}
aliases:
  x/y: openai/m
  loop: loop
  lost: nowhere/m
";
    let error = ModelRouter::from_config(config(wrong), source([])).err();
    let error = error.unwrap();
    for part in [
        "`default`",
        "provider `a`",
        "provider `scripted`",
        "provider `b`",
        "provider `c`",
        "alias `x/y`",
        "`loop` stands for itself",
        "alias `lost`",
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[test]
fn unknown_settings_are_refused() {
    for yaml in [
        "provider: {}",
        "providers: {openai: {apikey: x}}",
        "aliases: {a: {model: openai/m, fallbacks: []}}",
        "retry: {attempts: 3}",
        "providers: {openai: {timeout: {idle: soon}}}",
    ] {
        assert!(
            serde_saphyr::from_str::<ModelsConfig>(yaml).is_err(),
            "{yaml}"
        );
    }
}

#[tokio::test]
async fn a_missing_key_names_variable_and_setting() {
    let router = router("{}", source([]));
    let error = router.generate(&ask("openai/gpt-4.1"), None).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::MissingKey);
    assert!(error.message.contains("`OPENAI_API_KEY`"));
    assert!(error.message.contains("`models.providers.openai.api_key`"));
    assert_eq!(error.model, "openai/gpt-4.1");
}

#[tokio::test]
async fn scripts_answer_without_a_network_and_an_edit_counts_at_once() {
    let source = source([("s.yaml", "- text: one")]);
    let prices = "prices: {scripted/*: {input: 1, output: 1}}";
    let router = router(prices, source.clone());
    let ask = async || {
        let request = ask("scripted/s.yaml");
        let routed = router.generate_routed(&request, None).await.unwrap();
        assert_eq!(routed.by.name(), "scripted/s.yaml");
        assert!(routed.response.cost_usd > Some(0.0));
        routed.response.message.text()
    };
    assert_eq!(ask().await, "one");
    source.set("s.yaml", "- text: two");
    assert_eq!(ask().await, "two");
}

#[tokio::test]
async fn a_missing_script_is_named() {
    let router = router("{}", source([]));
    let error = router.generate(&ask("scripted/none.yaml"), None).await;
    assert!(error.unwrap_err().message.contains("none.yaml"));
}

#[tokio::test]
async fn a_fallback_answers_and_says_why_the_first_did_not() {
    let yaml = "aliases: {m: {model: scripted/bad, fallback: [scripted/good]}}";
    let files = [
        ("bad", "- error: overloaded"),
        ("good", "- text: here I am"),
    ];
    let router = router(yaml, source(files));
    let routed = router.generate_routed(&ask("m"), None).await.unwrap();
    assert_eq!(routed.by.name(), "scripted/good");
    assert_eq!(routed.failed.len(), 1);
    assert_eq!(routed.failed[0].model, "scripted/bad");
    assert_eq!(routed.failed[0].kind, ModelErrorKind::Overloaded);
}

#[tokio::test]
async fn a_wrong_request_is_not_asked_of_others() {
    let yaml = "aliases: {m: {model: scripted/bad, fallback: [scripted/good]}}";
    let files = [("bad", "- error: invalid_request"), ("good", "- text: x")];
    let router = router(yaml, source(files));
    let error = router.generate_routed(&ask("m"), None).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::InvalidRequest);
}

#[tokio::test]
async fn a_half_shown_answer_is_not_continued_by_another_model() {
    let yaml = "aliases: {m: {model: scripted/bad, fallback: [scripted/good]}}";
    let files = [
        (
            "bad",
            "- {text: half, error: {kind: network, after_text: true}}",
        ),
        ("good", "- text: x"),
    ];
    let router = router(yaml, source(files));
    let mut sink = |_| ();
    let error = router.generate(&ask("m"), Some(&mut sink)).await;
    assert!(error.unwrap_err().shown);
    // Nobody saw anything here, so the other may answer.
    let answer = router.generate(&ask("m"), None).await.unwrap();
    assert_eq!(answer.message.text(), "x");
}

#[tokio::test]
async fn when_nobody_answers_all_are_named() {
    let yaml = "aliases: {m: {model: scripted/a, fallback: [scripted/b]}}";
    let files = [("a", "- error: server"), ("b", "- error: rate_limited")];
    let router = router(yaml, source(files));
    let error = router.generate(&ask("m"), None).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::RateLimited);
    assert_eq!(error.model, "scripted/b");
    assert!(error.message.contains("scripted/a"), "{error}");
}

#[tokio::test]
async fn cache_and_cassette_stand_in_front_of_all_providers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.jsonl");
    let recorded = {
        let mut config = config("cache: {}");
        config.cassette = Some(crate::CassetteConfig {
            file: file.clone(),
            mode: crate::CassetteMode::Record,
        });
        let source = source([("s", "- text: once")]);
        let router = ModelRouter::from_config(config, source).unwrap();
        router.generate(&ask("scripted/s"), None).await.unwrap()
    };
    let mut config = config("{}");
    config.cassette = Some(crate::CassetteConfig {
        file,
        mode: crate::CassetteMode::Replay,
    });
    let router = ModelRouter::from_config(config, source([])).unwrap();
    let replayed = router.generate(&ask("scripted/s"), None).await.unwrap();
    assert_eq!(replayed, recorded);
}

#[test]
fn a_reservation_is_made_from_the_first_models_price() {
    let router = router(CONFIG, source([]));
    let cost = router.estimate_cost(&ask("smart")).unwrap();
    // 2 tokens at 3 dollars and 4000 at 15 dollars per million.
    assert_eq!(cost.micro_usd(), 60_006);
    assert_eq!(router.estimate_cost(&ask("local/small")), None);
}

/// A router with one provider, which plays these scenes, and the provider.
async fn before<const N: usize>(
    scenes: impl IntoIterator<Item = Scene> + Send,
    provider: &str,
    source: [(&str, &str); N],
) -> (ModelRouter, FakeProvider) {
    let fake = FakeProvider::start(Wire::Openai, scenes).await.unwrap();
    let yaml = format!(
        "retry: {{base: 1ms}}\nproviders: {{openai: {{base_url: '{}', {provider}}}}}",
        fake.base_url()
    );
    let router = router(&yaml, self::source(source));
    (router, fake)
}

fn hello() -> Scene {
    Scene::Answer(Answer::text(&["hello"]))
}

#[tokio::test]
async fn the_usual_key_goes_to_the_usual_address_only() {
    let keys = [("OPENAI_API_KEY", "sk-usual")];
    let (router, fake) = before([hello()], "", keys).await;
    router.generate(&ask("openai/m"), None).await.unwrap();
    let headers = fake.heard().remove(0).headers;
    assert!(!format!("{headers:?}").contains("sk-usual"), "{headers:?}");
}

#[tokio::test]
async fn keys_and_headers_come_from_files_and_variables() {
    let provider =
        "api_key: {from_file: key.txt}, headers: {x-team: {from_env: TEAM}, x-plain: plain}";
    let sources = [("key.txt", "sk-file\n"), ("TEAM", "research")];
    let (router, fake) = before([hello()], provider, sources).await;
    router.generate(&ask("openai/m"), None).await.unwrap();
    let headers = fake.heard().remove(0).headers;
    assert_eq!(headers["authorization"], "Bearer sk-file");
    assert_eq!(headers["x-team"], "research");
    assert_eq!(headers["x-plain"], "plain");
}

#[tokio::test]
async fn a_failing_provider_is_asked_again_and_its_cost_is_told() {
    let scenes = [
        Scene::Fail(429, Some(0)),
        Scene::Break(Answer::text(&["half"])),
        Scene::Fail(500, None),
        hello(),
    ];
    let (router, fake) = before(scenes, "", []).await;
    let request = ask("openai/gpt-4.1");
    let routed = router.generate_routed(&request, None).await.unwrap();
    assert_eq!(fake.heard().len(), 4);
    assert_eq!(routed.response.message.text(), "hello");
    // 20 tokens at 2 dollars and 7 at 8 dollars per million.
    assert_eq!(routed.response.cost_usd, Some(0.000_096));
}

#[tokio::test]
async fn all_calls_of_a_provider_share_its_limits() {
    let (router, fake) = before(
        [Scene::Hang(Answer::text(&["well"]))],
        "max_concurrent: 1, max_queued: 0",
        [],
    )
    .await;
    let (shown, mut seen) = tokio::sync::mpsc::channel(8);
    let mut sink = |_| {
        let _full_or_closed = shown.try_send(());
    };
    let request = ask("openai/m");
    let mut first = Box::pin(router.generate(&request, Some(&mut sink)));
    tokio::select! {
        _ = &mut first => panic!("the provider never ends"),
        piece = seen.recv() => assert!(piece.is_some()),
    }
    let once = ask("openai/other");
    let error = tokio::time::timeout(
        std::time::Duration::from_secs(60),
        router.generate(&once, None),
    );
    let error = error.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Overloaded);
    assert_eq!(fake.heard().len(), 1);
}
