//! What tools may be called, and patterns of names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name of a tool, in bytes: what OpenAI and Anthropic take.
pub const MAX_NAME: usize = 64;

/// Whether model providers take this as a tool's name: 1 to 64 letters, digits, `_` or `-`.
#[must_use]
pub fn is_tool_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(in_name)
}

const fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The name of a source's tool, `source__tool`, with `_` for what a name may not hold and cut to [`MAX_NAME`]. Two tools
/// of a source may come out alike; that is for the source to notice.
#[must_use]
pub fn qualified_name(source: &str, tool: &str) -> String {
    let mut name: String = format!("{source}__{tool}")
        .bytes()
        .map(|byte| if in_name(byte) { char::from(byte) } else { '_' })
        .collect();
    name.truncate(MAX_NAME);
    name
}

/// A pattern of names: `*` stands for any number of characters, everything else for itself.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether the whole of `name` is of this pattern.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else {
            return self.0 == name;
        };
        let Some(mut left) = name.strip_prefix(head) else {
            return false;
        };
        let mut pieces = rest.split('*').peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return left.ends_with(piece);
            }
            // The first place is as good as any later one, since a `*` follows.
            let Some(at) = left.find(piece) else {
                return false;
            };
            left = &left[at + piece.len()..];
        }
        true
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Which tools an agent may see and call. What is denied is not allowed, whatever else allows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolFilter {
    /// Names and patterns; none of them allows every tool.
    pub allow: Vec<Pattern>,
    /// Names and patterns.
    pub deny: Vec<Pattern>,
}

impl ToolFilter {
    /// Every tool.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only tools of these patterns.
    #[must_use]
    pub fn only<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            allow: patterns.into_iter().map(Pattern::from).collect(),
            deny: Vec::new(),
        }
    }

    /// The same without tools of these patterns.
    #[must_use]
    pub fn but<'a>(mut self, patterns: impl IntoIterator<Item = &'a str>) -> Self {
        self.deny.extend(patterns.into_iter().map(Pattern::from));
        self
    }

    /// Whether the tool passes.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name));
        (self.allow.is_empty() || any(&self.allow)) && !any(&self.deny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_number_of_characters() {
        let check = |pattern: &str, yes: &[&str], no: &[&str]| {
            let pattern = Pattern::from(pattern);
            for name in yes {
                assert!(pattern.matches(name), "{pattern:?} {name}");
            }
            for name in no {
                assert!(!pattern.matches(name), "{pattern:?} {name}");
            }
        };
        check("git__log", &["git__log"], &["git__logs", "xgit__log"]);
        check("git__*", &["git__log", "git__"], &["git_", "x"]);
        check("*_file", &["read_file", "_file"], &["file", "read_files"]);
        check("*", &["", "a"], &[]);
        check("a*b*c", &["abc", "axbbc", "abcbc"], &["acb", "ab", "abcx"]);
        check("a*a", &["aa", "aba"], &["a"]);
    }

    #[test]
    fn denied_is_denied_whatever_allows_it() {
        let filter = ToolFilter::only(["git__*"]).but(["git__push"]);
        assert!(filter.allows("git__log"));
        assert!(!filter.allows("git__push"));
        assert!(!filter.allows("time__now"));
        assert!(ToolFilter::all().but(["x"]).allows("y"));
    }

    #[test]
    fn qualified_names_are_names_that_providers_take() {
        for tool in ["read file", "ä/b", &"x".repeat(100)] {
            let name = qualified_name("fs", tool);
            assert!(is_tool_name(&name), "{name}");
            assert!(name.starts_with("fs__"));
        }
        assert!(!is_tool_name("") && !is_tool_name("a.b"));
    }
}
