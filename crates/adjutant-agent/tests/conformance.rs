//! The libraries, and agents without one, are held to the wire's rules over every transport.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise, as tests may"
)]

use std::{path::PathBuf, process::Command, sync::OnceLock, time::Duration};

use adjutant_conformance::{Options, Program, Protocol, Transport, Verdict, case_names, check};

fn file(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join(name).to_str().unwrap().to_owned()
}

/// Runs everything; what is skipped must be named in `may_skip`, so that nothing is skipped by accident.
fn conforms(program: &Program, skip: &[&str], may_skip: &[&str]) {
    let options = Options {
        skip: skip.iter().map(|name| (*name).to_owned()).collect(),
        ..Options::default()
    };
    // Longer than anything here takes on a busy machine.
    let patient = Program {
        patience: Duration::from_secs(30),
        ..program.clone()
    };
    let report = check(&patient, &options);
    let mut faults = String::new();
    for case in &report.cases {
        let excused = may_skip.iter().any(|name| case.name.contains(name));
        match case.verdict {
            Verdict::Passed => {}
            Verdict::Skipped if excused => {}
            verdict => {
                faults += &format!(
                    "{} {}: {} ({})\n",
                    verdict.as_str(),
                    case.name,
                    case.why,
                    case.rule
                );
            }
        }
    }
    assert!(faults.is_empty(), "{:?}:\n{faults}", program.command);
    assert!(report.passed() > 0);
}

/// What one run at a time cannot show, and what several cannot.
const ALONE: &[&str] = &["parallel/"];
const SEVERAL: &[&str] = &["run/one-at-a-time"];
/// A WebSocket has no lines.
const MESSAGES: &[&str] = &[
    "broken-utf8",
    "single-bytes",
    "carriage-return",
    "one-at-a-time",
];

fn rust(runs: &str) -> Program {
    Program::new([env!("CARGO_BIN_EXE_adjutant-conformance-agent"), runs])
}

/// Python itself, for what stands in `PATH` may be a script that looks for it at each start.
fn interpreter() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let mut command = Command::new("python3");
        let found = command
            .args(["-c", "import sys; print(sys.executable)"])
            .output();
        let found = found.unwrap_or_else(|error| panic!("these tests need python3: {error}"));
        String::from_utf8(found.stdout).unwrap().trim().to_owned()
    })
}

fn python(script: &str, runs: &str) -> Program {
    Program::new([
        interpreter(),
        &file(&format!("tests/conformance/{script}")),
        runs,
    ])
    .env("PYTHONPATH", file("python"))
    .env("PYTHONDONTWRITEBYTECODE", "1")
}

fn node(runs: &str) -> Program {
    Program::new(["node", &file("tests/conformance/agent.mjs"), runs])
}

/// What does not depend on the transport is proved once, on stdio: interpreters take their time to start.
const NOT_THE_TRANSPORTS: &[&str] = &[
    "crash/at-every",
    "steps/",
    "checkpoint/",
    "fencing/",
    "waits/",
    "tools/",
    "llm/",
    "cancel/",
    "run/",
];

#[test]
fn rust_one_run() {
    conforms(&rust("1"), &[], ALONE);
}

#[test]
fn rust_several_runs_over_a_unix_socket() {
    conforms(&rust("4").over(Transport::Unix), &[], SEVERAL);
}

#[cfg(feature = "websocket")]
#[test]
fn rust_several_runs_over_a_websocket() {
    conforms(&rust("4").over(Transport::WebSocket), &[], MESSAGES);
}

#[test]
fn python_one_run() {
    conforms(&python("agent.py", "1"), &[], ALONE);
}

#[test]
fn python_several_runs_over_a_unix_socket() {
    conforms(
        &python("agent.py", "4").over(Transport::Unix),
        NOT_THE_TRANSPORTS,
        SEVERAL,
    );
}

#[test]
fn python_several_runs_over_a_websocket() {
    conforms(
        &python("agent.py", "4").over(Transport::WebSocket),
        NOT_THE_TRANSPORTS,
        MESSAGES,
    );
}

#[test]
fn asyncio_one_run() {
    conforms(&python("agent_async.py", "1"), &[], ALONE);
}

#[test]
fn asyncio_several_runs_over_a_unix_socket() {
    conforms(
        &python("agent_async.py", "4").over(Transport::Unix),
        NOT_THE_TRANSPORTS,
        SEVERAL,
    );
}

#[test]
fn node_one_run() {
    conforms(&node("1"), &[], ALONE);
}

#[test]
fn node_several_runs_over_a_unix_socket() {
    conforms(
        &node("4").over(Transport::Unix),
        NOT_THE_TRANSPORTS,
        SEVERAL,
    );
}

#[test]
fn node_several_runs_over_a_websocket() {
    conforms(
        &node("4").over(Transport::WebSocket),
        NOT_THE_TRANSPORTS,
        MESSAGES,
    );
}

#[test]
fn plain_shell_speaks_what_it_can_of_level_1() {
    let program = Program::new(["sh", &file("tests/conformance/agent.sh")]);
    // It has no agent `conformance`, cannot measure a line before it has read it, and takes no quotes in an id.
    let options = Options {
        skip: vec!["over-the-limit".to_owned(), "text-id".to_owned()],
        ..Options::default()
    };
    let report = check(&program, &options);
    let failed: Vec<_> = report
        .cases
        .iter()
        .filter(|case| case.verdict == Verdict::Failed)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(report.passed() >= 30, "only {} cases", report.passed());
}

#[test]
fn a_command_of_level_0() {
    conforms(
        &Program::new(["sh", &file("tests/conformance/exec.sh")]).exec(),
        &[],
        &[],
    );
}

/// A kit that finds no fault in these would find none anywhere.
#[test]
fn programs_that_break_the_rules_are_found_out() {
    let check = |script: &str, only: &str| {
        let program = Program::new(["sh", "-c", script]);
        let patient = Program {
            patience: Duration::from_secs(2),
            ..program
        };
        let options = Options {
            only: vec![only.to_owned()],
            ..Options::default()
        };
        let report = check(&patient, &options);
        assert!(report.failed() > 0, "{script}: {report:?}");
    };
    let greet = r#"read -r l; echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"info":{"name":"x"}}}'"#;
    check("cat", "handshake/answered");
    check("echo hello; sleep 5", "handshake/answered");
    check("exit 3", "handshake/answered");
    check(&format!("{greet}; exec sleep 5"), "health/idle");
    check(
        &format!("echo stray; {greet}; exec cat"),
        "handshake/nothing-unasked",
    );
    check(
        &format!("{greet}; trap '' TERM; exec sleep 5"),
        "end/of-the-connection",
    );
    check(
        &format!("{greet}; exec cat"),
        "requests/unknown-notification",
    );
}

#[test]
fn there_are_at_least_sixty_cases_and_each_names_its_rule_once() {
    let mut names: Vec<_> = case_names(Protocol::Wire).into_iter().collect();
    names.extend(case_names(Protocol::Exec));
    let count = names.len();
    assert!(count >= 60, "{count}");
    names.sort_unstable();
    names.dedup_by_key(|case| case.0);
    assert_eq!(names.len(), count);
    assert!(names.iter().all(|(_, rule)| rule.len() > 10));
}
