//! `agent models`: which models are configured, what they cost, and whether they answer.

use adjutant::{
    core::{Message, ModelRequest},
    llm::LanguageModel,
};
use clap::Args;
use serde::Serialize;

use crate::{
    context::Context,
    equipment::{self, Keys},
    exit::Exit,
    failure::{Failure, MODEL_FAILED, Result},
};

#[derive(Debug, Args)]
#[command(
    after_help = "A model is named PROVIDER/NAME, such as anthropic/claude-sonnet-4-5 or ollama/llama3.2, or by a name of \
                        the setting `models.aliases`."
)]
pub struct Models {
    /// Ask this model something and show its answer, tokens and cost
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// What to ask
    #[arg(requires = "model", default_value = "Say hello in one short sentence.")]
    text: String,
}

#[derive(Debug, Serialize)]
struct Alias {
    name: String,
    model: String,
}

impl Models {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let blocks = &context.config.blocks;
        let keys = Keys {
            root: context.project.root.clone(),
        };
        let router = equipment::router(blocks, keys)?;
        let Some(model) = self.model else {
            return list(context);
        };
        let request = ModelRequest {
            model: model.clone(),
            messages: vec![Message::user(self.text)],
            ..ModelRequest::default()
        };
        let mut shown = |delta| {
            if let adjutant::core::ModelDelta::Text { text } = delta {
                context.out.piece(&text);
            }
        };
        let response = router
            .generate(&request, Some(&mut shown))
            .await
            .map_err(|error| {
                Failure::failed(MODEL_FAILED, format!("{model} gave no answer"))
                    .because(error.to_string())
                    .hint("docs/guide/models.md says how models, keys and addresses are configured")
            })?;
        if context.out.is_structured() {
            context.out.value(&response)?;
            return Ok(Exit::Ok);
        }
        let usage = response.usage;
        let cost = response
            .cost_usd
            .map_or("price unknown".to_owned(), |cost| format!("${cost:.6}"));
        context.out.note(&format!(
            "\n{}: {} tokens in, {} out, {cost}",
            response.model, usage.input_tokens, usage.output_tokens
        ));
        Ok(Exit::Ok)
    }
}

fn list(context: &Context) -> Result<Exit> {
    let models = &context.config.blocks.models;
    let mut all: Vec<Alias> = Vec::new();
    all.extend(models.default.iter().map(|model| Alias {
        name: "(default)".to_owned(),
        model: model.clone(),
    }));
    all.extend(models.aliases.iter().map(|(name, spec)| Alias {
        name: name.clone(),
        model: spec.model.clone(),
    }));
    all.extend(models.providers.iter().map(|(name, provider)| {
        Alias {
            name: format!("{name}/…"),
            model: provider
                .base_url
                .clone()
                .unwrap_or_else(|| "its usual address".to_owned()),
        }
    }));
    if context.out.is_structured() {
        context.out.value(&all)?;
        return Ok(Exit::Ok);
    }
    if all.is_empty() {
        context.out.note(
            "no models are configured; any PROVIDER/NAME works whose key is in the environment, such as OPENAI_API_KEY",
        );
        return Ok(Exit::Ok);
    }
    let rows = all.into_iter().map(|alias| vec![alias.name, alias.model]);
    context.out.table(&["NAME", "MODEL"], rows.collect())?;
    Ok(Exit::Ok)
}
