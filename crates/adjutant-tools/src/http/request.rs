//! Arguments put into a request.

use adjutant_core::Json;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Result, ToolError};

/// How arguments go into a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyForm {
    /// A JSON object.
    #[default]
    Json,
    /// A form, as browsers send it.
    Form,
}

impl BodyForm {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Form => "application/x-www-form-urlencoded",
        }
    }

    /// The body of these arguments.
    pub(crate) fn encode(self, value: &Value) -> Vec<u8> {
        match (self, value) {
            (Self::Form, Value::Object(fields)) => form(fields),
            _ => value.to_string().into_bytes(),
        }
    }
}

fn form(fields: &Map<String, Value>) -> Vec<u8> {
    // The encoding of a form is that of a query.
    let Ok(mut carrier) = Url::parse("http://form/") else {
        return Vec::new();
    };
    for (name, value) in fields {
        append(&mut carrier, name, value);
    }
    carrier.query().unwrap_or_default().as_bytes().to_vec()
}

/// Adds a query parameter; one for each item of a list, none for what is absent.
pub fn append(url: &mut Url, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter().for_each(|item| append(url, name, item)),
        other => {
            url.query_pairs_mut().append_pair(name, &scalar(other));
        }
    }
}

/// A value as text: text as it is, everything else as JSON.
pub fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Arguments of which some have been used.
pub struct Filled {
    left: Map<String, Value>,
    used: Vec<String>,
}

impl Filled {
    pub fn new(tool: &str, arguments: &Json) -> Result<Self> {
        Ok(Self {
            left: arguments
                .to()
                .map_err(|error| ToolError::invalid(tool, "", error.to_string()))?,
            used: Vec::new(),
        })
    }

    /// An argument, which counts as used.
    pub fn take(&mut self, name: &str) -> Option<&Value> {
        let value = self.left.get(name).filter(|value| !value.is_null())?;
        self.used.push(name.to_owned());
        Some(value)
    }

    /// What nobody took.
    pub fn rest(mut self) -> Map<String, Value> {
        for name in &self.used {
            self.left.remove(name);
        }
        self.left
    }
}

/// Text with places for arguments, such as `v{version}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Argument(String),
}

impl Template {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut left = text;
        while let Some((before, after)) = left.split_once('{') {
            let (name, rest) = after
                .split_once('}')
                .ok_or_else(|| format!("`{text}`: a `{{` without its `}}`"))?;
            if name.is_empty() {
                return Err(format!("`{text}`: `{{}}` names no argument"));
            }
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Argument(name.to_owned()));
            left = rest;
        }
        pieces.push(Piece::Text(left.to_owned()));
        Ok(Self(pieces))
    }

    /// The arguments that it has places for.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Argument(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text with its arguments; `None` where one is absent, with its name.
    pub fn fill(&self, arguments: &mut Filled) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(fixed) => text.push_str(fixed),
                Piece::Argument(name) => {
                    let value = arguments.take(name).ok_or_else(|| name.clone())?;
                    text.push_str(&scalar(value));
                }
            }
        }
        Ok(text)
    }
}

/// Adds a segment to a URL's path, encoded. Nothing that an argument holds can leave the segment.
pub fn push_segment(tool: &str, url: &mut Url, segment: &str) -> Result<()> {
    // URL parsers drop tabs and newlines, which would make `..` of what was none.
    if segment == "." || segment == ".." || segment.contains(char::is_control) {
        let problem = format!("{segment:?} would lead to another path");
        return Err(ToolError::invalid(tool, "", problem));
    }
    if let Ok(mut path) = url.path_segments_mut() {
        path.push(segment);
    }
    Ok(())
}

/// Fills one segment of a path and adds it.
pub fn fill_segment(
    tool: &str,
    url: &mut Url,
    template: &Template,
    arguments: &mut Filled,
) -> Result<()> {
    let required = |name: String| ToolError::invalid(tool, format!("/{name}"), "is required");
    let text = template.fill(arguments).map_err(required)?;
    // An empty argument would leave its segment out, and the path would be another one.
    if text.is_empty() && template.arguments().next().is_some() {
        let problem = "an argument of the path must not be empty";
        return Err(ToolError::invalid(tool, "", problem));
    }
    push_segment(tool, url, &text)
}
