//! What a line says of its own level and time: JSON objects, logfmt, and the prefixes of common logging libraries.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::record::Level;

/// A line taken apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Line {
    pub(crate) level: Option<Level>,
    /// Only when the line tells the zone too: nobody knows in which one an agent's clock is set.
    pub(crate) time: Option<Timestamp>,
    pub(crate) message: String,
    pub(crate) fields: Map<String, Value>,
}

const LEVEL_KEYS: [&str; 5] = ["level", "levelname", "severity", "lvl", "log.level"];
const MESSAGE_KEYS: [&str; 4] = ["message", "msg", "event", "text"];
const TIME_KEYS: [&str; 6] = ["time", "timestamp", "@timestamp", "ts", "asctime", "t"];

/// The level that a line tells of itself.
#[must_use]
pub fn level_of(text: &str) -> Option<Level> {
    read(text).level
}

/// Takes a line apart, as far as its form is known.
pub(crate) fn read(text: &str) -> Line {
    let structured = match text.as_bytes().first() {
        Some(b'{') => json(text),
        _ => logfmt(text),
    };
    structured
        .or_else(|| prefixed(text))
        .unwrap_or_else(|| Line {
            message: text.to_owned(),
            ..Line::default()
        })
}

fn json(text: &str) -> Option<Line> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else {
        return None;
    };
    // Rust's `tracing` puts the message among fields of their own.
    if let Some(Value::Object(inner)) = fields.get("fields")
        && MESSAGE_KEYS.iter().any(|key| inner.contains_key(*key))
        && let Some(Value::Object(inner)) = fields.shift_remove("fields")
    {
        fields.extend(inner);
    }
    from_fields(fields)
}

/// The line of named values, if one of them is a message or a level.
fn from_fields(mut fields: Map<String, Value>) -> Option<Line> {
    let level = LEVEL_KEYS.into_iter().find_map(|key| {
        let level = level(fields.get(key)?)?;
        fields.shift_remove(key);
        Some(level)
    });
    let message = MESSAGE_KEYS.into_iter().find_map(|key| {
        let message = fields.get(key)?.as_str()?.to_owned();
        fields.shift_remove(key);
        Some(message)
    });
    if level.is_none() && message.is_none() {
        return None;
    }
    let time = TIME_KEYS.into_iter().find_map(|key| {
        let time = time(fields.get(key)?)?;
        fields.shift_remove(key);
        Some(time)
    });
    Some(Line {
        level,
        time,
        message: message.unwrap_or_default(),
        fields,
    })
}

fn level(value: &Value) -> Option<Level> {
    match value {
        Value::String(word) => Level::of_word(word),
        Value::Number(number) => number.as_u64().map(Level::of_number),
        _ => None,
    }
}

/// RFC 3339, or a number of seconds, milli-, micro- or nanoseconds since the epoch; its size tells which.
fn time(value: &Value) -> Option<Timestamp> {
    if let Value::String(text) = value {
        return text.parse().ok();
    }
    let number = value.as_f64()?;
    let seconds = match number {
        1e8..1e11 => number,
        1e11..1e14 => number / 1e3,
        1e14..1e17 => number / 1e6,
        1e17..1e20 => number / 1e9,
        _ => return None,
    };
    // Microseconds of a time near now are exact enough in a float.
    Timestamp::from_microsecond((seconds * 1e6) as i64).ok()
}

/// `level=warn msg="nearly full" free=3`: nothing but pairs, one of them a message or a level.
fn logfmt(text: &str) -> Option<Line> {
    let mut fields = Map::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, tail) = rest.split_once('=')?;
        if key.is_empty() || key.contains([' ', '"']) {
            return None;
        }
        let (value, tail) = logfmt_value(tail)?;
        fields.insert(key.to_owned(), value.into());
        rest = tail.trim_start();
    }
    from_fields(fields)
}

fn logfmt_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let rest = quoted.get(at + 1..).unwrap_or_default();
                return (rest.is_empty() || rest.starts_with(' ')).then_some((value, rest));
            }
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

/// `WARNING:root:…`, `2026-11-21 14:38:23,123 - name - WARNING - …`, `2026-11-21T14:38:23Z WARN name: …`, `[warn] …`,
/// `ERROR: …`. The level has to be in capitals or brackets: sentences begin with “Error” too.
fn prefixed(text: &str) -> Option<Line> {
    let (time, rest) = clock(text);
    let mut line = Line {
        time: time.and_then(|time| time.parse().ok()),
        ..Line::default()
    };
    let rest = rest.trim_start_matches([' ', '-', '|']);
    if let Some((level, rest)) = level_word(rest) {
        line.level = Some(level);
        // Python's own form has no space before the message, nor in the name.
        let named = rest.strip_prefix(':').and_then(|rest| rest.split_once(':'));
        let named = named.filter(|(name, _)| !name.is_empty() && !name.contains(' '));
        return Some(match named.filter(|_| time.is_none()) {
            Some((name, message)) => line.of(name, message),
            None => line.saying(rest),
        });
    }
    // With a time before it, a name may stand before the level.
    time?;
    let (name, rest) = rest.split_once([' ', '|'])?;
    let (level, rest) = level_word(rest.trim_start_matches([' ', '-', '|']))?;
    line.level = Some(level);
    Some(line.saying(rest).named(name))
}

