//! `agent backup` and `agent restore`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use adjutant::{StoreOptions, open_store};
use clap::Args;

use crate::{
    context::Context,
    drive,
    exit::Exit,
    failure::{BACKUP_INVALID, Failure, Result, STORE_IN_USE, USAGE},
    units::show_size,
    workers::{self, Life},
};

/// What SQLite keeps beside a database file.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

#[derive(Debug, Args)]
pub struct Backup {
    /// The file to make
    file: PathBuf,
}

impl Backup {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        refuse_server(context, "copied")?;
        let store = context.store().await?;
        let was_there = self.file.exists();
        store.backup(&self.file).await.map_err(|error| {
            let failure = Failure::from(error);
            if was_there {
                return failure.hint("name another file, or remove this one");
            }
            failure
        })?;
        store.close().await;
        let bytes = fs::metadata(&self.file)
            .map(|data| data.len())
            .unwrap_or_default();
        if context.out.is_structured() {
            context
                .out
                .value(&serde_json::json!({ "file": self.file, "bytes": bytes }))?;
        } else {
            context.out.note(&format!(
                "wrote {} ({})",
                self.file.display(),
                show_size(bytes)
            ));
        }
        Ok(Exit::Ok)
    }
}

/// A server's data is copied by the server's own tools, which also know how to go back to any moment.
fn refuse_server(context: &Context, done: &str) -> Result<()> {
    if !context.config.has_server() {
        return Ok(());
    }
    let message =
        format!("a store on a server is not {done} by `agent`, but by the server's own tools");
    let hint = if context.config.text("store.url").starts_with("redis") {
        "Redis: `redis-cli --rdb FILE` takes a copy; restoring, and AOF files: docs/guide/stores.md"
    } else {
        "PostgreSQL: `pg_dump --format=custom --schema=adjutant` and `pg_restore`, or `pg_basebackup`; \
         see docs/guide/stores.md"
    };
    Err(Failure::usage(USAGE, message).hint(hint))
}

#[derive(Debug, Args)]
pub struct Restore {
    /// A file made by `agent backup`
    file: PathBuf,
    /// Replace the store that is there
    #[arg(long)]
    force: bool,
}

impl Restore {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        refuse_server(context, "put back")?;
        let Some(database) = context.database() else {
            return Err(Failure::usage(
                USAGE,
                "this store is not kept in a file, so there is nothing to restore to",
            )
            .hint("name a file with --store sqlite:PATH"));
        };
        is_file(&self.file)?;
        self.is_allowed(context, &database).await?;
        if database.starts_with(context.project.state_dir()) {
            context.project.make_state_dir()?;
        }
        let checked = copy(&self.file, &database)?;
        let runs = match check(&checked).await {
            Ok(runs) => runs,
            Err(failure) => {
                discard(&checked);
                return Err(failure);
            }
        };
        replace(&checked, &database).map_err(|error| {
            Failure::io(format!("failed to replace {}", database.display()), &error)
        })?;
        context.out.note(&format!(
            "restored {} from {}: {runs} runs, checked",
            context.project.short(&database),
            self.file.display()
        ));
        Ok(Exit::Ok)
    }

    /// A store that somebody uses is never replaced; one with data only when that is meant.
    async fn is_allowed(&self, context: &Context, database: &Path) -> Result<()> {
        let notes = drive::notes_folder(context)
            .map(|folder| workers::notes(&folder))
            .unwrap_or_default();
        if let Some(worker) = notes.iter().find(|note| note.life() == Life::Alive) {
            let message = format!("{} is in use by a worker", context.project.short(database));
            return Err(Failure::usage(STORE_IN_USE, message)
                .because(format!(
                    "process {} serves {}",
                    worker.pid,
                    worker.agents.join(", ")
                ))
                .hint(format!("stop it first: kill {}", worker.pid)));
        }
        if self.force || !database.exists() {
            return Ok(());
        }
        let has_runs = match context.store().await {
            Ok(store) => {
                let stats = store.stats().await;
                store.close().await;
                stats.map_or(true, |stats| {
                    stats.by_state.values().any(|count| *count > 0)
                })
            }
            // What cannot be read may still be of use to somebody.
            Err(_) => true,
        };
        if !has_runs {
            return Ok(());
        }
        let message = format!(
            "{} has data that would be replaced",
            context.project.short(database)
        );
        Err(Failure::usage(STORE_IN_USE, message)
            .hint("keep it with `agent backup FILE`, then repeat this with --force"))
    }
}

fn is_file(backup: &Path) -> Result<()> {
    if backup.is_file() {
        return Ok(());
    }
    let message = format!("there is no backup at {}", backup.display());
    Err(Failure::usage(BACKUP_INVALID, message).hint("name a file made by `agent backup FILE`"))
}

/// Copies the backup beside its destination, where it can be checked and then renamed.
fn copy(from: &Path, database: &Path) -> Result<PathBuf> {
    let mut name = database.as_os_str().to_owned();
    name.push(format!(".restore-{}", std::process::id()));
    let to = PathBuf::from(name);
    let copied = database
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::copy(from, &to));
    match copied {
        Ok(_) => Ok(to),
        Err(error) => {
            discard(&to);
            Err(Failure::io(
                format!("failed to copy {}", from.display()),
                &error,
            ))
        }
    }
}

/// Whether it is a sound store, and how many runs it has.
async fn check(file: &Path) -> Result<u64> {
    let refused = |cause: String| {
        Failure::usage(
            BACKUP_INVALID,
            "the backup is not a sound store; nothing was replaced",
        )
        .because(cause)
        .hint("take another backup; this one cannot be trusted")
    };
    let url = format!("sqlite:{}", file.display());
    // An empty file would be taken for a new store.
    if fs::metadata(file).is_ok_and(|data| data.len() == 0) {
        return Err(refused("the file is empty".to_owned()));
    }
    let store = match open_store(&url, StoreOptions::default()).await {
        Ok(store) => store,
        // Too new a backup has advice of its own.
        Err(error @ adjutant::Error::SchemaTooNew { .. }) => return Err(error.into()),
        Err(error) => return Err(refused(error.to_string())),
    };
    let report = store.check().await;
    let stats = store.stats().await;
    store.close().await;
    let report = report.map_err(|error| refused(error.to_string()))?;
    let problems: Vec<String> = report
        .checks
        .iter()
        .filter_map(|(name, problem)| Some(format!("{name}: {}", problem.as_ref()?)))
        .collect();
    if !problems.is_empty() {
        return Err(refused(problems.join("; ")));
    }
    let stats = stats.map_err(|error| refused(error.to_string()))?;
    Ok(stats.by_state.values().sum())
}

/// Puts the checked file in the store's place: after a crash there is the old one or the new one, whole.
fn replace(checked: &Path, database: &Path) -> io::Result<()> {
    File::open(checked)?.sync_all()?;
    remove_companions(checked);
    // The old store's journal must not be applied to the new file.
    remove_companions(database);
    fs::rename(checked, database)?;
    if let Some(folder) = database.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn discard(file: &Path) {
    // What stays behind is named after this process and in nobody's way.
    let _ = fs::remove_file(file);
    remove_companions(file);
}

fn remove_companions(file: &Path) {
    for suffix in COMPANIONS {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        let _ = fs::remove_file(PathBuf::from(name));
    }
}
