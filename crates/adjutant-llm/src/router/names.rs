//! What models are called.

use std::collections::{BTreeMap, BTreeSet};

use adjutant_core::ModelRequest;

use crate::{
    ModelError, ModelErrorKind, ModelSpec, ProviderConfig, Result,
    config::known::{known, known_names},
};

/// The provider whose models are files with scripts.
pub(super) const SCRIPTED: &str = "scripted";

/// One model of one provider, with what the names that led to it ask of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The provider's name.
    pub provider: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// The outermost name first.
    specs: Vec<ModelSpec>,
}

impl Target {
    /// `provider/model`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    /// The request as it goes to this model.
    pub(super) fn apply(&self, request: &ModelRequest) -> ModelRequest {
        let mut request = request.clone();
        request.model = self.name();
        for spec in &self.specs {
            request.temperature = request.temperature.or(spec.temperature);
            request.max_output_tokens = request.max_output_tokens.or(spec.max_output_tokens);
            request.reasoning_effort = request
                .reasoning_effort
                .or_else(|| spec.reasoning_effort.clone());
            if request.extra.is_null() {
                request.extra = spec.extra.clone();
            }
        }
        request
    }
}

/// Names and what they stand for.
pub(super) struct Names {
    default: Option<String>,
    aliases: BTreeMap<String, ModelSpec>,
    /// Configured providers, with their own names for models.
    providers: BTreeMap<String, BTreeMap<String, String>>,
}

impl Names {
    pub(super) fn new(
        default: Option<String>,
        aliases: BTreeMap<String, ModelSpec>,
        providers: &BTreeMap<String, ProviderConfig>,
    ) -> Self {
        let providers = providers.iter();
        Self {
            default,
            aliases,
            providers: providers
                .map(|(name, config)| (name.clone(), config.models.clone()))
                .collect(),
        }
    }

    /// Names that stand for nothing.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (alias, spec) in &self.aliases {
            if alias.is_empty() || alias.contains('/') {
                problems.push(format!(
                    "alias `{alias}`: the name may not be empty or hold a `/`"
                ));
            }
            for name in std::iter::once(&spec.model).chain(&spec.fallback) {
                if let Err(error) = self.resolve(name) {
                    problems.push(format!("alias `{alias}`: {}", error.message));
                }
            }
        }
        if self.default.is_some()
            && let Err(error) = self.resolve("")
        {
            problems.push(format!("`default`: {}", error.message));
        }
        problems
    }

    pub(super) fn providers(&self) -> Vec<String> {
        let known = known_names().chain([SCRIPTED]).map(str::to_owned);
        let all: BTreeSet<_> = known.chain(self.providers.keys().cloned()).collect();
        all.into_iter().collect()
    }

    pub(super) fn aliases(&self) -> impl Iterator<Item = &str> {
        self.aliases.keys().map(String::as_str)
    }

    /// The models behind a name, the one that is asked first leading.
    pub(super) fn resolve(&self, name: &str) -> Result<Vec<Target>> {
        let name = match (name, &self.default) {
            ("", Some(default)) => default,
            ("", None) => {
                return Err(ModelError::new(
                    ModelErrorKind::UnknownModel,
                    "the request names no model and `models.default` is not set",
                ));
            }
            (name, _) => name,
        };
        let mut targets = Vec::new();
        self.expand(name, &mut Vec::new(), &[], &mut targets)?;
        Ok(targets)
    }

    fn expand(
        &self,
        name: &str,
        within: &mut Vec<String>,
        specs: &[ModelSpec],
        targets: &mut Vec<Target>,
    ) -> Result<()> {
        let Some(spec) = self.aliases.get(name) else {
            let target = self.target(name, specs)?;
            if targets.iter().all(|known| known.name() != target.name()) {
                targets.push(target);
            }
            return Ok(());
        };
        if within.iter().any(|outer| outer == name) {
            let message = format!("`{name}` stands for itself");
            return Err(ModelError::new(ModelErrorKind::UnknownModel, message));
        }
        within.push(name.to_owned());
        let inner = [specs, std::slice::from_ref(spec)].concat();
        self.expand(&spec.model, within, &inner, targets)?;
        for fallback in &spec.fallback {
            // What is asked of one model need not suit another; outer names still count.
            self.expand(fallback, within, specs, targets)?;
        }
        within.pop();
        Ok(())
    }

    /// Splits at the first `/`: what follows may hold more of them.
    fn target(&self, name: &str, specs: &[ModelSpec]) -> Result<Target> {
        let split = name.split_once('/');
        let Some((provider, model)) = split.filter(|(_, model)| !model.is_empty()) else {
            return Err(self.unknown(&format!("there is no model `{name}`")));
        };
        let own_names = self.providers.get(provider);
        if own_names.is_none() && known(provider).is_none() && provider != SCRIPTED {
            return Err(self.unknown(&format!("there is no provider `{provider}`")));
        }
        let model = own_names
            .and_then(|names| names.get(model))
            .map_or(model, String::as_str);
        Ok(Target {
            provider: provider.to_owned(),
            model: model.to_owned(),
            specs: specs.to_vec(),
        })
    }

    fn unknown(&self, what: &str) -> ModelError {
        let mut message = format!(
            "{what}; write `provider/model` with one of the providers {}",
            self.providers().join(", ")
        );
        if !self.aliases.is_empty() {
            let aliases: Vec<_> = self.aliases().collect();
            message = format!("{message}, or one of the names {}", aliases.join(", "));
        }
        ModelError::new(ModelErrorKind::UnknownModel, message)
    }
}
