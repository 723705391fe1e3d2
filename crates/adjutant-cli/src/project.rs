//! Where things are: the project, its folder for state, its store.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::failure::{Failure, Result};

/// The folder for state within a project.
pub const STATE_DIR: &str = ".adjutant";
/// The folder for what agents log, in the one for state.
pub const LOGS_DIR: &str = "logs";
/// The folder for sockets of live runtimes, in the one for state.
pub const RUN_DIR: &str = "run";
/// The project's configuration file.
pub const CONFIG_FILE: &str = "adjutant.yaml";

/// The project that a command works for.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its folder.
    pub root: PathBuf,
    /// The caller's working directory.
    pub cwd: PathBuf,
}

impl Project {
    /// The project around the working directory: the nearest folder upwards with state, configuration or a
    /// repository; else the working directory itself.
    pub fn find() -> Result<Self> {
        let cwd = std::env::current_dir()
            .map_err(|error| Failure::io("failed to find the working directory", &error))?;
        let root = cwd
            .ancestors()
            .find(|dir| {
                [STATE_DIR, CONFIG_FILE, ".git"]
                    .iter()
                    .any(|mark| dir.join(mark).exists())
            })
            .unwrap_or(&cwd)
            .to_owned();
        Ok(Self { root, cwd })
    }

    /// The folder for state.
    pub fn state_dir(&self) -> PathBuf {
        self.root.join(STATE_DIR)
    }

    /// Makes the folder for state, invisible to version control.
    pub fn make_state_dir(&self) -> Result<PathBuf> {
        let dir = self.state_dir();
        let wrong = |error| {
            Failure::io(
                format!("failed to make the folder {}", dir.display()),
                &error,
            )
        };
        fs::create_dir_all(&dir).map_err(wrong)?;
        let ignore = dir.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").map_err(wrong)?;
        }
        Ok(dir)
    }

    /// A path as short as it can be told to somebody in the working directory.
    pub fn short(&self, path: &Path) -> String {
        let shown = path.strip_prefix(&self.cwd).unwrap_or(path);
        if shown.as_os_str().is_empty() {
            return ".".to_owned();
        }
        shown.display().to_string()
    }
}

/// The environment's variables that are text.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
