//! From a model's name to its provider, with everything in between.

mod build;
mod names;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use adjutant_core::{DeltaSink, ModelRequest, ModelResponse};
use async_trait::async_trait;

use self::names::Names;
pub use self::names::Target;
use crate::{
    Cached, ConfigError, Cost, KeySource, LanguageModel, ModelError, ModelErrorKind, ModelsConfig,
    PriceTable, ProviderConfig, RecordReplayModel, Result, RetryConfig, Script, ScriptedModel,
    TokenUsage, estimate_input_tokens, estimate_tokens,
};

/// All models of a configuration, by `provider/model` and by the names that the configuration gives them.
///
/// A request goes to its model; when that cannot answer, to the model's fallbacks in order. Each provider has its own
/// limits and retries.
pub struct ModelRouter {
    names: Names,
    shop: Arc<Shop>,
    /// The shop, behind the cache and the cassette if there are any.
    front: Box<dyn LanguageModel>,
}

/// An answer with the way it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Routed {
    /// The answer.
    pub response: ModelResponse,
    /// Who gave it.
    pub by: Target,
    /// Why others did not, in the order in which they were asked.
    pub failed: Vec<ModelError>,
}

impl ModelRouter {
    /// Reads a configuration. Keys are fetched when a provider is asked for the first time, so that those that nobody
    /// uses may be missing.
    ///
    /// # Errors
    /// When names, addresses or files cannot be right; says all that is wrong.
    pub fn from_config(
        config: ModelsConfig,
        source: Arc<dyn KeySource>,
    ) -> Result<Self, ConfigError> {
        let ModelsConfig {
            default,
            providers,
            aliases,
            prices,
            retry,
            cache,
            cassette,
        } = config;
        let mut problems = build::problems(&providers);
        let names = Names::new(default, aliases, &providers);
        problems.extend(names.problems());
        if !problems.is_empty() {
            return Err(ConfigError::all(problems));
        }
        let shop = Arc::new(Shop {
            providers: providers.into_iter().collect(),
            retry,
            prices: PriceTable::built_in()?.with(prices),
            source,
            open: Mutex::default(),
            scripts: Mutex::default(),
        });
        let mut front: Box<dyn LanguageModel> = Box::new(shop.clone());
        if let Some(cache) = cache {
            front = Box::new(Cached::new(front, cache));
        }
        if let Some(cassette) = cassette {
            let model = RecordReplayModel::open(front, &cassette.file, cassette.mode)?;
            front = Box::new(model);
        }
        Ok(Self { names, shop, front })
    }

    /// Who would answer a request for `model`, in the order in which they are asked. Empty is the default model. Nothing
    /// is sent, and no key is looked for.
    ///
    /// # Errors
    /// [`ModelErrorKind::UnknownModel`], which lists what is known.
    pub fn targets(&self, model: &str) -> Result<Vec<Target>> {
        self.names.resolve(model)
    }

    /// The providers that can be asked: those of the configuration and those that are known by name.
    #[must_use]
    pub fn providers(&self) -> Vec<String> {
        self.names.providers()
    }

    /// The names that the configuration gives to models.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.names.aliases()
    }

    /// The prices in use.
    #[must_use]
    pub fn prices(&self) -> &PriceTable {
        &self.shop.prices
    }

    /// What a request may cost at most or so: all of it sent at the price of input, and the longest answer. None where
    /// the price is not known. For reservations.
    #[must_use]
    pub fn estimate_cost(&self, request: &ModelRequest) -> Option<Cost> {
        let target = self.targets(&request.model).ok()?.into_iter().next()?;
        let request = target.apply(request);
        let input = estimate_input_tokens(&request);
        let usage = TokenUsage {
            input_tokens: input,
            output_tokens: estimate_tokens(&request) - input,
            ..TokenUsage::default()
        };
        self.shop.prices.cost(&target.name(), &usage)
    }

    /// Asks, and says who answered.
    ///
    /// # Errors
    /// When nobody answered: the last failure, with the others named.
    pub async fn generate_routed(
        &self,
        request: &ModelRequest,
        mut deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<Routed> {
        let mut failed: Vec<ModelError> = Vec::new();
        for target in self.targets(&request.model)? {
            let request = target.apply(request);
            match self.front.generate(&request, deltas.as_deref_mut()).await {
                Ok(response) => {
                    return Ok(Routed {
                        response,
                        by: target,
                        failed,
                    });
                }
                Err(error) => {
                    let error = error.of(target.name());
                    let stop = !error.allows_fallback();
                    tracing::info!(model = %error.model, kind = %error.kind, "model gave no answer");
                    failed.push(error);
                    if stop {
                        break;
                    }
                }
            }
        }
        Err(all_of(failed))
    }
}

