//! What every command works with: the project, its settings, its store, the terminal.

use std::{path::PathBuf, sync::Arc};

use adjutant::{Store, open_store};

use crate::{
    args::Global,
    config::{Config, Origin},
    failure::{Failure, Result, STORE_NOT_FOUND},
    output::Output,
    project::Project,
};

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
        Ok(open_store(&url, self.config.store_options()).await?)
    }
}
