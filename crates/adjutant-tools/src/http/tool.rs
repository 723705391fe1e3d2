//! One HTTP request as a tool.

use std::collections::BTreeMap;

use adjutant_core::{Effect, Json, ToolSpec};
use async_trait::async_trait;
use reqwest::{
    Method, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    BodyForm, HttpClient, Secret,
    answer::answer,
    client::{Outgoing, secret_header},
    request::{Filled, Template, append, fill_segment},
};
use crate::{Caller, Invocation, Reply, Result, ToolError, ToolSource, registry::check_name};

/// A tool that is one HTTP request.
///
/// The path takes the arguments that it names. Of the others, GET, HEAD and DELETE put theirs into the query, the other
/// methods into the body.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpToolConfig {
    /// The tool's name.
    pub name: String,
    /// What it does, for the model.
    #[serde(default)]
    pub description: String,
    /// Default `GET`.
    #[serde(default = "get")]
    pub method: String,
    /// Such as `https://api.example.com/users/{id}?fields={fields}`. Scheme, host and port are fixed.
    pub url: String,
    /// Sent with every call. Their values are never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// JSON Schema of the arguments. Default: a text for each that the URL names.
    #[serde(default)]
    pub input_schema: Option<Json>,
    /// How arguments go into a body.
    #[serde(default)]
    pub body: BodyForm,
    /// What a call does to the world. Default by method: GET and HEAD only look, PUT and DELETE may be repeated, nothing
    /// is known of the others. `keyed` promises that the server minds the header `Idempotency-Key`.
    #[serde(default)]
    pub effect: Option<Effect>,
}

fn get() -> String {
    "GET".to_owned()
}

/// What a method does to the world by HTTP's own rules.
pub fn effect_of(method: &Method) -> Effect {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Effect::ReadOnly,
        Method::PUT | Method::DELETE => Effect::Idempotent,
        _ => Effect::Unsafe,
    }
}

/// The header that tells tries of one call from calls.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A tool that is one HTTP request, checked.
pub struct HttpTool {
    spec: ToolSpec,
    method: Method,
    origin: Url,
    path: Vec<Template>,
    query: Vec<(String, Template)>,
    headers: HeaderMap,
    body: BodyForm,
}

impl HttpTool {
    /// Checks a configuration.
    ///
    /// # Errors
    /// What is wrong with it, by its field.
    pub fn new(config: HttpToolConfig) -> Result<Self> {
        let name = &config.name;
        check_name(name)?;
        let bad = |problem: String| ToolError::failed(name, problem);
        let method = Method::from_bytes(config.method.to_ascii_uppercase().as_bytes())
            .map_err(|error| bad(format!("method: {error}")))?;
        let (origin, path, query) =
            parts(&config.url).map_err(|problem| bad(format!("url: {problem}")))?;
        let mut headers = HeaderMap::new();
        for (header, value) in &config.headers {
            headers.extend([secret_header(name, header, value)?]);
        }
        let schema = config
            .input_schema
            .unwrap_or_else(|| default_schema(&path, &query));
        let effect = config.effect.unwrap_or_else(|| effect_of(&method));
        Ok(Self {
            spec: ToolSpec::new(config.name, config.description, schema).effect(effect),
            method,
            origin,
            path,
            query,
            headers,
            body: config.body,
        })
    }

    /// How the tool is described.
    #[must_use]
    pub fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, client: &HttpClient, call: Invocation<'_>) -> Result<Reply> {
        let out = self.outgoing(call)?;
        let incoming = client.send(call.name, out, call.timeout).await?;
        Ok(Reply::Answer(answer(&incoming)))
    }

    fn outgoing(&self, call: Invocation<'_>) -> Result<Outgoing> {
        let mut arguments = Filled::new(call.name, call.arguments)?;
        let mut url = self.origin.clone();
        for segment in &self.path {
            fill_segment(call.name, &mut url, segment, &mut arguments)?;
        }
        for (name, template) in &self.query {
            // A parameter whose argument is absent is left out.
            if let Ok(value) = template.fill(&mut arguments) {
                append(&mut url, name, &value.into());
            }
        }
        let mut headers = call_headers(&self.method, call);
        let rest = arguments.rest();
        let body = if matches!(self.method, Method::GET | Method::HEAD | Method::DELETE) {
            for (name, value) in &rest {
                append(&mut url, name, value);
            }
            None
        } else {
            let content_type = HeaderValue::from_static(self.body.content_type());
            headers.insert(CONTENT_TYPE, content_type);
            Some(self.body.encode(&Value::Object(rest)))
        };
        headers.extend(self.headers.clone());
        Ok(Outgoing {
            method: self.method.clone(),
            url,
            headers,
            body,
        })
    }
}

/// The headers that every call has. What changes something carries its key, whether or not the server minds it.
pub fn call_headers(method: &Method, call: Invocation<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        ACCEPT,
        HeaderValue::from_static("application/json, text/*;q=0.9, */*;q=0.8"),
    );
    let mut add = |name, value: Option<&str>| {
        if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
            headers.insert(name, value);
        }
    };
    let key = Some(call.idempotency_key).filter(|key| !key.is_empty() && !method.is_safe());
    add(IDEMPOTENCY_KEY, key);
    add(TRACEPARENT, call.traceparent);
    headers
}

type Parts = (Url, Vec<Template>, Vec<(String, Template)>);

/// Takes a URL template apart. Only its path and query may have places for arguments.
fn parts(text: &str) -> Result<Parts, String> {
    let (scheme, rest) = text
        .split_once("://")
        .ok_or("it has no scheme such as `https://`")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if authority.contains('{') {
        return Err("its host cannot be an argument".to_owned());
    }
    let mut origin =
        Url::parse(&format!("{scheme}://{authority}")).map_err(|error| error.to_string())?;
    if !matches!(origin.scheme(), "http" | "https") {
        return Err("it is neither http nor https".to_owned());
    }
    origin.set_path("");
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path
        .split('/')
        .map(Template::parse)
        .collect::<Result<Vec<_>, _>>()?;
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((name.to_owned(), Template::parse(value)?))
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok((origin, path, query))
}

fn default_schema(path: &[Template], query: &[(String, Template)]) -> Json {
    let required: Vec<&str> = path.iter().flat_map(Template::arguments).collect();
    let optional = query.iter().flat_map(|(_, template)| template.arguments());
    let properties: Map<String, Value> = required
        .iter()
        .copied()
        .chain(optional)
        .map(|name| (name.to_owned(), json!({ "type": "string" })))
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
    .into()
}

/// HTTP tools as a source.
pub struct HttpTools {
    name: String,
    client: HttpClient,
    tools: Vec<HttpTool>,
}

impl HttpTools {
    /// These tools, all going out through one client.
    #[must_use]
    pub fn new(name: impl Into<String>, client: HttpClient, tools: Vec<HttpTool>) -> Self {
        Self {
            name: name.into(),
            client,
            tools,
        }
    }
}

#[async_trait]
impl ToolSource for HttpTools {
    fn name(&self) -> &str {
        &self.name
    }

    async fn list(&self, _caller: &Caller) -> Result<Vec<ToolSpec>> {
        Ok(self.tools.iter().map(|tool| tool.spec.clone()).collect())
    }

    async fn call(&self, _caller: &Caller, call: Invocation<'_>) -> Result<Reply> {
        let mut tools = self.tools.iter();
        let tool = tools
            .find(|tool| tool.spec.name == call.name)
            .ok_or_else(|| ToolError::NotFound {
                tool: call.name.to_owned(),
            })?;
        tool.call(&self.client, call).await
    }
}
