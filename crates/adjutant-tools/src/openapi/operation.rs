//! One operation of a document.

use adjutant_core::ToolSpec;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{document::Document, schema::Schemas};
use crate::{
    BodyForm,
    http::{Template, effect_of},
};

/// An operation that can be a tool.
pub struct Operation {
    /// The operation's id, or one made of method and path.
    pub id: String,
    pub spec: ToolSpec,
    pub method: Method,
    pub path: Vec<Template>,
    pub parameters: Vec<Parameter>,
    pub body: Option<BodyForm>,
}

/// A parameter outside the path.
pub struct Parameter {
    pub name: String,
    pub place: Place,
}

/// Where a parameter goes.
#[derive(Clone, Copy)]
pub enum Place {
    /// Lists joined by commas, or repeated.
    Query {
        joined: bool,
    },
    Header,
}

/// Headers that are not for arguments to set.
const RESERVED: [&str; 4] = ["accept", "content-type", "authorization", "idempotency-key"];

/// An operation's schema while its parts are added.
struct Arguments<'a> {
    document: &'a Document,
    schemas: Schemas<'a>,
    properties: Map<String, Value>,
    required: Vec<String>,
    parameters: Vec<Parameter>,
}

impl Operation {
    /// # Errors
    /// Why it cannot be a tool.
    pub fn read(
        document: &Document,
        path: &str,
        method: &Method,
        item: &Value,
        operation: &Value,
    ) -> Result<Self, String> {
        let mut arguments = Arguments {
            document,
            schemas: Schemas::new(document),
            properties: Map::new(),
            required: Vec::new(),
            parameters: Vec::new(),
        };
        for parameter in parameters(document, item, operation)? {
            arguments.parameter(parameter)?;
        }
        let body = arguments.body(&operation["requestBody"])?;
        let template = path
            .trim_start_matches('/')
            .split('/')
            .map(Template::parse)
            .collect::<Result<Vec<_>, _>>()?;
        for name in template.iter().flat_map(Template::arguments) {
            if !arguments.properties.contains_key(name) {
                return Err(format!("nothing describes its parameter `{name}`"));
            }
        }
        let id = operation["operationId"].as_str();
        let id = id.map_or_else(|| made_up_id(method, path), str::to_owned);
        let (schema, parameters) = arguments.finish()?;
        Ok(Self {
            spec: ToolSpec::new(&id, description(operation), schema).effect(effect_of(method)),
            id,
            method: method.clone(),
            path: template,
            parameters,
            body,
        })
    }
}

/// The path's parameters and the operation's, which take the place of the path's.
fn parameters<'a>(
    document: &'a Document,
    item: &'a Value,
    operation: &'a Value,
) -> Result<Vec<&'a Value>, String> {
    let mut found: Vec<&Value> = Vec::new();
    for list in [&item["parameters"], &operation["parameters"]] {
        for parameter in list.as_array().into_iter().flatten() {
            let parameter = document.follow(parameter)?;
            let same = |other: &&Value| {
                other["name"] == parameter["name"] && other["in"] == parameter["in"]
            };
            found.retain(|other| !same(other));
            found.push(parameter);
        }
    }
    Ok(found)
}

impl Arguments<'_> {
    fn parameter(&mut self, parameter: &Value) -> Result<(), String> {
        let name = parameter["name"]
            .as_str()
            .ok_or("a parameter has no name")?;
        let required = parameter["required"] == true;
        let place = match parameter["in"].as_str() {
            Some("path") => None,
            Some("query") => Some(Place::Query {
                joined: parameter["explode"] == false,
            }),
            Some("header") if !is_reserved(name) => Some(Place::Header),
            // Set by configuration, not by a model.
            Some("header") => return Ok(()),
            Some("cookie") if required => return Err(format!("it needs the cookie `{name}`")),
            _ => return Ok(()),
        };
        if let Some(place) = place {
            self.parameters.push(Parameter {
                name: name.to_owned(),
                place,
            });
        }
        // A parameter's schema stands in a media type of its content where it is not simple.
        let content = parameter["content"].as_object();
        let schema = content
            .and_then(|content| content.values().next())
            .map_or(&parameter["schema"], |media| &media["schema"]);
        let mut schema = self.schemas.rewrite(schema)?;
        describe(&mut schema, &parameter["description"]);
        self.add(name, schema, required || place.is_none())
    }

    fn body(&mut self, body: &Value) -> Result<Option<BodyForm>, String> {
        if body.is_null() {
            return Ok(None);
        }
        let body = self.document.follow(body)?;
        let content = body["content"]
            .as_object()
            .ok_or("its body has no content")?;
        let (form, media) = content
            .iter()
            .find_map(|(mime, media)| Some((body_form(mime)?, media)))
            .ok_or_else(|| {
                let types: Vec<_> = content.keys().map(String::as_str).collect();
                format!(
                    "its body is neither JSON nor a form but {}",
                    types.join(", ")
                )
            })?;
        let mut schema = self.schemas.rewrite(&media["schema"])?;
        describe(&mut schema, &body["description"]);
        self.add("body", schema, body["required"] == true)?;
        Ok(Some(form))
    }

    fn add(&mut self, name: &str, schema: Value, required: bool) -> Result<(), String> {
        if self.properties.insert(name.to_owned(), schema).is_some() {
            return Err(format!("two of its parameters are called `{name}`"));
        }
        if required {
            self.required.push(name.to_owned());
        }
        Ok(())
    }

    fn finish(self) -> Result<(Value, Vec<Parameter>), String> {
        let mut schema = json!({
            "type": "object",
            "properties": self.properties,
            "required": self.required,
            "additionalProperties": false,
        });
        let definitions = self.schemas.definitions()?;
        if !definitions.is_empty() {
            schema["$defs"] = Value::Object(definitions);
        }
        Ok((schema, self.parameters))
    }
}

fn is_reserved(name: &str) -> bool {
    RESERVED
        .iter()
        .any(|other| other.eq_ignore_ascii_case(name))
}

fn body_form(mime: &str) -> Option<BodyForm> {
    let mime = mime.split(';').next().unwrap_or_default().trim();
    match mime {
        "application/x-www-form-urlencoded" => Some(BodyForm::Form),
        "application/json" | "*/*" => Some(BodyForm::Json),
        _ if mime.ends_with("+json") => Some(BodyForm::Json),
        _ => None,
    }
}

/// Adds a description where the schema has none of its own.
fn describe(schema: &mut Value, text: &Value) {
    if let (Some(schema), Some(text)) = (schema.as_object_mut(), text.as_str()) {
        schema.entry("description").or_insert_with(|| text.into());
    }
}

fn description(operation: &Value) -> String {
    let part = |name: &str| operation[name].as_str().map(str::trim).unwrap_or_default();
    let (summary, description) = (part("summary"), part("description"));
    match (summary, description) {
        (one, "") | ("", one) => one.to_owned(),
        (one, other) if one == other => one.to_owned(),
        (one, other) => format!("{one}\n{other}"),
    }
}

/// `GET /users/{id}` -> `get_users_id`.
fn made_up_id(method: &Method, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let method = method.as_str().to_lowercase();
    std::iter::once(method.as_str())
        .chain(words)
        .collect::<Vec<_>>()
        .join("_")
}
