//! Tools that are functions of this program.

use std::{
    collections::HashMap, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration,
};

use adjutant_core::{AgentError, Effect, Json, ToolAnswer, ToolSpec};
use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Caller, Invocation, Reply, Result, ToolError, ToolSource};

/// What a function may want to know of its call.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Who calls.
    pub caller: Caller,
    /// The same for every try of this call.
    pub idempotency_key: String,
    /// W3C trace context of the span around the call.
    pub traceparent: Option<String>,
}

type Body = Arc<
    dyn Fn(CallContext, Json) -> BoxFuture<'static, Result<ToolAnswer, AgentError>> + Send + Sync,
>;

/// A tool that is an async function from its arguments to a result. The schema comes from the type of the arguments.
///
/// ```
/// use adjutant_core::Effect;
/// use adjutant_tools::FunctionTool;
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Add {
///     /// The first number.
///     a: i64,
///     b: i64,
/// }
///
/// let add = FunctionTool::new("add", "Adds two numbers", |add: Add| async move { Ok(add.a + add.b) })
///     .effect(Effect::ReadOnly);
/// assert!(add.spec().input_schema.as_str().contains("The first number."));
/// ```
///
/// A result that is text becomes text for the model, any other is its JSON. An error or a panic of the function is an
/// answer with `is_error`, which the model reads.
#[derive(Clone)]
pub struct FunctionTool {
    spec: ToolSpec,
    body: Body,
    timeout: Option<Duration>,
}

impl FunctionTool {
    /// A function of its arguments.
    pub fn new<A, R, F, Fut>(
        name: impl Into<String>,
        description: impl Into<String>,
        function: F,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + Send,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, AgentError>> + Send + 'static,
    {
        Self::with_context(name, description, move |_, arguments| function(arguments))
    }

    /// A function that wants to know who calls.
    pub fn with_context<A, R, F, Fut>(
        name: impl Into<String>,
        description: impl Into<String>,
        function: F,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + Send,
        F: Fn(CallContext, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, AgentError>> + Send + 'static,
    {
        let spec = ToolSpec::new(name, description, schema_of::<A>());
        Self::raw(spec, move |context, arguments| {
            // Read before the future begins, so that the future need not hold the function.
            let called = read(&arguments).map(|arguments| function(context, arguments));
            async move { answer(&called?.await?) }
        })
    }

    /// A function that blocks its thread: it gets one from the pool for that. A call that is given up goes on there.
    pub fn blocking<A, R, F>(
        name: impl Into<String>,
        description: impl Into<String>,
        function: F,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(A) -> Result<R, AgentError> + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        Self::new(name, description, move |arguments: A| {
            let function = function.clone();
            async move { tokio::task::spawn_blocking(move || function(arguments)).await? }
        })
    }

    /// A function that describes itself and makes its own answers.
    pub fn raw<F, Fut>(spec: ToolSpec, function: F) -> Self
    where
        F: Fn(CallContext, Json) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ToolAnswer, AgentError>> + Send + 'static,
    {
        Self {
            spec,
            body: Arc::new(move |context, arguments| function(context, arguments).boxed()),
            timeout: None,
        }
    }

    /// What calling it does to the world. Default: [`Effect::Unsafe`].
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.spec.effect = effect;
        self
    }

    /// The type of its result, described to whoever wants to know.
    #[must_use]
    pub fn returns<R: JsonSchema>(mut self) -> Self {
        self.spec.output_schema = Some(schema_of::<R>());
        self
    }

    /// Longest time for a call. The caller's own limit may be lower.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How the tool is described.
    #[must_use]
    pub fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, caller: &Caller, call: Invocation<'_>) -> Result<Reply> {
        let context = CallContext {
            caller: caller.clone(),
            idempotency_key: call.idempotency_key.to_owned(),
            traceparent: call.traceparent.map(str::to_owned),
        };
        let after = self
            .timeout
            .map_or(call.timeout, |own| own.min(call.timeout));
        let body = || (self.body)(context, call.arguments.clone());
        let work = AssertUnwindSafe(async move { body().await }).catch_unwind();
        let answer = match tokio::time::timeout(after, work).await {
            Ok(Ok(Ok(answer))) => answer,
            Ok(Ok(Err(error))) => ToolAnswer::failed(error.to_string()),
            Ok(Err(_panic)) => ToolAnswer::failed("the tool panicked"),
            Err(_elapsed) => {
                return Err(ToolError::Timeout {
                    tool: call.name.to_owned(),
                    after,
                    sent: true,
                });
            }
        };
        Ok(Reply::Answer(answer))
    }
}

fn schema_of<T: JsonSchema>() -> Json {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<T>();
    // Words about the Rust type that cost a model's tokens and tell it nothing.
    schema.remove("$schema");
    schema.remove("title");
    Json::from_value(&schema).unwrap_or_default()
}

fn read<A: DeserializeOwned>(arguments: &Json) -> Result<A, AgentError> {
    arguments
        .to()
        .map_err(|error| AgentError::permanent("invalid_arguments", error.to_string()))
}

fn answer<R: Serialize>(result: &R) -> Result<ToolAnswer, AgentError> {
    Ok(match serde_json::to_value(result)? {
        Value::String(text) => ToolAnswer::text(text),
        Value::Null => ToolAnswer::text("done"),
        data @ Value::Object(_) => ToolAnswer::data(data),
        // MCP's structured content was an object until lately; text serves every model.
        other => ToolAnswer::text(other.to_string()),
    })
}

/// Functions as a source of tools.
pub struct Functions {
    name: String,
    tools: Vec<FunctionTool>,
    index: HashMap<String, usize>,
}

impl Functions {
    /// These functions.
    ///
    /// # Errors
    /// When two of them have the same name, or one has a name that model providers do not take.
    pub fn new(
        name: impl Into<String>,
        tools: impl IntoIterator<Item = FunctionTool>,
    ) -> Result<Self> {
        let tools: Vec<_> = tools.into_iter().collect();
        let mut index = HashMap::new();
        for (place, tool) in tools.iter().enumerate() {
            let name = &tool.spec.name;
            crate::registry::check_name(name)?;
            if index.insert(name.clone(), place).is_some() {
                return Err(ToolError::failed(
                    name,
                    "there are two functions of this name",
                ));
            }
        }
        Ok(Self {
            name: name.into(),
            tools,
            index,
        })
    }
}

#[async_trait]
impl ToolSource for Functions {
    fn name(&self) -> &str {
        &self.name
    }

    async fn list(&self, _caller: &Caller) -> Result<Vec<ToolSpec>> {
        Ok(self.tools.iter().map(|tool| tool.spec.clone()).collect())
    }

    async fn call(&self, caller: &Caller, call: Invocation<'_>) -> Result<Reply> {
        let place = self
            .index
            .get(call.name)
            .ok_or_else(|| ToolError::NotFound {
                tool: call.name.to_owned(),
            })?;
        self.tools[*place].call(caller, call).await
    }
}
