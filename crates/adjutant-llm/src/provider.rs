//! A provider on the network, spoken to through the `genai` library.
//!
//! What the library is used for: the requests' and answers' JSON in each provider's own form, server-sent events, the
//! oddities of many providers. What is done here: which adapter and endpoint are meant (never guessed from a name), keys,
//! timeouts, bounds, what kind of error it was, and that an answer that broke off is no answer.

mod answer;
mod ask;
mod calls;
mod classify;
mod client;
mod retry_after;
#[cfg(test)]
mod suites;
mod thinking;
mod watch;

use std::sync::Arc;

use adjutant_core::{DeltaSink, ModelDelta, ModelRequest, ModelResponse};
use async_trait::async_trait;
use genai::{
    Client, ModelIden, ServiceTarget,
    adapter::AdapterKind,
    resolver::{AuthData, Endpoint},
};

use crate::{
    LanguageModel, ModelError, Result, Secret, Timeouts, Wire,
    provider::{answer::Answer, watch::Watch},
};

/// Whether an address can be used.
pub(crate) fn check_base_url(text: &str) -> Result<()> {
    client::base_url(text).map(drop)
}

/// How a provider is reached; what [`crate::ModelRouter`] makes of a [`crate::ProviderConfig`].
#[derive(Debug, Clone)]
pub struct Connection {
    /// The provider's name, for errors.
    pub name: String,
    /// What it speaks.
    pub wire: Wire,
    /// Where it is, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// Its key, if it needs one.
    pub key: Option<Secret>,
    /// Further headers of every request.
    pub headers: Vec<(String, Secret)>,
    /// HTTP proxy, if one is to be used.
    pub proxy: Option<String>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Whether to ask for the reasoning; absent decides by the model's name.
    pub reasoning: Option<bool>,
}

/// A provider on the network. Requests name the model as the provider does, without `provider/`.
pub struct Provider {
    connection: Connection,
    adapter: Adapter,
    client: Client,
    endpoint: Endpoint,
}

/// Which of the library's adapters speaks for a provider.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Adapter {
    One(AdapterKind),
    /// OpenAI itself: responses for the models that need them for tools, chat completions for the others.
    ByOpenaiModel,
}

impl Adapter {
    fn of(self, model: &str) -> AdapterKind {
        match self {
            Self::One(kind) => kind,
            Self::ByOpenaiModel if wants_responses(model) => AdapterKind::OpenAIResp,
            Self::ByOpenaiModel => AdapterKind::OpenAI,
        }
    }
}

/// `gpt-5` and later, which do not call tools in chat completions while they reason.
fn wants_responses(model: &str) -> bool {
    let version = model.strip_prefix("gpt-").unwrap_or("");
    let digits = version.find(|c: char| !c.is_ascii_digit());
    let major = version.get(..digits.unwrap_or(version.len()));
    major
        .and_then(|major| major.parse::<u32>().ok())
        .is_some_and(|major| major >= 5)
}

impl Provider {
    /// Prepares calls; nothing is sent yet.
    ///
    /// # Errors
    /// When address, proxy or a header is not usable.
    pub fn new(connection: Connection) -> Result<Self> {
        let adapter = Adapter::One(connection.wire.adapter());
        Self::with_adapter(connection, adapter)
    }

    pub(crate) fn with_adapter(connection: Connection, adapter: Adapter) -> Result<Self> {
        let client = client::build(&connection).map_err(|error| error.of(&connection.name))?;
        let endpoint = client::base_url(&connection.base_url)
            .map(Endpoint::from_owned)
            .map_err(|error| error.of(&connection.name))?;
        Ok(Self {
            connection,
            adapter,
            client,
            endpoint,
        })
    }

    fn target(&self, model: &str) -> ServiceTarget {
        // The library takes what stands before `::` for an adapter's name; this makes it part of no name.
        let name = if model.contains("::") {
            format!("model::{model}")
        } else {
            model.to_owned()
        };
        // Adapters insist on a key; servers that need none do not look at it.
        let key = self
            .connection
            .key
            .as_ref()
            .map_or("none", |key| key.expose());
        ServiceTarget {
            endpoint: self.endpoint.clone(),
            auth: AuthData::from_single(key),
            model: ModelIden::new(self.adapter.of(model), name),
        }
    }

    /// The error with its model's name and without the key, should the provider have repeated it.
    fn told(&self, model: &str, mut error: ModelError) -> ModelError {
        if let Some(key) = &self.connection.key {
            error.message = key.redact(&error.message);
        }
        error.of(format!("{}/{model}", self.connection.name))
    }
}

#[async_trait]
impl LanguageModel for Provider {
    async fn generate(
        &self,
        request: &ModelRequest,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        let model = request.model.as_str();
        let told = |error| self.told(model, error);
        let target = self.target(model);
        let asked = ask::ask(target.model.adapter_kind, request, &self.connection).map_err(told)?;
        let watch = Arc::new(Watch::new(target.model.adapter_kind));
        let options = asked.options.with_raw_frame_sink_arc(watch.clone());

        let mut shown = false;
        let mut show = Show {
            deltas,
            shown: &mut shown,
        };
        // Always streamed, also when nobody looks: only so can a silent provider be told from a slow one.
        let result = async {
            let stream = self
                .client
                .exec_chat_stream(target, asked.request, Some(&options))
                .await
                .map_err(|error| classify::error(&error, &watch))?;
            Answer::collect(stream.stream, &watch, &self.connection.timeouts, &mut show).await
        }
        .await;
        result
            .map_err(|mut error: ModelError| {
                error.shown |= shown;
                told(error)
            })
            .map(|answer| answer.into_response(model, &watch))
    }
}

/// Who sees the pieces, and whether there were any.
struct Show<'a, 'd> {
    deltas: Option<&'a mut DeltaSink<'d>>,
    shown: &'a mut bool,
}

impl Show<'_, '_> {
    fn piece(&mut self, piece: impl FnOnce() -> ModelDelta) {
        if let Some(deltas) = &mut self.deltas {
            *self.shown = true;
            deltas(piece());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openai_models_from_five_on_speak_responses() {
        for (model, responses) in [
            ("gpt-5", true),
            ("gpt-6.1-sol", true),
            ("gpt-10", true),
            ("gpt-4.1", false),
            ("gpt-4o", false),
            ("gpt-oss-120b", false),
            ("o3", false),
        ] {
            assert_eq!(wants_responses(model), responses, "{model}");
        }
    }
}
