//! Noticing that an agent's program has been edited.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    context::Context,
    failure::{Failure, IO, Result},
    output::Paint,
};

/// What is edited by hand; data that an agent writes beside its program is none of it.
const SOURCES: &[&str] = &[
    "c", "cc", "cpp", "cs", "ex", "exs", "go", "h", "java", "jl", "js", "jsx", "kt", "lua", "mjs",
    "php", "pl", "py", "r", "rb", "rs", "scala", "sh", "sql", "swift", "toml", "ts", "tsx", "yaml",
    "yml",
];

/// Folders of what programs make and fetch; `work` is where a confined agent writes.
const SKIPPED: &[&str] = &[
    "target",
    "node_modules",
    "__pycache__",
    "venv",
    "dist",
    "build",
    "work",
];

/// Folders watched, all agents together.
const MAX_FOLDERS: usize = 2000;

/// Changes that may wait to be looked at; more are one change anyway.
const QUEUE: usize = 64;

/// An editor writes a file in several steps; a change is over when nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(100);

/// Watches folders with all below them.
pub struct Changes {
    watcher: RecommendedWatcher,
    changed: mpsc::Receiver<PathBuf>,
    watched: usize,
}

impl Changes {
    /// From now on.
    pub fn below<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        let (sender, changed) = mpsc::channel(QUEUE);
        let tell = move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            for path in event.paths {
                let _full_is_enough = sender.try_send(path);
            }
        };
        let watcher = notify::recommended_watcher(tell).map_err(|error| failed(&error))?;
        let mut changes = Self {
            watcher,
            changed,
            watched: 0,
        };
        for folder in folders {
            changes.watch(folder)?;
        }
        Ok(changes)
    }

    fn watch(&mut self, folder: &Path) -> Result<()> {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            if self.watched == MAX_FOLDERS {
                let message = format!("there are more than {MAX_FOLDERS} folders to watch");
                return Err(Failure::failed(IO, message)
                    .hint("give the agent a folder of its own, without what it works on"));
            }
            self.watcher
                .watch(&folder, RecursiveMode::NonRecursive)
                .map_err(|error| failed(&error))?;
            self.watched += 1;
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            let below = entries.filter_map(|entry| Some(entry.ok()?.path()));
            folders.extend(below.filter(|path| is_folder_of_sources(path)));
        }
        Ok(())
    }

    /// The next source that has changed, when the changes are over.
    pub async fn next(&mut self) -> PathBuf {
        let path = loop {
            match self.changed.recv().await {
                Some(path) if is_source(&path) => break path,
                Some(path) if is_folder_of_sources(&path) => {
                    if let Err(error) = self.watch(&path) {
                        tracing::warn!(?error, folder = %path.display(), "a new folder is not watched");
                    }
                }
                Some(_) => {}
                None => std::future::pending().await,
            }
        };
        while let Ok(Some(_)) = timeout(QUIET, self.changed.recv()).await {}
        path
    }
}

/// Tells that a file was edited, and what comes of it.
pub fn tell(context: &Context, edited: &Path, then: &str) {
    let told = format!("{} was edited, {then}", context.project.short(edited));
    context.out.note(&context.out.paint(Paint::Cyan, &told));
}

fn failed(error: &notify::Error) -> Failure {
    Failure::failed(IO, "files cannot be watched")
        .because(error.to_string())
        .hint("leave --dev out, or raise fs.inotify.max_user_watches")
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn is_source(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    !name(path).starts_with('.') && extension.is_some_and(|extension| SOURCES.contains(&extension))
}

fn is_folder_of_sources(path: &Path) -> bool {
    let name = name(path);
    let skipped = name.starts_with('.') || SKIPPED.contains(&name);
    // A link may lead anywhere, also back.
    !skipped && fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_edit_is_a_source_and_what_programs_write_is_not() {
        for path in ["agent.py", "agent.yaml", "a/b/main.rs"] {
            assert!(is_source(Path::new(path)), "{path}");
        }
        for path in [
            "out.log",
            "report.json",
            ".agent.py.swp",
            ".#agent.py",
            "agent.pyc",
            "agent",
            "agent.py~",
        ] {
            assert!(!is_source(Path::new(path)), "{path}");
        }
    }

    #[tokio::test]
    async fn a_change_is_noticed_in_folders_old_and_new_but_not_in_skipped_ones() {
        let home = tempfile::tempdir().unwrap();
        for folder in ["src", "target"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        let mut changes = Changes::below([home.path()]).unwrap();
        fs::write(home.path().join("target/made.rs"), "").unwrap();
        fs::write(home.path().join("out.json"), "").unwrap();
        fs::write(home.path().join("src/main.rs"), "").unwrap();
        assert_eq!(changes.next().await, home.path().join("src/main.rs"));

        fs::create_dir(home.path().join("more")).unwrap();
        let late = home.path().join("more/late.py");
        // The new folder is watched from some moment on; until then nothing is heard of it.
        let write = async {
            for n in 0.. {
                fs::write(&late, n.to_string()).unwrap();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            changed = changes.next() => assert_eq!(changed, late),
            () = write => {}
        }
    }
}
