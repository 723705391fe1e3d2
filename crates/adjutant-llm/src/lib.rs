//! Language models behind one contract: [`LanguageModel`].
//!
//! [`ModelRouter`] is the usual way in: it turns `provider/model`, or a name from the configuration, into a provider with
//! its key, limits, retries and fallbacks, and knows what the answer cost. Each of these is a model around a model and
//! works alone, too. [`ScriptedModel`] and [`RecordReplayModel`] need no provider.
//!
//! ```
//! use adjutant_core::{Message, ModelRequest};
//! use adjutant_llm::{LanguageModel, ScriptedModel};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let model = ScriptedModel::saying(["Hello.", "Goodbye."]);
//! let request = ModelRequest { messages: vec![Message::user("Hi!")], ..ModelRequest::default() };
//! let answer = model.generate(&request, None).await.map_err(|error| error.to_string())?;
//! assert_eq!(answer.message.text(), "Hello.");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod estimate;
mod port;

mod config;
mod price;

mod provider;

mod cache;
mod limit;
mod retry;
mod script;

mod router;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

// What a reader of a response needs with it.
pub use adjutant_core::TokenUsage;

pub use crate::{
    cache::Cached,
    config::{
        CacheConfig, CassetteConfig, ConfigError, ModelSpec, ModelsConfig, ProviderConfig,
        RetryConfig, Timeouts,
        known::Wire,
        secret::{KeySource, Secret, SecretRef},
    },
    error::{ModelError, ModelErrorKind, Result},
    estimate::{estimate_input_tokens, estimate_tokens},
    limit::{Limited, Paced},
    port::{LanguageModel, MAX_RESPONSE_BYTES},
    price::{Cost, LongPrice, Price, PriceTable, Rate},
    provider::{Connection, Provider},
    retry::Retrying,
    router::{ModelRouter, Routed, Target},
    script::{
        CassetteMode, RecordReplayModel, Script, ScriptedAnswer, ScriptedCall, ScriptedError,
        ScriptedModel,
    },
};
