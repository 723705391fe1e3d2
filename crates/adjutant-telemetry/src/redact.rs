//! Secrets do not leave: known values, and what looks like a key.

use std::{borrow::Cow, sync::Arc};

use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// What stands for a secret.
pub(crate) const MASK: &str = "[redacted]";

/// Shorter values are in every other word, and no secrets.
const MIN_BYTES: usize = 4;

/// Texts that look like a key by themselves.
const KEYS: &[&str] = &[
    r"\bsk-[A-Za-z0-9_-]{16,}",
    r"\b(?:sk|pk)-lf-[A-Za-z0-9-]{16,}",
    r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}",
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bglpat-[A-Za-z0-9_-]{16,}",
    r"\bhf_[A-Za-z0-9]{20,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b",
    r"\bAIza[0-9A-Za-z_-]{30,}",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
];

/// Secrets after a word that tells that one follows; the word stays. In this order, for `Authorization: Bearer x` has two.
const AFTER_WORDS: &[&str] = &[
    r"(?<before>(?i:\b(?:bearer|basic)\s+))[A-Za-z0-9._~+/=-]{8,}(?<after>)",
    r"(?<before>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s:/@]+(?<after>@)",
    concat!(
        r"(?<before>(?i:\b[a-z0-9_-]*?(?:password|passwd|secret|api[_-]?key|private[_-]?key|",
        r"access[_-]?key|(?:access|refresh|auth|id|session|bearer)[_-]?token)|\btoken|",
        r#"\bauthorization|\bcookie)(?:\\*["'])?\s*[:=]\s*(?:\\*["'])?)"#,
        // What is masked already begins with a bracket.
        r#"[^\s"'\\,;&}\[\]][^\s"'\\,;&}\]]{5,}(?<after>)"#
    ),
];

/// Ends of the names, without `-` and `_`, of JSON fields that hold a secret.
const FIELD_ENDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "privatekey",
    "accesskey",
    "accesstoken",
    "refreshtoken",
    "authtoken",
    "idtoken",
    "sessiontoken",
    "bearertoken",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "secretkey",
    "connectionstring",
];

/// Takes secrets out of what is told about a run.
#[derive(Clone)]
pub struct Redactor(Arc<Inner>);

struct Inner {
    /// The longest first, for one may contain another.
    values: Vec<String>,
    /// `None` if the patterns above are wrong, which a test excludes.
    keys: Option<Regex>,
    after_words: Vec<Option<Regex>>,
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} values)", self.0.values.len())
    }
}

impl Redactor {
    /// A redactor that knows these secrets and what keys look like. Values of less than four bytes are not looked for.
    #[must_use]
    pub fn new(secrets: Vec<String>) -> Self {
        let long_enough = secrets.into_iter().filter(|it| it.len() >= MIN_BYTES);
        let mut values: Vec<String> = long_enough
            .flat_map(|value| {
                let json = serde_json::to_string(&value).unwrap_or_default();
                let inner = json.trim_matches('"').to_owned();
                [value, inner]
            })
            .collect();
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        let inner = Inner {
            values,
            keys: pattern(&KEYS.join("|")).ok(),
            after_words: AFTER_WORDS.iter().map(|it| pattern(it).ok()).collect(),
        };
        Self(Arc::new(inner))
    }

    /// The text without secrets; borrowed if there were none.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let inner = &self.0;
        let mut text = Cow::Borrowed(text);
        for value in &inner.values {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), MASK));
            }
        }
        text = replace(text, inner.keys.as_ref(), MASK);
        let after = inner.after_words.iter();
        after.fold(text, |text, pattern| {
            replace(text, pattern.as_ref(), "${before}[redacted]${after}")
        })
    }

    /// Takes secrets out of all texts in `value`, and whole values out of fields whose name tells that they are secret.
    pub fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(clear) = self.text(text) {
                    *text = clear;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(text) if is_secret(name) => MASK.clone_into(text),
                        other => self.json(other),
                    }
                }
            }
            _ => {}
        }
    }
}

fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).build()
}

