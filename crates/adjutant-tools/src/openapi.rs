//! Tools out of an OpenAPI document, 3.0 or 3.1: one for each operation.

mod document;
mod operation;
mod schema;

use std::collections::{BTreeMap, HashMap};

use adjutant_core::ToolSpec;
use async_trait::async_trait;
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use self::{
    document::Document,
    operation::{Operation, Place},
};
use crate::{
    Caller, HttpClient, Invocation, Reply, Result, Secret, ToolError, ToolSource,
    http::{Filled, Outgoing, answer, append, call_headers, fill_segment, scalar, secret_header},
    qualified_name,
};

/// What a document does not say.
#[derive(Debug, Clone, Default)]
pub struct OpenApiOptions {
    /// Where the service is; default: the document's first server.
    pub base_url: Option<String>,
    /// Sent with every call, such as an API key. Their values are never shown. The document's own security schemes are
    /// not looked at: which key goes where is for people to say.
    pub headers: BTreeMap<String, Secret>,
}

/// The operations of an OpenAPI document as tools named `source__operationId`.
pub struct OpenApiSource {
    name: String,
    client: HttpClient,
    base: Url,
    headers: HeaderMap,
    operations: Vec<Operation>,
    index: HashMap<String, usize>,
    skipped: Vec<(String, String)>,
}

impl OpenApiSource {
    /// Reads a document. References are followed within it only.
    ///
    /// # Errors
    /// When it is no OpenAPI document of version 3, says no server, or two operations come out with the same name.
    pub fn new(
        name: impl Into<String>,
        document: Value,
        client: HttpClient,
        options: &OpenApiOptions,
    ) -> Result<Self> {
        let name = name.into();
        let bad = |problem: String| ToolError::failed(&name, problem);
        let document = Document::new(document).map_err(bad)?;
        let base = document.base(options.base_url.as_deref()).map_err(bad)?;
        let mut headers = HeaderMap::new();
        for (header, value) in &options.headers {
            headers.extend([secret_header(&name, header, value)?]);
        }
        let (mut operations, skipped) = document.operations();
        let mut index = HashMap::new();
        for (place, operation) in operations.iter_mut().enumerate() {
            operation.spec.name = qualified_name(&name, &operation.id);
            if index.insert(operation.spec.name.clone(), place).is_some() {
                let tool = &operation.spec.name;
                return Err(bad(format!("two operations come out as the tool `{tool}`")));
            }
        }
        Ok(Self {
            name,
            client,
            base,
            headers,
            operations,
            index,
            skipped,
        })
    }

    /// The operations that are no tools, and why.
    #[must_use]
    pub fn skipped(&self) -> &[(String, String)] {
        &self.skipped
    }

    fn outgoing(&self, operation: &Operation, call: Invocation<'_>) -> Result<Outgoing> {
        let mut arguments = Filled::new(call.name, call.arguments)?;
        let mut url = self.base.clone();
        for segment in &operation.path {
            fill_segment(call.name, &mut url, segment, &mut arguments)?;
        }
        let mut headers = call_headers(&operation.method, call);
        for parameter in &operation.parameters {
            let Some(value) = arguments.take(&parameter.name) else {
                continue;
            };
            match parameter.place {
                Place::Query { joined } => query(&mut url, &parameter.name, value, joined),
                Place::Header => set_header(call.name, &mut headers, &parameter.name, value)?,
            }
        }
        let mut body = None;
        if let (Some(form), Some(value)) = (operation.body, arguments.take("body")) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
            body = Some(form.encode(value));
        }
        // Last, so that no argument takes the place of a key.
        headers.extend(self.headers.clone());
        Ok(Outgoing {
            method: operation.method.clone(),
            url,
            headers,
            body,
        })
    }
}

#[async_trait]
impl ToolSource for OpenApiSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn list(&self, _caller: &Caller) -> Result<Vec<ToolSpec>> {
        let specs = self.operations.iter().map(|operation| &operation.spec);
        Ok(specs.cloned().collect())
    }

    async fn call(&self, _caller: &Caller, call: Invocation<'_>) -> Result<Reply> {
        let place = self
            .index
            .get(call.name)
            .ok_or_else(|| ToolError::NotFound {
                tool: call.name.to_owned(),
            })?;
        let out = self.outgoing(&self.operations[*place], call)?;
        let incoming = self.client.send(call.name, out, call.timeout).await?;
        Ok(Reply::Answer(answer(&incoming)))
    }
}

/// Lists are repeated or joined by commas; the fields of an object are parameters of their own.
fn query(url: &mut Url, name: &str, value: &Value, joined: bool) {
    match value {
        Value::Array(items) if joined => {
            let items: Vec<String> = items.iter().map(scalar).collect();
            append(url, name, &items.join(",").into());
        }
        Value::Object(fields) => {
            for (field, value) in fields {
                append(url, field, value);
            }
        }
        other => append(url, name, other),
    }
}

fn set_header(tool: &str, headers: &mut HeaderMap, name: &str, value: &Value) -> Result<()> {
    let bad = |what| {
        ToolError::invalid(
            tool,
            format!("/{name}"),
            format!("is no {what} of a header"),
        )
    };
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("name"))?;
    let value = HeaderValue::from_str(&scalar(value)).map_err(|_| bad("value"))?;
    headers.insert(header, value);
    Ok(())
}
