//! What the server answers, taken apart.

use redis::Value;

/// What is wrong with an answer.
pub(crate) type Read<T> = Result<T, String>;

/// A list.
pub(crate) fn list(value: Value) -> Read<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        Value::Map(pairs) => Ok(pairs.into_iter().flat_map(|(a, b)| [a, b]).collect()),
        Value::Nil => Ok(Vec::new()),
        other => Err(odd(&other)),
    }
}

/// A text, if there is one.
pub(crate) fn maybe(value: Value) -> Read<Option<Vec<u8>>> {
    match value {
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into())),
        Value::Int(number) => Ok(Some(number.to_string().into_bytes())),
        Value::Nil => Ok(None),
        other => Err(odd(&other)),
    }
}

/// A text.
pub(crate) fn bytes(value: Value) -> Read<Vec<u8>> {
    maybe(value)?.ok_or_else(|| "nothing where something was expected".to_owned())
}

/// A number.
pub(crate) fn number(value: &Value) -> Read<i64> {
    let read = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?;
        text.parse().ok()
    };
    match value {
        Value::Int(number) => Ok(*number),
        Value::BulkString(bytes) => read(bytes).ok_or_else(|| odd(value)),
        Value::SimpleString(text) => read(text.as_bytes()).ok_or_else(|| odd(value)),
        _ => Err(odd(value)),
    }
}

/// A number, if there is one.
pub(crate) fn maybe_number(value: &Value) -> Read<Option<i64>> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) if bytes.is_empty() => Ok(None),
        value => number(value).map(Some),
    }
}

fn odd(value: &Value) -> String {
    let mut text = format!("{value:?}");
    text.truncate(text.floor_char_boundary(100));
    format!("an unexpected answer: {text}")
}
