//! Rules for manifests.

use super::File;

/// The keys of `[package]` that are the same for all members.
const INHERITED: &[&str] = &["version", "edition", "license"];

/// Versions, edition, licence and lints are decided once, in the root manifest.
pub fn inherits_from_the_workspace(file: &File) -> Vec<String> {
    if file.name() != "Cargo.toml" || file.text.contains("[workspace]") {
        return Vec::new();
    }
    let inherits = |section: &str, key: &str| lines_of(&file.text, section).any(|line| line == key);
    let mut problems = Vec::new();
    for key in INHERITED {
        let line = format!("{key}.workspace=true");
        if !inherits("[package]", &line) {
            problems.push(file.problem(0, &format!("write `{key}.workspace = true` in [package]")));
        }
    }
    if !inherits("[lints]", "workspace=true") {
        problems.push(file.problem(0, "write `workspace = true` in [lints]"));
    }
    problems
}

/// The lines of one section, without spaces and comments.
fn lines_of<'a>(text: &'a str, section: &'a str) -> impl Iterator<Item = String> + 'a {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().replace(' ', ""));
    lines
        .skip_while(move |line| line != section)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::check;

    const GOOD: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
                        license.workspace=true # both\n\n[lints]\nworkspace = true\n";

    #[test]
    fn what_a_manifest_decides_for_itself_is_found() {
        let rule = inherits_from_the_workspace;
        let own_version = GOOD.replace("version.workspace = true", "version = \"2.0.0\"");
        let own_lints = GOOD.replace("workspace = true\n", "rust = {}\n");
        assert_eq!(check(rule, "a/Cargo.toml", GOOD).len(), 0);
        assert_eq!(check(rule, "a/Cargo.toml", &own_version).len(), 1);
        assert_ne!(check(rule, "a/Cargo.toml", &own_lints).len(), 0);
        assert_eq!(check(rule, "Cargo.toml", "[workspace]\n").len(), 0);
    }
}
