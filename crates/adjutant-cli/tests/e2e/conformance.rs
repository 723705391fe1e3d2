//! `agent conformance`: what it prints and what it ends with.

use crate::support::Project;

#[test]
fn a_program_that_keeps_the_rules_ends_with_zero_and_one_that_does_not_with_one() {
    let project = Project::new();
    let kept = project.agent(&[
        "conformance",
        "--protocol",
        "exec",
        "--",
        "tr",
        "a-z",
        "A-Z",
    ]);
    kept.code_is(0).says("10 passed, 0 failed");
    let broken = project.agent(&["conformance", "--only", "health", "--", "false"]);
    broken.code_is(1).says("handshake/answered");
}

#[test]
fn the_report_for_programs_names_each_case_its_rule_and_its_verdict() {
    let project = Project::new();
    let words = [
        "-o",
        "json",
        "conformance",
        "--only",
        "handshake",
        "--",
        "false",
    ];
    let report = project.agent(&words).code_is(1).json();
    assert_eq!(report["failed"], 9, "{report}");
    let case = &report["cases"][0];
    assert_eq!(case["name"], "handshake/answered");
    assert_eq!(case["verdict"], "failed");
    assert!(case["rule"].is_string() && case["why"].is_string());
    let list = project.agent(&["-o", "json", "conformance", "--list"]);
    let list = list.code_is(0).json();
    assert!(list.as_array().is_some_and(|cases| cases.len() >= 60));
}
