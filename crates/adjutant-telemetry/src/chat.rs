//! A model call.

use std::{sync::atomic::Ordering, time::Duration};

use adjutant_core::{ModelRequest, ModelResponse, ResponseFormat, TokenUsage};

use crate::{
    Attributes, Failure, Scope, content, conventions as names,
    open::{CANCELLED, Open},
};

/// What the conventions call providers that others name differently.
const PROVIDERS: &[(&str, &str)] = &[
    ("gemini", "gcp.gemini"),
    ("google", "gcp.gemini"),
    ("vertex", "gcp.vertex_ai"),
    ("azure", "azure.ai.openai"),
    ("bedrock", "aws.bedrock"),
    ("mistral", "mistral_ai"),
    ("xai", "x_ai"),
];

/// `anthropic/claude-sonnet-4-5` is a model of a provider; a name without one is a model of nobody known.
pub(crate) fn provider_and_model(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((provider, model)) => (Some(provider), model),
        None if name.is_empty() => (None, "default"),
        None => (None, name),
    }
}

/// A model call that has not ended. Dropped without an end, it was cancelled.
pub struct ChatSpan {
    open: Open,
    first_chunk: Option<Duration>,
    /// What the call's figures belong to.
    figures: Attributes,
    ended: bool,
}

impl ChatSpan {
    pub(crate) fn begin(open: Open, request: &ModelRequest) -> Self {
        let (provider, model) = provider_and_model(&request.model);
        let model = model.to_owned();
        let figures = Attributes::default()
            .with(names::OPERATION_NAME, "chat")
            .with(names::REQUEST_MODEL, model);
        open.trace.model_calls.fetch_add(1, Ordering::Relaxed);
        let mut chat = Self {
            open,
            first_chunk: None,
            figures,
            ended: false,
        };
        chat.provider(provider.unwrap_or("unknown"));
        chat.describe(request);
        chat
    }

    fn describe(&mut self, request: &ModelRequest) {
        let open = &mut self.open;
        open.set_some(names::REQUEST_TEMPERATURE, request.temperature);
        open.set_some(names::REQUEST_TOP_P, request.top_p);
        open.set_some(names::REQUEST_MAX_TOKENS, request.max_output_tokens);
        open.set_some(names::REQUEST_SEED, request.seed);
        if !request.stop.is_empty() {
            open.set(names::REQUEST_STOP_SEQUENCES, request.stop.clone());
        }
        if request.response_format != ResponseFormat::Text {
            open.set(names::OUTPUT_TYPE, "json");
        }
        if open.trace.tells_content() {
            let redactor = open.trace.tracer.options().redactor.clone();
            let instructions = content::instructions(&request.messages, &redactor);
            open.set_some(names::SYSTEM_INSTRUCTIONS, instructions);
            let messages = content::messages(&request.messages, &redactor);
            open.set(names::INPUT_MESSAGES, messages);
            if !request.tools.is_empty() {
                let tools = content::definitions(&request.tools, &redactor);
                open.set(names::TOOL_DEFINITIONS, tools);
            }
        }
    }

    /// Where parts of the call belong.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::of(&self.open)
    }

    /// See [`Scope::traceparent`].
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.scope().traceparent()
    }

    /// Says whose model it is, where the request's name did not.
    pub fn provider(&mut self, provider: &str) {
        let known = PROVIDERS.iter().find(|(other, _)| *other == provider);
        let name = known.map_or(provider, |(_, name)| *name).to_owned();
        self.figures.set(names::PROVIDER_NAME, name);
    }

    /// Says which model is really asked, where the request's name was one of the configuration.
    pub fn model(&mut self, model: &str) {
        self.figures.set(names::REQUEST_MODEL, model.to_owned());
        if let Some(span) = self.open.span() {
            span.name = format!("chat {model}").into();
        }
    }

    /// Says who is asked.
    pub fn server(&mut self, address: &str, port: u16) {
        self.figures.set(names::SERVER_ADDRESS, address.to_owned());
        self.figures.set(names::SERVER_PORT, port);
    }

    /// Notes that the answer has begun. May be called for every chunk; the first one counts.
    pub fn first_chunk(&mut self) {
        if self.first_chunk.is_none() {
            self.first_chunk = Some(self.open.elapsed());
            self.open.set(names::REQUEST_STREAM, true);
        }
    }

    /// Notes something that happened, such as another try.
    pub fn event(&mut self, name: &str, attributes: Attributes) {
        self.open.event(name.to_owned(), attributes);
    }

    /// Ends the call.
    pub fn end(mut self, result: Result<&ModelResponse, Failure<'_>>) {
        self.finish(result);
    }

    fn finish(&mut self, result: Result<&ModelResponse, Failure<'_>>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.open.elapsed();
        match result {
            Ok(response) => self.answered(response),
            Err(failure) => {
                let kind = failure.kind.to_owned();
                self.figures.set(names::ERROR_TYPE, kind);
            }
        }
        if let Some(first) = self.first_chunk {
            let seconds = first.as_secs_f64();
            self.open.set(names::RESPONSE_TIME_TO_FIRST_CHUNK, seconds);
            self.measure(&names::TIME_TO_FIRST_CHUNK, seconds);
        }
        if let Some(span) = self.open.span() {
            span.attributes.fill(&self.figures);
        }
        self.open.end(result.err());
        self.measure(&names::OPERATION_DURATION, took.as_secs_f64());
    }

    fn answered(&mut self, response: &ModelResponse) {
        let model = response.model.clone();
        self.figures.set(names::RESPONSE_MODEL, model);
        let open = &mut self.open;
        open.set_some(names::RESPONSE_ID, response.response_id.clone());
        let reason = response.finish_reason.as_str().to_owned();
        open.set(names::RESPONSE_FINISH_REASONS, vec![reason]);
        open.set_some(names::COST_USD, response.cost_usd);
        if open.trace.tells_content() {
            let redactor = &open.trace.tracer.options().redactor;
            let reason = Some(response.finish_reason);
            let text = content::output(&response.message, reason, redactor);
            open.set(names::OUTPUT_MESSAGES, text);
        }
        self.used(response.usage);
        if let Some(cost) = response.cost_usd {
            self.measure(&names::COST, cost);
        }
    }

    fn used(&mut self, usage: TokenUsage) {
        let open = &mut self.open;
        open.set_some(names::USAGE_CACHE_READ, usage.cache_read_tokens);
        open.set_some(names::USAGE_CACHE_CREATION, usage.cache_write_tokens);
        open.set_some(names::USAGE_REASONING, usage.reasoning_tokens);
        let both = [
            (names::USAGE_INPUT_TOKENS, "input", usage.input_tokens),
            (names::USAGE_OUTPUT_TOKENS, "output", usage.output_tokens),
        ];
        // Both zero: nobody counted.
        if usage.input_tokens == 0 && usage.output_tokens == 0 {
            return;
        }
        for (name, kind, tokens) in both {
            self.open.set(name, tokens);
            let figures = self.figures.clone().with(names::TOKEN_TYPE, kind);
            #[expect(clippy::cast_precision_loss, reason = "below 2^52 tokens")]
            let tokens = tokens as f64;
            let tracer = &self.open.trace.tracer;
            tracer.measure(&names::TOKEN_USAGE, tokens, figures);
        }
    }

    fn measure(&self, instrument: &'static crate::Instrument, value: f64) {
        let figures = self.figures.clone();
        self.open.trace.tracer.measure(instrument, value, figures);
    }
}

impl Drop for ChatSpan {
    fn drop(&mut self) {
        self.finish(Err(CANCELLED));
    }
}
