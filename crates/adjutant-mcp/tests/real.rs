//! Servers that nobody here wrote; `cargo xtask servers` installs them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise, and these are read by people"
)]

mod support;

use std::{path::Path, sync::Mutex};

use adjutant_mcp::{Request, ServerConfig};
use adjutant_tools::Progress;
use serde_json::{Value, json};
use support::{call, eventually, lease, lives, object, pool, text, view};

/// A server, wherever it is installed.
fn server(name: &str, args: &[&str]) -> ServerConfig {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let bins = ["peers/node_modules/.bin", "peers/py/bin"];
    let mut files = bins.iter().map(|bin| target.join(bin).join(name));
    let file = files.find(|file| file.exists());
    let file = file.unwrap_or_else(|| panic!("{name} is not installed: cargo xtask servers"));
    ServerConfig::program(file.to_str().unwrap(), args.iter().copied())
}

/// Lists all tools and calls one; the process is gone afterwards.
async fn check(name: &str, args: &[&str], tools: usize, call_one: Option<(&str, Value)>) {
    let pool = pool(server(name, args));
    let lease = lease(&pool);
    let listed = lease.tools().await.unwrap();
    let info = lease.info().await.unwrap();
    println!(
        "{name}: {} tools, {} {:?}",
        listed.tools.len(),
        info.revision,
        info.server
    );
    assert_eq!(listed.problems, Vec::<String>::new());
    assert!(listed.tools.len() >= tools, "{}", listed.tools.len());
    if let Some((tool, arguments)) = call_one {
        let answer = call(&lease, tool, arguments).await.unwrap();
        assert!(!answer.is_error, "{}", answer.joined_text());
        assert!(!answer.content.is_empty());
    }
    let pid = view(&pool).info.unwrap().pid.unwrap();
    assert_eq!(pool.close().await, 0);
    assert!(!lives(pid));
}

#[tokio::test]
async fn everything() {
    check(
        "mcp-server-everything",
        &[],
        10,
        Some(("echo", json!({ "message": "hi" }))),
    )
    .await;
}

#[tokio::test]
async fn everything_tells_its_progress_and_is_cancelled() {
    let pool = pool(server("mcp-server-everything", &[]));
    let lease = lease(&pool);
    let seen = Mutex::new(Vec::new());
    let sink = |progress: Progress| seen.lock().unwrap().push(progress.progress);
    let arguments = object(json!({ "duration": 2, "steps": 4 }));
    let request = Request {
        progress: Some(&sink),
        ..Request::new("trigger-long-running-operation", &arguments)
    };
    lease.call(request).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let arguments = object(json!({ "duration": 600, "steps": 6000 }));
    let begun = Mutex::new(false);
    let sink = |_: Progress| *begun.lock().unwrap() = true;
    let request = Request {
        progress: Some(&sink),
        ..Request::new("trigger-long-running-operation", &arguments)
    };
    tokio::select! {
        reply = lease.call(request) => panic!("{reply:?}"),
        () = eventually("it has begun", || *begun.lock().unwrap()) => {}
    }
    assert!(
        text(&lease, "echo", json!({ "message": "still here" }))
            .await
            .contains("still here")
    );
    assert_eq!(pool.close().await, 0);
}

#[tokio::test]
async fn filesystem() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    check(
        "mcp-server-filesystem",
        &[path],
        10,
        Some(("list_directory", json!({ "path": path }))),
    )
    .await;
}

#[tokio::test]
async fn memory() {
    check("mcp-server-memory", &[], 9, Some(("read_graph", json!({})))).await;
}

#[tokio::test]
async fn sequential_thinking() {
    let thought = json!({ "thought": "x", "thoughtNumber": 1, "totalThoughts": 1, "nextThoughtNeeded": false });
    check(
        "mcp-server-sequential-thinking",
        &[],
        1,
        Some(("sequentialthinking", thought)),
    )
    .await;
}

#[tokio::test]
async fn time() {
    check(
        "mcp-server-time",
        &[],
        2,
        Some(("get_current_time", json!({ "timezone": "UTC" }))),
    )
    .await;
}

#[tokio::test]
async fn git() {
    let dir = tempfile::tempdir().unwrap();
    let init = std::process::Command::new("git")
        .arg("init")
        .current_dir(dir.path())
        .output();
    assert!(init.unwrap().status.success());
    let path = dir.path().to_str().unwrap();
    check(
        "mcp-server-git",
        &[],
        10,
        Some(("git_status", json!({ "repo_path": path }))),
    )
    .await;
}

#[tokio::test]
async fn fetch() {
    check("mcp-server-fetch", &[], 1, None).await;
}
