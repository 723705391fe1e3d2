//! Durations and sizes as people write them.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes; text form such as `1MiB`, `64KiB`, `500kB` or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub usize);

/// Text that is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {expected}")]
pub struct ParseUnitError {
    text: String,
    expected: &'static str,
}

const DURATION: &str =
    "duration; write a number of seconds, or text such as `300s`, `5m`, `1h30m` or `500ms`";
const SIZE: &str = "size; write a number of bytes, or text such as `64KiB` or `1MiB`";

const DURATION_UNITS: &[(&str, f64)] = &[
    ("ms", 0.001),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

const SIZE_UNITS: &[(&str, f64)] = &[
    ("", 1.0),
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
];

/// More is a slip of the pen: 16 TiB.
const MAX_SIZE: f64 = 17_592_186_044_416.0;

/// Reads `300s`, `5m`, `1h30m`, `500ms`, or a plain number of seconds.
///
/// # Errors
/// When the text is neither.
pub fn parse_duration(text: &str) -> Result<Duration, ParseUnitError> {
    let refuse = || ParseUnitError {
        text: text.to_owned(),
        expected: DURATION,
    };
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| refuse());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, factor, after) = amount(rest, DURATION_UNITS).ok_or_else(refuse)?;
        seconds += number * factor;
        rest = after.trim_start();
    }
    if text.trim().is_empty() {
        return Err(refuse());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| refuse())
}

impl FromStr for ByteSize {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = amount(text.trim(), SIZE_UNITS)
            .filter(|(.., rest)| rest.is_empty())
            .map(|(number, factor, _)| number * factor)
            .filter(|bytes| *bytes <= MAX_SIZE);
        match bytes {
            Some(bytes) => Ok(Self(bytes as usize)),
            None => Err(ParseUnitError {
                text: text.to_owned(),
                expected: SIZE,
            }),
        }
    }
}

/// `90m rest` -> 90, 60.0, ` rest`.
fn amount<'a>(text: &'a str, units: &[(&str, f64)]) -> Option<(f64, f64, &'a str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_alphabetic());
    let (unit, rest) = rest.split_at(end.unwrap_or(rest.len()));
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some((number.parse().ok()?, *factor, rest))
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % 1_048_576 == 0 => write!(f, "{}MiB", n / 1_048_576),
            n if n > 0 && n % 1024 == 0 => write!(f, "{}KiB", n / 1024),
            n => write!(f, "{n}B"),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer)?
            .0
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A scalar, read as the text it was written as.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a number with a unit")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// For `#[serde(with)]`: a duration, written in seconds or with a unit.
pub(crate) mod duration {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match u64::try_from(value.as_millis()) {
            Ok(millis) if millis % 1000 == 0 => {
                serializer.collect_str(&format_args!("{}s", millis / 1000))
            }
            _ => serializer.collect_str(&format_args!("{}ms", value.as_millis())),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        parse_duration(&Text::deserialize(deserializer)?.0).map_err(de::Error::custom)
    }
}

/// The same where the duration may be absent.
pub(crate) mod maybe_duration {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => duration::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("5m", 300_000),
            ("300s", 300_000),
            ("300", 300_000),
            ("0.5", 500),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("2 d", 172_800_000),
            ("1h 5s", 3_605_000),
        ];
        for (text, millis) in cases {
            let expected = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_examples() {
        for text in [
            "",
            " ",
            "5 minutes",
            "m",
            "-1",
            "-1s",
            "1..5s",
            "5m!",
            "inf",
            "NaN",
            "1e999",
        ] {
            let error = parse_duration(text).expect_err(text).to_string();
            assert!(error.contains("`5m`"), "{error}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [
            ("1MiB", 1 << 20),
            ("64KiB", 65_536),
            ("500kB", 500_000),
            ("7", 7),
            ("7 B", 7),
            ("64GiB", 64 << 30),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "1 megabyte", "1MiB2", "99999GiB", "-1"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_printed_size_reads_back() {
        for bytes in [0, 1, 1024, 1500, 1 << 20, 3 << 20] {
            assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
    }
}
