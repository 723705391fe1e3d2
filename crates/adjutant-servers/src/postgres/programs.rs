//! Finding and running the server's programs.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{PostgresSettings, detached, log};

/// Where distributions put the programs, by version.
const PLACES: &str = "/usr/lib/postgresql";

/// The programs, and who is to run them.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    bin: PathBuf,
    /// The server refuses to run as root.
    owner: Option<(u32, u32)>,
}

impl Programs {
    pub(super) fn find() -> Result<Self> {
        let owner = match rustix::process::geteuid().is_root() {
            true => Some(unprivileged()?),
            false => None,
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let installed = fs::read_dir(PLACES).into_iter().flatten().flatten();
        let mut installed: Vec<PathBuf> = installed.map(|e| e.path().join("bin")).collect();
        // The newest first.
        installed.sort();
        places.extend(installed.into_iter().rev());
        let has_all = |bin: &PathBuf| {
            ["initdb", "postgres"]
                .iter()
                .all(|name| bin.join(name).exists())
        };
        let bin = places.into_iter().find(has_all).with_context(|| {
            format!(
                "there is neither `initdb` nor `postgres` on the PATH or in {PLACES}/*/bin; \
                 install a PostgreSQL server, on Debian: apt-get install postgresql"
            )
        })?;
        Ok(Self { bin, owner })
    }

    /// Makes a new cluster of databases in `home/data`.
    pub(super) fn init(&self, home: &Path) -> Result<()> {
        if let Some((user, group)) = self.owner {
            chown(home, Some(user), Some(group))?;
        }
        let mut initdb = self.command("initdb");
        initdb
            .args(["--no-sync", "--no-instructions", "-A", "trust"])
            .args(["-U", "postgres", "-E", "UTF8", "--locale=C", "-D"])
            .arg(home.join("data"));
        let output = initdb.stdin(Stdio::null()).output().context("run initdb")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "initdb failed: {said}");
        Ok(())
    }

    /// The command of a server on `home/data` with its socket in `home`.
    pub(super) fn serve(
        &self,
        home: &Path,
        settings: &PostgresSettings,
        port: Option<u16>,
    ) -> Result<Command> {
        let mut command = self.command("postgres");
        detached(&mut command);
        command.arg("-D").arg(home.join("data"));
        command.arg("-k").arg(home);
        let mut set = |name: &str, value: &str| {
            command.arg("-c").arg(format!("{name}={value}"));
        };
        set("listen_addresses", port.map_or("", |_| "127.0.0.1"));
        set("max_connections", "300");
        set("logging_collector", "off");
        if !settings.fsync {
            set("fsync", "off");
            set("full_page_writes", "off");
        }
        for (name, value) in &settings.more {
            set(name, value);
        }
        if let Some(port) = port {
            command.arg("-p").arg(port.to_string());
        }
        command.stderr(log(home, self.owner)?);
        Ok(command)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        // It may not be allowed to be where we are.
        command.current_dir("/").env("LC_ALL", "C");
        if let Some((user, group)) = self.owner {
            command.gid(group).uid(user);
        }
        command
    }
}

/// User and group of `postgres`, or of whoever else can run a server.
fn unprivileged() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("read the list of users")?;
    let find = |wanted: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&wanted)).then_some(())?;
            Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
        })
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .context("a server cannot run as root, and there is no user `postgres` or `nobody`")
}
