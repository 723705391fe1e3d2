//! Tools and models that the host offers.

use adjutant_wire::{
    LlmAnswer, LlmDelta, LlmGenerate, ToolAnswer, ToolDescription, ToolsCall, ToolsList,
};
use serde_json::{Map, Value};

use crate::{
    attempt::RunHandle,
    error::{AgentError, RunResult},
};

/// Each call is journaled by its place in the run: a later attempt that makes the same calls in the same order gets the
/// recorded answers.
impl RunHandle {
    /// The tools that the run may use.
    ///
    /// # Errors
    ///
    /// When the host has none, or the attempt is over.
    pub fn tools(&self) -> RunResult<Vec<ToolDescription>> {
        let (mut tools, mut cursor) = (Vec::new(), None);
        loop {
            let scope = self.0.scope.clone();
            let page = self.0.call(&ToolsList { scope, cursor })?;
            tools.extend(page.tools);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(tools),
            }
        }
    }

    /// Uses a tool. A tool that fails is an answer with `is_error`.
    ///
    /// # Errors
    ///
    /// When the host has no such tool or refuses the call, or the attempt is over.
    pub fn call_tool(&self, name: &str, arguments: Map<String, Value>) -> RunResult<ToolAnswer> {
        let call = ToolsCall {
            scope: self.0.scope.clone(),
            call_id: self.unique_key(name),
            name: name.to_owned(),
            arguments,
            timeout_ms: None,
        };
        self.0.call_waiting(&call)
    }

    /// Asks a model: `{model, messages, …}`, see the wire's reference.
    ///
    /// # Errors
    ///
    /// When the request is no JSON object, the host has no model or refuses, or the attempt is over.
    pub fn generate(&self, request: Value) -> RunResult<LlmAnswer> {
        let call = self.generation(request, false)?;
        self.0.call_waiting(&call)
    }

    /// Asks a model and hears its answer piece by piece; pieces are for showing and may be left out.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate).
    pub fn generate_streaming(
        &self,
        request: Value,
        on_delta: impl FnMut(&LlmDelta) + Send + 'static,
    ) -> RunResult<LlmAnswer> {
        let call = self.generation(request, true)?;
        self.0.listen(&call.call_id, Some(Box::new(on_delta)));
        let answer = self.0.call_waiting(&call);
        self.0.listen(&call.call_id, None);
        answer
    }

    fn generation(&self, request: Value, stream: bool) -> RunResult<LlmGenerate> {
        let Value::Object(request) = request else {
            let error = AgentError::permanent("invalid_request", "the request must be an object");
            return Err(error.into());
        };
        Ok(LlmGenerate {
            scope: self.0.scope.clone(),
            call_id: self.unique_key("generate"),
            request,
            stream,
        })
    }
}
