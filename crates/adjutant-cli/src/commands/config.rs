//! `agent config …`: which settings apply, and why.

use clap::Subcommand;

use crate::{context::Context, exit::Exit, failure::Result};

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Show all settings
    Show {
        /// And where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Check the configuration and leave
    Check,
}

impl Config {
    pub fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::Show { origin } => show(context, origin)?,
            // A configuration with problems ends every command before this one.
            Self::Check => {
                let file = context.config.file.as_ref();
                let from =
                    file.map_or_else(|| "defaults".to_owned(), |file| context.project.short(file));
                context
                    .out
                    .note(&format!("the configuration is valid ({from})"));
            }
        }
        Ok(Exit::Ok)
    }
}

fn show(context: &Context, origin: bool) -> Result<()> {
    if context.out.is_structured() {
        let mut all = serde_json::Map::new();
        for (key, setting) in context.config.all() {
            let value = if origin {
                serde_json::json!({
                    "value": context.config.shown(key.name),
                    "origin": setting.origin,
                    "about": key.about,
                })
            } else {
                serde_json::json!(context.config.shown(key.name))
            };
            let (section, name) = key.name.split_once('.').unwrap_or(("", key.name));
            let section = all.entry(section).or_insert_with(|| serde_json::json!({}));
            section[name] = value;
        }
        return context.out.value(&all);
    }
    let rows = context.config.all().map(|(key, setting)| {
        let mut row = vec![key.name.to_owned(), context.config.shown(key.name)];
        if origin {
            row.push(setting.origin.describe(&context.project));
        }
        row
    });
    let headings: &[&str] = if origin {
        &["SETTING", "VALUE", "ORIGIN"]
    } else {
        &["SETTING", "VALUE"]
    };
    context.out.table(headings, rows.collect())
}
