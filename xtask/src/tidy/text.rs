//! Rules for all text files.

use super::File;

/// Tools append to files; without a last newline they append to the last line.
pub fn ends_in_a_newline(file: &File) -> Vec<String> {
    if file.text.is_empty() || file.text.ends_with('\n') {
        return Vec::new();
    }
    let last = file.text.lines().count().saturating_sub(1);
    vec![file.problem(last, "the file does not end in a newline")]
}

/// A path that exists on one machine only is wrong on all others.
pub fn names_no_machine_path(file: &File) -> Vec<String> {
    file.lines_where(
        has_machine_path,
        "name a path relative to the repository or a variable, not a machine's own",
    )
}

fn has_machine_path(line: &str) -> bool {
    // Put together here, so that this file keeps to its own rule.
    let roots = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    roots.iter().any(|root| {
        line.match_indices(root).any(|(at, _)| {
            // `docs/work/x` and `https://host/home/x` are no absolute paths.
            let before = line[..at].chars().next_back();
            !before.is_some_and(|char| char.is_alphanumeric() || "._-}~".contains(char))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::check;

    #[test]
    fn absolute_paths_of_a_machine_are_found() {
        let cases = [
            (concat!("cd /ho", "me/me/src"), true),
            (concat!("\"/ro", "ot/.cache/x\""), true),
            (concat!("path=/wo", "rk/x"), true),
            ("docs/work/x", false),
            ("https://example.org/home/x", false),
            ("${BASE}/root/x", false),
            ("/var/lib/adjutant", false),
        ];
        for (line, expected) in cases {
            assert_eq!(has_machine_path(line), expected, "{line}");
        }
    }

    #[test]
    fn a_missing_last_newline_is_found() {
        assert_eq!(
            check(ends_in_a_newline, "a.md", "one\ntwo"),
            ["a.md:2: the file does not end in a newline"]
        );
        assert_eq!(check(ends_in_a_newline, "a.md", "one\n").len(), 0);
        assert_eq!(check(ends_in_a_newline, "empty", "").len(), 0);
    }
}
