//! Schemas of a document made into one that stands alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::document::Document;

/// Takes schemas out of a document. What they refer to goes along as `$defs`, so that circles are no trouble.
pub struct Schemas<'a> {
    document: &'a Document,
    /// The name in `$defs` of each reference met so far.
    names: BTreeMap<String, String>,
    /// References whose schemas have not been taken yet.
    open: Vec<String>,
}

/// Words of OpenAPI that mean nothing to a model or a validator.
const DROPPED: [&str; 6] = [
    "example",
    "examples",
    "xml",
    "externalDocs",
    "discriminator",
    "nullable",
];

impl<'a> Schemas<'a> {
    pub fn new(document: &'a Document) -> Self {
        Self {
            document,
            names: BTreeMap::new(),
            open: Vec::new(),
        }
    }

    /// A schema with its references turned to `$defs` and OpenAPI 3.0's own words turned to JSON Schema's.
    pub fn rewrite(&mut self, schema: &Value) -> Result<Value, String> {
        match schema {
            Value::Object(fields) => self.rewrite_object(fields),
            Value::Array(items) => {
                let items = items.iter().map(|item| self.rewrite(item));
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            Value::Null => Ok(json!({})),
            other => Ok(other.clone()),
        }
    }

    fn rewrite_object(&mut self, fields: &Map<String, Value>) -> Result<Value, String> {
        let mut made = Map::new();
        for (word, value) in fields {
            if DROPPED.contains(&word.as_str()) || word.starts_with("x-") {
                continue;
            }
            let value = match (word.as_str(), value) {
                ("$ref", Value::String(reference)) => self.refer(reference)?.into(),
                // Values, not schemas, and names of properties, not words.
                ("enum" | "const" | "default" | "required", value) => value.clone(),
                ("properties" | "patternProperties", Value::Object(properties)) => {
                    self.rewrite_each(properties)?
                }
                (_, value @ (Value::Object(_) | Value::Array(_))) => self.rewrite(value)?,
                (_, value) => value.clone(),
            };
            made.insert(word.clone(), value);
        }
        exclusive_bound(&mut made, "exclusiveMinimum", "minimum");
        exclusive_bound(&mut made, "exclusiveMaximum", "maximum");
        Ok(match fields.get("nullable") {
            Some(Value::Bool(true)) => nullable(made),
            _ => Value::Object(made),
        })
    }

    fn rewrite_each(&mut self, properties: &Map<String, Value>) -> Result<Value, String> {
        let each = properties
            .iter()
            .map(|(name, schema)| Ok((name.clone(), self.rewrite(schema)?)));
        Ok(Value::Object(each.collect::<Result<_, String>>()?))
    }

    /// The reference's place in `$defs`.
    fn refer(&mut self, reference: &str) -> Result<String, String> {
        self.document.at(reference)?;
        if !self.names.contains_key(reference) {
            let name = self.free_name(reference);
            self.names.insert(reference.to_owned(), name);
            self.open.push(reference.to_owned());
        }
        Ok(format!("#/$defs/{}", self.names[reference]))
    }

    /// `#/components/schemas/Pet` -> `Pet`.
    fn free_name(&self, reference: &str) -> String {
        let last = reference.rsplit('/').next().unwrap_or_default();
        let plain: String = last
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let taken = |name: &str| self.names.values().any(|other| other == name);
        if !taken(&plain) {
            return plain;
        }
        format!("{plain}_{}", self.names.len())
    }

    /// Everything that was referred to.
    pub fn definitions(mut self) -> Result<Map<String, Value>, String> {
        let mut definitions = Map::new();
        while let Some(reference) = self.open.pop() {
            let document = self.document;
            let schema = self.rewrite(document.at(&reference)?)?;
            definitions.insert(self.names[&reference].clone(), schema);
        }
        Ok(definitions)
    }
}

/// In OpenAPI 3.0 whether a bound is exclusive is a flag beside it.
fn exclusive_bound(schema: &mut Map<String, Value>, flag: &str, bound: &str) {
    let Some(Value::Bool(exclusive)) = schema.get(flag) else {
        return;
    };
    let exclusive = *exclusive;
    schema.remove(flag);
    if exclusive && let Some(value) = schema.remove(bound) {
        schema.insert(flag.to_owned(), value);
    }
}

/// The schema, or null.
fn nullable(mut schema: Map<String, Value>) -> Value {
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    match schema.get_mut("type") {
        Some(kind @ Value::String(_)) => {
            *kind = json!([kind.clone(), "null"]);
            Value::Object(schema)
        }
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}
