//! What a span or a figure tells about itself.

use std::borrow::Cow;

use serde::Serialize;

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(Cow<'static, str>),
    /// Several texts.
    Texts(Vec<String>),
}

macro_rules! from {
    ($($type:ty => |$value:ident| $make:expr;)*) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $make
            }
        })*
    };
}
from! {
    bool => |value| Self::Bool(value);
    i64 => |value| Self::Int(value);
    u32 => |value| Self::Int(i64::from(value));
    u16 => |value| Self::Int(i64::from(value));
    u64 => |value| Self::Int(i64::try_from(value).unwrap_or(i64::MAX));
    f64 => |value| Self::Float(value);
    &'static str => |value| Self::Text(Cow::Borrowed(value));
    String => |value| Self::Text(Cow::Owned(value));
    Cow<'static, str> => |value| Self::Text(value);
    Vec<String> => |value| Self::Texts(value);
}

impl Value {
    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    #[must_use]
    pub const fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// Every text in it, to be changed.
    pub(crate) fn texts_mut(&mut self) -> Vec<TextMut<'_>> {
        match self {
            Self::Text(text) => vec![TextMut::One(text)],
            Self::Texts(texts) => texts.iter_mut().map(TextMut::OfMany).collect(),
            _ => Vec::new(),
        }
    }
}

/// A text within a value.
pub(crate) enum TextMut<'a> {
    One(&'a mut Cow<'static, str>),
    OfMany(&'a mut String),
}

impl TextMut<'_> {
    pub(crate) fn get(&self) -> &str {
        match self {
            Self::One(text) => text,
            Self::OfMany(text) => text,
        }
    }

    pub(crate) fn set(&mut self, new: String) {
        match self {
            Self::One(text) => **text = Cow::Owned(new),
            Self::OfMany(text) => **text = new,
        }
    }
}

/// Names with their values, each name once, in the order in which they were set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attributes(Vec<(Cow<'static, str>, Value)>);

impl Attributes {
    /// Sets a value, in place of an earlier one of this name.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Sets a value if there is one.
    pub fn set_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Sets what is not set yet.
    pub fn fill(&mut self, others: &Self) {
        for (name, value) in &others.0 {
            if self.get(name).is_none() {
                self.0.push((name.clone(), value.clone()));
            }
        }
    }

    /// The same with one more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// The value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.iter().find(|(known, _)| *known == name).map(|it| it.1)
    }

    /// The text of this name.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// The whole number of this name.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(Value::as_int)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// All of them, to be kept.
    #[cfg(feature = "otlp")]
    pub(crate) fn into_pairs(self) -> Vec<(Cow<'static, str>, Value)> {
        self.0
    }

    /// Changes every value, drops those for which `keep` says so, and renames.
    pub(crate) fn retain_mut(
        &mut self,
        mut keep: impl FnMut(&mut Cow<'static, str>, &mut Value) -> bool,
    ) {
        self.0.retain_mut(|(name, value)| keep(name, value));
    }
}

impl Serialize for Attributes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