impl Line {
    fn of(self, name: &str, message: &str) -> Self {
        self.saying(message).named(name)
    }

    fn named(mut self, name: &str) -> Self {
        self.fields.insert("logger".to_owned(), name.into());
        self
    }

    fn saying(mut self, rest: &str) -> Self {
        let separators = [' ', '-', '|', ':', '\t'];
        self.message = rest.trim_start_matches(separators).to_owned();
        self
    }
}

/// A date and a time at the beginning, perhaps in brackets, and what follows.
fn clock(text: &str) -> (Option<&str>, &str) {
    let inner = text.strip_prefix('[').unwrap_or(text);
    let bytes = inner.as_bytes();
    let is_date = bytes.len() >= 19
        && bytes
            .iter()
            .take(19)
            .enumerate()
            .all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                10 => matches!(byte, b' ' | b'T'),
                13 | 16 => *byte == b':',
                _ => byte.is_ascii_digit(),
            });
    if !is_date {
        return (None, text);
    }
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | 'Z' | '+' | ':');
    let rest = inner.get(19..).unwrap_or_default();
    let more = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let (time, rest) = inner.split_at(19 + more);
    (Some(time), rest.trim_start_matches(']'))
}

/// A level at the beginning, and what follows.
fn level_word(text: &str) -> Option<(Level, &str)> {
    let inner = text.strip_prefix('[').unwrap_or(text);
    let bracketed = inner.len() < text.len();
    let end = inner
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(inner.len());
    let (word, rest) = inner.split_at(end);
    let level = Level::of_word(word)?;
    if bracketed {
        return Some((level, rest.trim_start().strip_prefix(']')?));
    }
    let is_loud = word.bytes().all(|byte| byte.is_ascii_uppercase());
    let ends = rest.is_empty() || rest.starts_with([' ', ':', '|', '\t']);
    (is_loud && ends).then_some((level, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, level: Option<Level>, message: &str, fields: &str) -> Line {
        let line = read(text);
        assert_eq!(line.level, level, "{text}");
        assert_eq!(line.message, message, "{text}");
        let fields: Map<String, Value> = serde_json::from_str(fields).unwrap();
        assert_eq!(line.fields, fields, "{text}");
        line
    }

    const WARN: Option<Level> = Some(Level::Warn);
    const ERROR: Option<Level> = Some(Level::Error);

    #[test]
    fn json_objects_tell_level_time_and_message() {
        let line = check(
            r#"{"ts":"2026-11-21T14:38:23Z","level":"warning","msg":"full","free":3}"#,
            WARN,
            "full",
            r#"{"free":3}"#,
        );
        assert_eq!(line.time.unwrap().to_string(), "2026-11-21T14:38:23Z");
        let pino = r#"{"level":50,"time":1795275503000,"pid":7,"msg":"no"}"#;
        let line = check(pino, ERROR, "no", r#"{"pid":7}"#);
        assert_eq!(line.time.unwrap().to_string(), "2026-11-21T15:38:23Z");
        check(
            r#"{"level":"WARN","fields":{"message":"slow","ms":9},"target":"a::b"}"#,
            WARN,
            "slow",
            r#"{"target":"a::b","ms":9}"#,
        );
        check(r#"{"answer":42}"#, None, r#"{"answer":42}"#, "{}");
        check("{broken", None, "{broken", "{}");
    }

    #[test]
    fn logfmt_is_nothing_but_pairs() {
        check(
            r#"level=warn msg="nearly \"full\"" free=3"#,
            WARN,
            "nearly \"full\"",
            r#"{"free":"3"}"#,
        );
        check("x = y", None, "x = y", "{}");
        check("a=1 b=2", None, "a=1 b=2", "{}");
        check(r#"msg="open"#, None, r#"msg="open"#, "{}");
    }

    #[test]
    fn prefixes_of_logging_libraries_are_known() {
        check("WARNING:root:full", WARN, "full", r#"{"logger":"root"}"#);
        check(
            "2026-11-21 14:38:23,123 - app.db - ERROR - gone: 3",
            ERROR,
            "gone: 3",
            r#"{"logger":"app.db"}"#,
        );
        check("2026-11-21 14:38:23,123 ERROR gone", ERROR, "gone", "{}");
        check("[2026-11-21 14:38:23] [warn] full", WARN, "full", "{}");
        check("ERROR: no such file", ERROR, "no such file", "{}");
        let rust = "2026-11-21T14:38:23.5Z  WARN app: slow";
        let line = check(rust, WARN, "app: slow", "{}");
        assert_eq!(line.time.unwrap().to_string(), "2026-11-21T14:38:23.5Z");
    }

    #[test]
    fn sentences_have_no_level() {
        for text in [
            "Error handling begins",
            "error: gone",
            "INFORMED",
            "",
            "[x",
            "2026-11-21 14:38:23 hello world",
        ] {
            check(text, None, text, "{}");
        }
    }

    #[test]
    fn a_time_without_its_zone_is_not_believed() {
        assert_eq!(read("2026-11-21 14:38:23,123 ERROR gone").time, None);
    }
}