/// One error for all that were asked.
fn all_of(mut failed: Vec<ModelError>) -> ModelError {
    let Some(mut last) = failed.pop() else {
        return ModelError::new(ModelErrorKind::UnknownModel, "no model is configured");
    };
    last.may_be_charged |= failed.iter().any(|error| error.may_be_charged);
    if !failed.is_empty() {
        let before: Vec<_> = failed.iter().map(ToString::to_string).collect();
        last.message = format!("{} (before it: {})", last.message, before.join("; "));
    }
    last
}

#[async_trait]
impl LanguageModel for ModelRouter {
    async fn generate(
        &self,
        request: &ModelRequest,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        let routed = self.generate_routed(request, deltas).await?;
        Ok(routed.response)
    }
}

/// The providers, opened when they are asked for the first time. Requests name models as `provider/model`.
struct Shop {
    providers: HashMap<String, ProviderConfig>,
    retry: RetryConfig,
    prices: PriceTable,
    source: Arc<dyn KeySource>,
    open: Mutex<HashMap<String, Arc<dyn LanguageModel>>>,
    scripts: Mutex<HashMap<String, (String, Arc<ScriptedModel>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shop {
    fn model(&self, provider: &str, model: &str) -> Result<Arc<dyn LanguageModel>> {
        if provider == names::SCRIPTED {
            return Ok(self.script(model)?);
        }
        if let Some(open) = lock(&self.open).get(provider) {
            return Ok(open.clone());
        }
        let config = self.providers.get(provider).cloned().unwrap_or_default();
        let built = build::provider(provider, &config, &self.retry, &*self.source)?;
        // Two first calls at the same time share what came first, so that limits are counted once.
        Ok(lock(&self.open)
            .entry(provider.to_owned())
            .or_insert(built)
            .clone())
    }

    /// The script of this file; read again with each call, so that an edit counts at once.
    fn script(&self, file: &str) -> Result<Arc<ScriptedModel>> {
        let refuse = |why: String| ModelError::new(ModelErrorKind::InvalidRequest, why);
        let text = self
            .source
            .read(Path::new(file))
            .map_err(|error| refuse(format!("script `{file}` cannot be read: {error}")))?;
        let mut scripts = lock(&self.scripts);
        if let Some((_, model)) = scripts.get(file).filter(|(known, _)| *known == text) {
            return Ok(model.clone());
        }
        let script = Script::from_yaml(&text)
            .map_err(|error| refuse(format!("script `{file}`: {error}")))?;
        let model = Arc::new(ScriptedModel::new(script));
        scripts.insert(file.to_owned(), (text, model.clone()));
        Ok(model)
    }
}

#[async_trait]
impl LanguageModel for Shop {
    async fn generate(
        &self,
        request: &ModelRequest,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        let name = request.model.as_str();
        let (provider, model) = name.split_once('/').unwrap_or((name, ""));
        let mut request = request.clone();
        model.clone_into(&mut request.model);
        let answerer = self.model(provider, model)?;
        let mut response = answerer.generate(&request, deltas).await?;
        let cost = self.prices.cost(name, &response.usage);
        response.cost_usd = cost.map(Cost::usd);
        Ok(response)
    }
}

#[cfg(test)]
mod tests;