fn replace<'a>(text: Cow<'a, str>, pattern: Option<&Regex>, with: &str) -> Cow<'a, str> {
    let Some(pattern) = pattern else {
        // Rather nothing than a secret.
        return Cow::Borrowed(MASK);
    };
    match pattern.replace_all(&text, with) {
        Cow::Borrowed(_) => text,
        Cow::Owned(clear) => Cow::Owned(clear),
    }
}

fn is_secret(field: &str) -> bool {
    let bare: String = field
        .chars()
        .filter(|char| !matches!(char, '-' | '_' | '.'))
        .flat_map(char::to_lowercase)
        .collect();
    bare == "token" || FIELD_ENDS.iter().any(|end| bare.ends_with(end))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_patterns_are_sound() {
        assert!(pattern(&KEYS.join("|")).is_ok());
        assert!(AFTER_WORDS.iter().all(|it| pattern(it).is_ok()));
    }

    #[test]
    fn known_values_are_masked_as_they_are_and_as_json_writes_them() {
        let redactor = Redactor::new(vec!["hunter2".into(), "a\"quote".into(), "abc".into()]);
        assert_eq!(
            redactor.text("pw hunter2, hunter2!"),
            "pw [redacted], [redacted]!"
        );
        assert_eq!(
            redactor.text(r#"{"x":"a\"quote"}"#),
            r#"{"x":"[redacted]"}"#
        );
        assert_eq!(redactor.text("abc is no secret"), "abc is no secret");
    }

    #[test]
    fn what_looks_like_a_key_is_masked() {
        // Put together here, so that scanners of this repository stay calm.
        let canary = |prefix: &str, length: usize| prefix.to_owned() + &"Zq7".repeat(length);
        let cases = [
            canary("sk-", 8),
            canary("sk-ant-api03-", 8),
            canary("sk-lf-", 8),
            canary("ghp_", 12),
            canary("github_pat_", 10),
            canary("hf_", 10),
            canary("xoxb-", 6),
            format!("AKIA{}", "ABCD".repeat(4)),
            canary("AIza", 12),
            format!(
                "{}.{}.{}",
                canary("eyJ", 4),
                canary("eyJ", 4),
                canary("", 4)
            ),
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
                canary("", 9)
            ),
        ];
        for secret in cases {
            let text = format!("before {secret} after");
            assert_eq!(
                Redactor::default().text(&text),
                "before [redacted] after",
                "{secret}"
            );
        }
    }

    #[test]
    fn what_follows_a_telling_word_is_masked_and_the_word_stays() {
        let cases = [
            ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
            ("basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
            ("postgres://me:s3cr3tpw@host/db", "s3cr3tpw"),
            ("OPENAI_API_KEY=abcdef123", "abcdef123"),
            (r#"{"client_secret": "abcdef123"}"#, "abcdef123"),
            (r#"{"a":"{\"access_token\":\"abcdef123\"}"}"#, "abcdef123"),
            ("https://x.test/?token=abcdef123&b=1", "abcdef123"),
        ];
        for (text, secret) in cases {
            let clear = Redactor::default().text(text).into_owned();
            assert!(
                !clear.contains(secret) && clear.contains(MASK),
                "{text} -> {clear}"
            );
            assert_eq!(
                Redactor::default().text(&clear),
                clear,
                "twice is as good as once"
            );
        }
    }

    #[test]
    fn ordinary_texts_stay_as_they_are() {
        let texts = [
            "the token count is 123456 of max_tokens: 100000",
            "a secret garden, a password reset form",
            "https://example.test/path?page=2",
            r#"{"input_tokens":123456,"next_page":"abcdefgh"}"#,
            "risk-assessment-of-the-whole-plan",
        ];
        for text in texts {
            assert_eq!(Redactor::default().text(text), text);
        }
    }

    #[test]
    fn secret_fields_are_masked_at_any_depth() {
        let mut value =
            json!({"user": "ann", "auth": {"Api-Key": "x1", "deep": [{"password": "y"}]}, "n": 1});
        Redactor::default().json(&mut value);
        let expected =
            json!({"user": "ann", "auth": {"Api-Key": MASK, "deep": [{"password": MASK}]}, "n": 1});
        assert_eq!(value, expected);
    }
}
