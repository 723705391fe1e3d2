//! Records as lines for people, and back.

use serde_json::{Map, Value};

use crate::record::{Level, Record, Stream};

/// Stands where there is no run.
const NO_RUN: &str = "-";

/// `2026-11-21T14:38:23.123456789Z WARN  hello-01 run_… stderr message key=value`
pub(crate) fn line(record: &Record) -> String {
    let level = record.level.as_str().to_ascii_uppercase();
    format!(
        "{:.9} {level:<5} {} {} {} {}",
        record.time,
        record.instance,
        record.run_id.as_deref().unwrap_or(NO_RUN),
        record.stream,
        shown(record),
    )
}

/// The message and the fields on one line.
pub(crate) fn shown(record: &Record) -> String {
    let mut line = plain(&record.message).into_owned();
    for (name, value) in &record.fields {
        let value = match value {
            Value::String(text) if !text.contains([' ', '"', '=', '\n']) && !text.is_empty() => {
                text.clone()
            }
            other => other.to_string(),
        };
        line.push_str(&plain(&format!(" {name}={value}")));
    }
    line
}

/// Text without what would move a terminal's cursor or change its colours.
pub(crate) fn plain(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// Reads a line back; fields stay part of the message.
pub(crate) fn read(line: &str) -> Option<Record> {
    let (time, rest) = line.split_once(' ')?;
    let (level, rest) = rest.split_once(' ')?;
    let mut parts = rest.trim_start().splitn(4, ' ');
    let (instance, run) = (parts.next()?, parts.next()?);
    Some(Record {
        time: time.parse().ok()?,
        level: Level::of_word(level)?,
        instance: instance.into(),
        run_id: (run != NO_RUN).then(|| run.into()),
        stream: Stream::of_name(parts.next()?)?,
        message: parts.next().unwrap_or_default().to_owned(),
        fields: Map::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_for_people_can_be_read_back() {
        for run in [None, Some("run_1")] {
            let record = Record {
                time: "2026-11-21T14:38:23.123456789Z".parse().unwrap(),
                level: Level::Info,
                instance: "a-01".into(),
                run_id: run.map(Into::into),
                stream: Stream::Wire,
                message: "two  words".to_owned(),
                fields: Map::new(),
            };
            assert_eq!(read(&line(&record)), Some(record));
        }
        assert_eq!(read("Traceback (most recent call last):"), None);
    }

    #[test]
    fn a_line_stays_one_line_and_moves_no_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\td"), "a\\u{1b}[2Jb\\nc\td");
    }
}
