//! What every command works with: the project, its settings, its store, the terminal.

use std::{path::PathBuf, sync::Arc, time::Duration};

use adjutant::{Error, Store, StoreOptions, open_store, shown_url};

use crate::{
    args::Global,
    config::{Config, Origin, is_server},
    failure::{ENGINE_NOT_BUILT, Failure, Result, STORE_NOT_FOUND},
    output::Output,
    project::Project,
};

/// The longest that a command stays for telling others what it did.
const LEAVING: Duration = Duration::from_secs(2);

/// The surroundings of a command.
#[derive(Debug)]
pub struct Context {
    pub project: Project,
    pub config: Config,
    pub out: Output,
}

impl Context {
    /// Finds the project and reads its settings.
    pub fn new(global: &Global, out: Output) -> Result<Self> {
        let project = Project::find()?;
        let config = Config::load(&project, &global.flags())?;
        Ok(Self {
            project,
            config,
            out,
        })
    }

    /// For commands that have nothing to do with settings, and must work where those are broken.
    pub fn without_settings(out: Output) -> Result<Self> {
        let project = Project::find()?;
        let config = Config::defaults();
        Ok(Self {
            project,
            config,
            out,
        })
    }

    /// The file behind the store, if there is one.
    pub fn database(&self) -> Option<PathBuf> {
        self.config.database(&self.project)
    }

    /// Opens the store, making it when it is not there yet.
    pub async fn make_store(&self) -> Result<Arc<dyn Store>> {
        if *self.config.origin("store.url") == Origin::Default {
            self.project.make_state_dir()?;
        }
        self.need_folder()?;
        self.open().await
    }

    /// SQLite makes files, not folders, and only says that it cannot open the file.
    fn need_folder(&self) -> Result<()> {
        let database = self.database();
        let folder = database.as_deref().and_then(std::path::Path::parent);
        match folder.filter(|folder| !folder.is_dir()) {
            None => Ok(()),
            Some(folder) => {
                let shown = self.project.short(folder);
                let message =
                    format!("the folder {shown} does not exist, so no store can be made in it");
                Err(Failure::usage(STORE_NOT_FOUND, message).hint(format!(
                    "make it with `mkdir -p {shown}`, or correct --store or store.url"
                )))
            }
        }
    }

    /// Opens a store that is there: looking at runs should not make an empty one in passing.
    pub async fn store(&self) -> Result<Arc<dyn Store>> {
        if let Some(database) = self.database().filter(|database| !database.exists()) {
            let message = format!("there is no store at {} yet", self.project.short(&database));
            return Err(Failure::usage(STORE_NOT_FOUND, message).hint(
                "the first `agent run PATH` makes it; in another folder, name it with --store",
            ));
        }
        self.open().await
    }

    async fn open(&self) -> Result<Arc<dyn Store>> {
        let url = self.config.store_url(&self.project);
        let options = self.config.store_options(&self.project)?;
        self.open_url(&url, options).await
    }

    /// Opens the store at a URL.
    pub async fn open_url(&self, url: &str, options: StoreOptions) -> Result<Arc<dyn Store>> {
        let parts = [
            Some(url),
            options.state.as_deref(),
            options.events.as_deref(),
        ];
        if let Some(feature) = parts.into_iter().flatten().find_map(missing_feature) {
            return Err(not_built(feature));
        }
        let server = is_server(url);
        open_store(url, options)
            .await
            .map_err(|error| match &error {
                Error::Invalid { .. } if server => {
                    Failure::from(error).hint("forms and parameters of URLs: docs/guide/stores.md")
                }
                Error::Backend { transient, .. } if server => unopened(url, *transient, error),
                _ => error.into(),
            })
    }

    /// Lets other processes hear at once what was done here, before this one ends.
    pub async fn leave(&self, store: &dyn Store) {
        if self.config.has_server() {
            // What was acknowledged is safe, so nobody need wait long for this.
            let _late = tokio::time::timeout(LEAVING, store.close()).await;
        }
    }
}

/// A server that does not let us in.
fn unopened(url: &str, may_pass: bool, error: Error) -> Failure {
    let mut failure = Failure::from(error);
    failure.message = format!("{} at {}", failure.message, shown_url(url));
    if may_pass {
        return failure;
    }
    failure.hint("put it right as the cause says, then repeat the command")
}

/// The feature that this build would need for the URL and lacks.
fn missing_feature(url: &str) -> Option<&'static str> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "postgres" | "postgresql" if !cfg!(feature = "postgres") => Some("postgres"),
        _ if scheme.starts_with("redis") && !cfg!(feature = "redis") => Some("redis"),
        _ => None,
    }
}

fn not_built(feature: &str) -> Failure {
    let message = format!("this `agent` was built without the feature `{feature}`");
    Failure::usage(ENGINE_NOT_BUILT, message)
        .because(
            "engines for servers make the first build longer, so each is left out unless asked for",
        )
        .hint(format!(
            "build it in: cargo build -p adjutant-cli --features {feature}"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_left_out_is_told_with_the_command_that_builds_it() {
        assert_eq!(missing_feature("sqlite:a.db"), None);
        let missing = missing_feature("postgresql://h/d").is_some();
        assert_eq!(missing, !cfg!(feature = "postgres"));
        let missing = missing_feature("redis-cluster://h").is_some();
        assert_eq!(missing, !cfg!(feature = "redis"));
        let failure = not_built("postgres");
        assert_eq!(failure.exit, crate::exit::Exit::Usage);
        let hint = failure.hint.unwrap_or_default();
        assert!(
            hint.contains("cargo build -p adjutant-cli --features postgres"),
            "{hint}"
        );
    }
}
