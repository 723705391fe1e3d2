//! An OpenAPI document and the references within it.

use reqwest::{Method, Url};
use serde_json::Value;

use super::operation::Operation;

/// References followed in a row at most: more go in a circle.
const MAX_HOPS: usize = 32;

const METHODS: [&str; 6] = ["get", "put", "post", "delete", "patch", "head"];

/// A document of version 3.0 or 3.1.
pub struct Document(Value);

impl Document {
    pub fn new(document: Value) -> Result<Self, String> {
        let version = document["openapi"].as_str().unwrap_or_default();
        if !version.starts_with("3.") {
            return Err("this is no OpenAPI document of version 3".to_owned());
        }
        Ok(Self(document))
    }

    /// Where the service is.
    pub fn base(&self, configured: Option<&str>) -> Result<Url, String> {
        let server = &self.0["servers"][0];
        let text = match configured {
            Some(text) => text.to_owned(),
            None => with_defaults(server),
        };
        let mut url = Url::parse(&text).map_err(|error| {
            format!("`{text}` is not where a service can be ({error}); set `base_url`")
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`{text}` is neither http nor https"));
        }
        // Its path is begun by operations' paths, which bring their own slash.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
        }
        url.set_query(None);
        url.set_fragment(None);
        Ok(url)
    }

    /// Follows a value's `$ref`, if it is one.
    pub fn follow<'a>(&'a self, mut value: &'a Value) -> Result<&'a Value, String> {
        for _ in 0..MAX_HOPS {
            let Some(reference) = value["$ref"].as_str() else {
                return Ok(value);
            };
            value = self.at(reference)?;
        }
        Err("its references go in a circle".to_owned())
    }

    /// What a reference points to.
    pub fn at(&self, reference: &str) -> Result<&Value, String> {
        let pointer = reference
            .strip_prefix('#')
            .ok_or_else(|| format!("`{reference}` points out of the document"))?;
        self.0
            .pointer(pointer)
            .ok_or_else(|| format!("`{reference}` points to nothing"))
    }

    /// The operations that can be tools; the others by name, and why they cannot.
    pub fn operations(&self) -> (Vec<Operation>, Vec<(String, String)>) {
        let (mut operations, mut skipped) = (Vec::new(), Vec::new());
        let paths = self.0["paths"].as_object().into_iter().flatten();
        for (path, item) in paths {
            for method in METHODS {
                let name = format!("{} {path}", method.to_uppercase());
                match self.operation(path, item, method) {
                    None => {}
                    Some(Ok(operation)) => operations.push(operation),
                    Some(Err(problem)) => skipped.push((name, problem)),
                }
            }
        }
        (operations, skipped)
    }

    fn operation(
        &self,
        path: &str,
        item: &Value,
        method: &str,
    ) -> Option<Result<Operation, String>> {
        let item = match self.follow(item) {
            Ok(item) => item,
            Err(problem) => return Some(Err(problem)),
        };
        let operation = item.get(method)?;
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).ok()?;
        Some(Operation::read(self, path, &method, item, operation))
    }
}

/// A server's URL with its variables' defaults.
fn with_defaults(server: &Value) -> String {
    let mut url = server["url"].as_str().unwrap_or_default().to_owned();
    for (name, variable) in server["variables"].as_object().into_iter().flatten() {
        let default = variable["default"].as_str().unwrap_or_default();
        url = url.replace(&format!("{{{name}}}"), default);
    }
    url
}
