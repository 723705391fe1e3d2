//! The published Python libraries of OpenAI and Anthropic, unmodified, led here by their environment variables.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "these are tests"
)]

mod common;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::Ordering,
    time::Duration,
};

use adjutant_endpoint::{Endpoint, EndpointOptions};
use common::Host;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

/// The Python that has the libraries.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = target.join("model-sdks/bin/python");
    assert!(
        python.exists(),
        "the libraries are not installed; run crates/adjutant-endpoint/tests/sdk/install.sh"
    );
    python
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_libraries_take_every_answer() {
    let host = Host::new();
    let options = EndpointOptions {
        models: vec!["openai/m".to_owned()],
        ..EndpointOptions::default()
    };
    let endpoint = Endpoint::start(options).await.unwrap();
    let grant = endpoint.grant(host.context());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/check.py");
    let mut child = Command::new(python())
        .arg(script)
        .envs(grant.env().iter().cloned())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let talk = async {
        let mut last = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line == "repeated" {
                host.gate.add_permits(1);
            }
            last = line;
        }
        (last, child.wait().await.unwrap())
    };
    let (last, status) = tokio::time::timeout(Duration::from_secs(120), talk)
        .await
        .unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(last, "ok 12");
    // Of the call that was repeated, and of the two that a budget stopped, there was one each.
    let calls = host.calls.lock().unwrap();
    let count = |word: &str| {
        let texts = calls
            .iter()
            .map(|call| call.request.messages.last().unwrap().text());
        texts.filter(|text| text.starts_with(word)).count()
    };
    assert_eq!((count("wait"), count("fail")), (1, 2));
    assert_eq!(host.dropped.load(Ordering::SeqCst), 0);
}
