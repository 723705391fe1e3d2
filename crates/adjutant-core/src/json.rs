//! JSON as a value that is cheap to clone and cannot change.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

/// Immutable JSON text, checked once, shared by reference count.
///
/// Payloads cross queue, journal, wire and store many times but are read by few: keeping the text
/// spares a parse and a print at every crossing, and a copy that nobody can change afterwards is what
/// makes a saved checkpoint a fact.
///
/// `null` is everywhere, and is `None` here: a count that all threads share would slow them all down.
#[derive(Clone, Default)]
pub struct Json(Option<Arc<RawValue>>);

impl Json {
    /// `null`.
    #[must_use]
    pub const fn null() -> Self {
        Self(None)
    }

    fn new(text: Box<RawValue>) -> Self {
        if text.get() == "null" {
            return Self::null();
        }
        Self(Some(Arc::from(text)))
    }

    /// The JSON form of `value`.
    ///
    /// # Errors
    /// When `value` has no JSON form, such as a map with keys that are not text.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self::new)
    }

    /// Takes over JSON text after checking it.
    ///
    /// # Errors
    /// When `text` is not one JSON value.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self::new)
    }

    /// Reads the text as a `T`.
    ///
    /// # Errors
    /// When the JSON has another shape than `T`.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.raw().get()
    }

    fn raw(&self) -> &RawValue {
        self.0.as_deref().unwrap_or(RawValue::NULL)
    }

    /// The length of the text in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_str().len()
    }

    /// Always false: even `null` has four bytes. Present because `len` is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }

    /// A fingerprint that depends on the value and not on key order or spacing.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Fnv::default();
        match serde_json::from_str::<Value>(self.as_str()) {
            Ok(value) => canonical(&value, &mut hash),
            // Checked text can still be too deep for the parser; the text itself is then the best key.
            Err(_) => hash.write(self.as_str().as_bytes()),
        }
        Fingerprint(hash.0)
    }
}

/// 64 bits that tell whether a step's input changed between two executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

/// FNV-1a: fixed for all versions and hosts, as a stored fingerprint must be.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn canonical(value: &Value, hash: &mut Fnv) {
    match value {
        Value::Object(map) => {
            hash.write(b"{");
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by(|a, b| a.0.cmp(b.0));
            for (key, value) in keys {
                hash.write(key.as_bytes());
                hash.write(b"\0:");
                canonical(value, hash);
            }
            hash.write(b"}");
        }
        Value::Array(items) => {
            hash.write(b"[");
            for item in items {
                canonical(item, hash);
                hash.write(b",");
            }
            hash.write(b"]");
        }
        leaf => hash.write(leaf.to_string().as_bytes()),
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        // Printing a `Value` cannot fail: its keys are text and its numbers are finite.
        Self::from_value(&value).unwrap_or_default()
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::from_value(text).unwrap_or_default()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fingerprint_ignores_key_order_and_spacing() {
        let a = Json::parse(r#"{"a": 1, "b": [true, null]}"#.into()).unwrap();
        let b = Json::parse(r#"{"b":[true,null],"a":1}"#.into()).unwrap();
        assert_eq!(a.fingerprint(), b.fingerprint());
        assert_ne!(
            a.fingerprint(),
            Json::from(json!({"a": 2, "b": [true, null]})).fingerprint()
        );
    }

    #[test]
    fn nested_in_a_struct_it_stays_plain_json() {
        let text = serde_json::to_string(&json!({"x": 1})).unwrap();
        let inner: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&vec![inner]).unwrap(), r#"[{"x":1}]"#);
    }

    #[test]
    fn null_is_null_wherever_it_comes_from() {
        let parsed = [Json::parse("null".into()), Json::parse(" null ".into())];
        let made = [Json::from(Value::Null), Json::from_value(&()).unwrap()];
        let read: Json = serde_json::from_str("null").unwrap();
        for null in parsed
            .into_iter()
            .map(Result::unwrap)
            .chain(made)
            .chain([read])
        {
            assert!(null.is_null() && null == Json::null());
            assert_eq!(serde_json::to_string(&[null]).unwrap(), "[null]");
        }
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        assert!(Json::parse("{".into()).is_err());
    }
}
