//! Python's virtual environments, for agents and their builds.

use std::path::{Path, PathBuf};

use adjutant::process::{Environment, Manifest, Profile};

use crate::{
    context::Context,
    failure::{Failure, Result, USAGE},
};

/// A folder that `python3 -m venv` has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Venv {
    root: PathBuf,
}

impl Venv {
    /// The one at this path.
    pub fn at(context: &Context, path: &Path) -> Result<Self> {
        let shown = context.project.short(path);
        let absent = || {
            Failure::usage(USAGE, format!("there is no virtual environment at {shown}")).hint(format!(
                "make it with: python3 -m venv {shown} && {shown}/bin/pip install -r requirements.txt"
            ))
        };
        let root = std::path::absolute(path).map_err(|_| absent())?;
        if !root.join("bin/python").is_file() {
            return Err(absent().because(format!("{shown}/bin/python does not exist")));
        }
        Ok(Self { root })
    }

    /// Lets an agent see it that does not see everything.
    pub fn show_to(&self, manifest: &mut Manifest) {
        if manifest.isolation.profile != Profile::Open {
            manifest.isolation.read.push(self.root.clone());
        }
    }

    /// What its own `activate` would change: programs are looked for here first.
    pub fn activate(&self, environment: &mut Environment) {
        let bin = self.root.join("bin").display().to_string();
        let path = match environment.get("PATH") {
            Some(others) if !others.is_empty() => format!("{bin}:{others}"),
            _ => bin,
        };
        environment.set("PATH", path);
        environment.set("VIRTUAL_ENV", self.root.display().to_string());
    }
}
