//! One server for many test processes.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{PostgresSettings, Programs, detached, is_ready, last_words, socket_url};

/// Stops the server when nobody has used it for a while. `$1` is the folder, `$2` the gate's file.
const GUARD: &str = r#"
trap '' INT TERM HUP
quiet=0
while :; do
    sleep 1
    if flock -n -x "$1/users" true; then quiet=$((quiet + 1)); else quiet=0; fi
    [ $quiet -ge 5 ] || continue
    exec 9>>"$2"
    flock -x 9
    flock -n -x "$1/users" true && break
    exec 9>&-
done
kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"
while [ -e "$1/data/postmaster.pid" ]; do sleep 0.1; done
rm -rf "$1" "$2"
"#;

/// A server that all processes of one test run share: the first one starts it, and it stops by itself soon after
/// the last one has gone. Its data is lost with it.
#[derive(Debug)]
pub struct SharedPostgres {
    home: PathBuf,
    _user: File,
}

impl SharedPostgres {
    /// The server of this test run, started if need be.
    ///
    /// # Errors
    /// See [`PostgresServer::start`](crate::PostgresServer::start).
    pub fn get() -> Result<Self> {
        // The test runner names its run; without one, there is only this process.
        let run = std::env::var("NEXTEST_RUN_ID");
        let run = run.unwrap_or_else(|_| std::process::id().to_string());
        let home = std::env::temp_dir().join(format!("adjutant-pg-{run}"));
        let gate_path = home.with_extension("gate");
        let _gate = enter(&gate_path)?;
        if !is_ready(&home, None) {
            start(&home, &gate_path)?;
        }
        let user = File::open(home.join("users"))?;
        user.lock_shared()?;
        Ok(Self { home, _user: user })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        socket_url(&self.home)
    }
}

/// Locks the gate; it opens when the file is dropped.
fn enter(path: &Path) -> Result<File> {
    loop {
        let gate = File::options().create(true).append(true).open(path)?;
        gate.lock()?;
        // The guard may just have removed it.
        let same =
            |there: fs::Metadata| gate.metadata().is_ok_and(|here| here.ino() == there.ino());
        if fs::metadata(path).is_ok_and(same) {
            return Ok(gate);
        }
    }
}

fn start(home: &Path, gate: &Path) -> Result<()> {
    // What a start left that did not come to its end.
    if home.exists() {
        fs::remove_dir_all(home)?;
    }
    fs::create_dir(home)?;
    let programs = Programs::find()?;
    programs.init(home)?;
    File::create(home.join("users"))?;
    // Stores tell of settings that lose data, so this one has none.
    let settings = PostgresSettings {
        fsync: true,
        ..PostgresSettings::default()
    };
    let mut child = programs.serve(home, &settings, None)?.spawn()?;
    while !is_ready(home, Some(child.id())) {
        let ended = child.try_wait()?;
        ensure!(ended.is_none(), "postgres ended: {}", last_words(home));
        std::thread::sleep(super::GLANCE);
    }
    let mut guard = Command::new("sh");
    guard.args(["-c", GUARD, "guard"]).arg(home).arg(gate);
    let guard = detached(&mut guard).spawn();
    guard.context("start the shared server's guard")?;
    Ok(())
}
