//! What the checks know about this repository: its root, its files, its packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell;

/// The repository that this program belongs to.
pub struct Workspace {
    root: PathBuf,
}

/// A workspace member, as far as the checks look at it.
pub struct Package {
    pub name: String,
    /// Its manifest, relative to the root.
    pub manifest: String,
    pub dependencies: Vec<Dependency>,
}

/// An edge to another package of this repository.
pub struct Dependency {
    pub name: String,
    /// Needed by tests, examples and benches only.
    pub dev: bool,
}

impl Workspace {
    /// Finds the root from this package's own place in it.
    pub fn find() -> Result<Self> {
        // Cargo sets the variable for `cargo run` and `cargo test`; a binary started by hand still knows where it was
        // built.
        let own = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = own
            .parent()
            .context("failed to find the root: xtask has no parent folder")?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// A repository of a test's own making.
    #[cfg(test)]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A `cargo` command to be run at the root.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    pub fn read(&self, relative: &str) -> Result<String> {
        fs::read_to_string(self.path(relative))
            .with_context(|| format!("failed to read {relative}"))
    }

    pub fn write(&self, relative: &str, text: &str) -> Result<()> {
        fs::write(self.path(relative), text).with_context(|| format!("failed to write {relative}"))
    }

    /// The files that are part of the repository, tracked or about to be, relative to the root and sorted.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut files = match self.files_from_git() {
            Some(files) => files,
            // An unpacked source archive has no git to ask.
            None => self.files_from_disk()?,
        };
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// Where Cargo puts what it builds.
    pub fn target_dir(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(text(&self.metadata()?, "target_directory")?))
    }

    /// The workspace members and their edges to each other.
    pub fn packages(&self) -> Result<Vec<Package>> {
        let metadata = self.metadata()?;
        let packages = metadata["packages"]
            .as_array()
            .context("`cargo metadata` has no packages")?;
        packages
            .iter()
            .map(|package| self.package(package))
            .collect()
    }

    fn metadata(&self) -> Result<Value> {
        let mut command = self.cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        serde_json::from_str(&shell::read(&mut command)?)
            .context("failed to parse the output of `cargo metadata`")
    }

    fn package(&self, value: &Value) -> Result<Package> {
        let manifest = Path::new(text(value, "manifest_path")?);
        let manifest = manifest.strip_prefix(&self.root).unwrap_or(manifest);
        let edges = value["dependencies"]
            .as_array()
            .context("a package has no dependencies")?;
        let dependencies = edges
            .iter()
            // Packages of this repository are the ones with a path.
            .filter(|edge| edge["path"].is_string())
            .map(|edge| {
                let dev = edge["kind"].as_str() == Some("dev");
                Ok(Dependency {
                    name: text(edge, "name")?.to_owned(),
                    dev,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Package {
            name: text(value, "name")?.to_owned(),
            manifest: manifest.display().to_string(),
            dependencies,
        })
    }

    fn files_from_git(&self) -> Option<Vec<String>> {
        let output = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(&self.root)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        let names = String::from_utf8(output.stdout).ok()?;
        // The index may still list what was just deleted.
        let files = names
            .split_terminator('\0')
            .filter(|name| self.path(name).is_file());
        Some(files.map(str::to_owned).collect())
    }

    fn files_from_disk(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let shown = folder.display().to_string();
            for entry in fs::read_dir(&folder).with_context(|| format!("failed to list {shown}"))? {
                let path = entry
                    .with_context(|| format!("failed to list {shown}"))?
                    .path();
                let relative = path.strip_prefix(&self.root).unwrap_or(&path);
                if path.is_file() {
                    files.push(relative.display().to_string());
                } else if !path.is_symlink() && !is_generated(relative) {
                    folders.push(path);
                }
            }
        }
        Ok(files)
    }
}

/// Folders that no archive of the sources contains on purpose.
fn is_generated(folder: &Path) -> bool {
    let hidden = [".git", ".adjutant", "__pycache__"];
    folder == Path::new("target") || hidden.iter().any(|name| folder.ends_with(name))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key]
        .as_str()
        .with_context(|| format!("`cargo metadata` has no `{key}` where expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_its_own_package_and_files() {
        let workspace = Workspace::find().unwrap();
        let packages = workspace.packages().unwrap();
        let own = packages
            .iter()
            .find(|package| package.name == "xtask")
            .unwrap();
        assert_eq!(own.manifest, "xtask/Cargo.toml");
        assert!(workspace.files().unwrap().contains(&own.manifest));
    }

    #[test]
    fn a_source_archive_lists_the_same_sources() {
        let workspace = Workspace::find().unwrap();
        let files = workspace.files_from_disk().unwrap();
        assert!(files.iter().any(|file| file == "xtask/src/workspace.rs"));
        assert!(!files.iter().any(|file| file.starts_with("target/")));
    }
}
