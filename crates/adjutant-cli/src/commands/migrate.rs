//! `agent migrate`.

use std::{path::Path, sync::Arc, time::Duration};

use adjutant::{Migrated, Migration, Store, shown_url};
use clap::Args;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, Result, STORE_NOT_FOUND, USAGE},
    units::parse_duration,
};

/// Runs named one by one among those that have not moved; of the others, only how many there are.
const NAMED: usize = 20;

#[derive(Debug, Args)]
#[command(
    after_help = "Workers and clients may go on using the old store meanwhile; begin workers on the new one at any time.\n\
                  If the command dies, repeat it: nothing is lost, and nothing is done twice."
)]
pub struct Migrate {
    /// Where the runs are [default: the store of the settings]
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Where they are to go
    #[arg(long, value_name = "URL")]
    to: String,
    /// Leave runs that have ended where they are
    #[arg(long)]
    skip_finished: bool,
    /// How long to wait for a run that is busy with a step
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    patience: Duration,
}

impl Migrate {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let from = match &self.from {
            Some(url) => absolute(context, url),
            None => context.config.store_url(&context.project),
        };
        let to = absolute(context, &self.to);
        if from == to {
            let message = "--from and --to are the same store";
            return Err(Failure::usage(USAGE, message).hint("name another one with --to"));
        }
        if let Some(file) = file_of(&from).filter(|file| !file.exists()) {
            let message = format!("there is no store at {}", context.project.short(file));
            return Err(Failure::usage(STORE_NOT_FOUND, message).hint("correct --from"));
        }
        let old = match &self.from {
            Some(url) => context.open_at(&absolute(context, url)).await?,
            // With its parts, wherever they are.
            None => context.store().await?,
        };
        let new = context.open_at(&to).await?;
        let migration = Migration {
            from: Arc::clone(&old),
            to: Arc::clone(&new),
            finished: !self.skip_finished,
            patience: self.patience,
        };
        context.out.note(&format!(
            "moving runs from {} to {}",
            shown_url(&from),
            shown_url(&to)
        ));
        let migrated = move_all(context, &migration).await;
        old.close().await;
        new.close().await;
        let migrated = migrated?;
        show(context, &migrated)?;
        if migrated.left.is_empty() {
            context.out.note(&format!(
                "done; from now on use --store '{}', or set store.url",
                shown_url(&self.to)
            ));
            return Ok(Exit::Ok);
        }
        context
            .out
            .note("repeat the command for the runs that are left; see the reasons above");
        Ok(Exit::Unfinished)
    }
}

async fn move_all(context: &Context, migration: &Migration) -> Result<Migrated> {
    let told = std::sync::Mutex::new(Migrated::default());
    let progress = |migrated: &Migrated| {
        let mut told = told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_news = (told.moved, told.copied) != (migrated.moved, migrated.copied);
        if is_news {
            let (moved, copied) = (migrated.moved, migrated.copied);
            let text = format!("moved {moved}, copied {copied} that have ended");
            match told.moved + told.copied {
                0 => context.out.note(&text),
                _ => context.out.replace_last(&text),
            }
            told.clone_from(migrated);
        }
    };
    migration.run(&progress).await.map_err(|error| {
        Failure::from(error)
            .hint("repeat the command once that is put right: it goes on where it was")
    })
}

fn show(context: &Context, migrated: &Migrated) -> Result<()> {
    if context.out.is_structured() {
        return context.out.value(migrated);
    }
    context.out.fields(&[
        ("moved", migrated.moved.to_string()),
        ("copied", migrated.copied.to_string()),
        ("left", migrated.left.len().to_string()),
    ])?;
    for (run, why) in migrated.left.iter().take(NAMED) {
        context.out.line(&format!("  {run}: {why}"))?;
    }
    if migrated.left.len() > NAMED {
        let more = migrated.left.len() - NAMED;
        context.out.line(&format!("  and {more} more"))?;
    }
    Ok(())
}

/// The file of an SQLite store.
fn file_of(url: &str) -> Option<&Path> {
    let rest = url.strip_prefix("sqlite:")?;
    Some(Path::new(rest.split('?').next().unwrap_or(rest)))
}

/// A URL as somebody types it: relative paths begin where they are.
fn absolute(context: &Context, url: &str) -> String {
    match url.strip_prefix("sqlite:") {
        Some(rest) => {
            let rest = rest.strip_prefix("//").unwrap_or(rest);
            format!("sqlite:{}", context.project.cwd.join(rest).display())
        }
        None => url.to_owned(),
    }
}

impl Context {
    /// Opens the store at a URL that is not the settings'.
    async fn open_at(&self, url: &str) -> Result<Arc<dyn Store>> {
        let options = self.config.store_options(&self.project)?;
        let options = adjutant::StoreOptions {
            state: None,
            events: None,
            ..options
        };
        self.open_url(url, options).await.map_err(|mut failure| {
            failure.message = format!("{}: {}", shown_url(url), failure.message);
            failure
        })
    }
}
