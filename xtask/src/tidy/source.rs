//! Rules for Rust sources.

use super::File;

/// The first thing a reader of a crate sees says what the crate is.
pub fn crate_begins_with_docs(file: &File) -> Vec<String> {
    let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    // The facade's documentation is its README.
    let documented = ["//!", "#![doc = include_str!("];
    if !is_root || documented.iter().any(|start| file.text.starts_with(start)) {
        return Vec::new();
    }
    vec![file.problem(
        0,
        "a crate begins with `//!` and a paragraph of what it is for",
    )]
}

/// Decisions are made without runtime and clock, so that tests need neither.
pub fn machine_is_pure(file: &File) -> Vec<String> {
    if file.name() != "machine.rs" {
        return Vec::new();
    }
    let impure = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        ["tokio", "SystemTime::now", "Instant::now"]
            .iter()
            .any(|word| code.contains(word))
    };
    file.lines_where(
        impure,
        "a machine takes `now` as a value and knows no runtime; the shell around it does",
    )
}

/// An example that is not even compiled is wrong sooner or later.
pub fn doctests_run(file: &File) -> Vec<String> {
    let is_ignored = |line: &str| {
        let line = line.trim_start();
        let text = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"))
            .unwrap_or(line);
        let info = text.trim_start().strip_prefix("```").unwrap_or_default();
        info.split([',', ' ']).any(|word| word == "ignore")
    };
    if !file.has_extension("rs") && !file.has_extension("md") {
        return Vec::new();
    }
    file.lines_where(
        is_ignored,
        "make the example run, or `no_run` it, or call it `text`",
    )
}

/// What is not done is an issue, where it is seen, and not a remark in the code.
pub fn nothing_left_to_do(file: &File) -> Vec<String> {
    // Put together here, so that this file keeps to its own rule.
    let (unfinished, remark) = (concat!("to", "do!"), concat!("FIX", "ME"));
    let is_rust = file.has_extension("rs");
    let left = |line: &str| line.contains(remark) || (is_rust && line.contains(unfinished));
    file.lines_where(
        left,
        "finish it, or open an issue and say here what holds today",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::check;

    #[test]
    fn crates_without_docs_are_found() {
        let rule = crate_begins_with_docs;
        assert_eq!(
            check(rule, "crates/a/src/lib.rs", "//! About a.\n").len(),
            0
        );
        assert_eq!(check(rule, "crates/a/src/lib.rs", "mod b;\n").len(), 1);
        assert_eq!(check(rule, "crates/a/src/main.rs", "").len(), 1);
        assert_eq!(check(rule, "crates/a/src/other.rs", "mod b;\n").len(), 0);
    }

    #[test]
    fn machines_with_a_clock_are_found_but_may_talk_about_one() {
        let rule = machine_is_pure;
        assert_eq!(
            check(rule, "a/src/machine.rs", "let now = Instant::now();\n").len(),
            1
        );
        assert_eq!(
            check(rule, "a/src/machine.rs", "use tokio::time;\n").len(),
            1
        );
        assert_eq!(
            check(rule, "a/src/machine.rs", "//! Without tokio.\n").len(),
            0
        );
        assert_eq!(
            check(rule, "a/src/service.rs", "use tokio::time;\n").len(),
            0
        );
    }

    #[test]
    fn examples_that_never_run_are_found() {
        let rule = doctests_run;
        assert_eq!(check(rule, "a.rs", "/// ```ignore\n").len(), 1);
        assert_eq!(check(rule, "a.rs", "//! ```rust,ignore\n").len(), 1);
        assert_eq!(check(rule, "README.md", "```rust, ignore\n").len(), 1);
        assert_eq!(check(rule, "README.md", "```gitignore\n").len(), 0);
        assert_eq!(check(rule, "a.rs", "/// ```no_run\n").len(), 0);
    }

    #[test]
    fn unfinished_places_are_found() {
        let rule = nothing_left_to_do;
        assert_eq!(check(rule, "a.rs", concat!("to", "do!()\n")).len(), 1);
        assert_eq!(
            check(rule, "a.toml", concat!("# FIX", "ME later\n")).len(),
            1
        );
        assert_eq!(check(rule, "a.rs", "// done\n").len(), 0);
    }
}
