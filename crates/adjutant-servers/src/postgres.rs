//! PostgreSQL.

mod programs;
mod shared;

use std::{
    fs::{self, File},
    io::Write,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use self::programs::Programs;
pub use self::shared::SharedPostgres;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look whether it has.
const GLANCE: Duration = Duration::from_millis(10);

/// Ends a server whose owner has died, in whatever way, and removes its folder. `$1` is the folder.
const GUARD: &str = r#"
trap '' INT TERM HUP
if read -r word && [ "$word" = stopped ]; then rm -rf "$1"; exit; fi
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid"
    for status in $(grep -lx "PPid:.$pid" /proc/[0-9]*/status 2>/dev/null) /proc/$pid/status; do
        child=${status#/proc/}; kill -CONT "${child%/status}"
    done
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
fi 2>/dev/null
rm -rf "$1"
"#;

/// How a server is set up.
#[derive(Debug, Clone, Default)]
pub struct PostgresSettings {
    /// Whether it syncs to disk. Off by default: tests do not pull the plug.
    pub fsync: bool,
    /// Whether it also listens on a free port of the loopback interface.
    pub tcp: bool,
    /// Settings as in `postgresql.conf`.
    pub more: Vec<(String, String)>,
}

/// A private PostgreSQL server in a folder of its own. It stops when the value is dropped, and when the process dies.
#[derive(Debug)]
pub struct PostgresServer {
    home: PathBuf,
    programs: Programs,
    settings: PostgresSettings,
    port: Option<u16>,
    child: Option<Child>,
    guard: Option<Child>,
}

impl PostgresServer {
    /// Starts a server on a unix socket.
    ///
    /// # Errors
    /// When the programs are missing, with what to install, or they fail, with what they said.
    pub fn start() -> Result<Self> {
        Self::with(PostgresSettings::default())
    }

    /// Starts a server on a unix socket and on a free port of the loopback interface.
    ///
    /// # Errors
    /// See [`start`](Self::start).
    pub fn start_tcp() -> Result<Self> {
        Self::with(PostgresSettings {
            tcp: true,
            ..PostgresSettings::default()
        })
    }

    /// Starts a server.
    ///
    /// # Errors
    /// See [`start`](Self::start).
    pub fn with(settings: PostgresSettings) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("adjutant-pg-").tempdir()?;
        let programs = Programs::find()?;
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(home.path());
        let guard = detached(&mut guard).stdin(Stdio::piped()).spawn()?;
        let mut server = Self {
            home: home.keep(),
            programs,
            settings,
            port: None,
            child: None,
            guard: Some(guard),
        };
        server.programs.init(&server.home)?;
        if server.settings.tcp {
            server.port = Some(free_port()?);
        }
        server.launch()?;
        Ok(server)
    }

    /// Where it is, on its unix socket, with its superuser.
    #[must_use]
    pub fn url(&self) -> String {
        socket_url(&self.home)
    }

    /// Its unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.join(".s.PGSQL.5432")
    }

    /// Where it is on its port, without user and database.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self) -> Result<String> {
        let port = self.port.context("the server was started without a port")?;
        Ok(format!("127.0.0.1:{port}"))
    }

    /// The folder of its data, with `pg_hba.conf`, for changes between [`stop`](Self::stop) and
    /// [`restart`](Self::restart).
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Sets a setting for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.more.push((name.to_owned(), value.to_owned()));
    }

    /// Stops it in order, ending its sessions.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::INT)?;
        self.wait()
    }

    /// Kills all its processes at once, as a loss of power does.
    ///
    /// # Errors
    /// When that is not allowed.
    pub fn kill(&mut self) -> Result<()> {
        let pids = self.processes()?;
        for pid in &pids {
            let _gone = kill_process(*pid, Signal::KILL);
        }
        self.wait()?;
        // Its memory is free when the last of its children has let go of it; before that it does not start again.
        let started = Instant::now();
        while pids.iter().any(|pid| lives(*pid)) {
            ensure!(started.elapsed() < PATIENCE, "postgres does not die");
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Stops all its processes where they are, until [`resume`](Self::resume).
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        // The first one starts others, so it goes first.
        for pid in self.processes()? {
            let _gone = kill_process(pid, Signal::STOP);
        }
        for pid in self.processes()? {
            let _gone = kill_process(pid, Signal::STOP);
        }
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        for pid in self.processes()? {
            let _gone = kill_process(pid, Signal::CONT);
        }
        Ok(())
    }

    /// Stops it in order, if it runs, and starts it again on the same data.
    ///
    /// # Errors
    /// When it does not stop or start.
    pub fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            self.stop()?;
        }
        self.launch()
    }

    fn launch(&mut self) -> Result<()> {
        let child = self
            .programs
            .serve(&self.home, &self.settings, self.port)?
            .spawn();
        let child = child.context("start postgres")?;
        let pid = child.id();
        self.child = Some(child);
        let started = Instant::now();
        while !is_ready(&self.home, Some(pid)) {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                bail!("postgres ended with {status}: {}", last_words(&self.home));
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "postgres does not get ready: {}",
                last_words(&self.home)
            );
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        let child = self.child.as_ref().context("postgres does not run")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        pid.context("an impossible process id")
    }

    /// The server and its children.
    fn processes(&self) -> Result<Vec<Pid>> {
        let first = self.pid()?;
        let mut pids = vec![first];
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if parent(pid) == Some(first.as_raw_nonzero().get()) {
                pids.extend(Pid::from_raw(pid));
            }
        }
        Ok(pids)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).context("signal postgres")
    }

    fn wait(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        let started = Instant::now();
        while child.try_wait()?.is_none() {
            ensure!(started.elapsed() < PATIENCE, "postgres does not stop");
            std::thread::sleep(GLANCE);
        }
        self.child = None;
        Ok(())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // What fails here is left to the guard.
        let resumed = self.resume();
        let stopped = resumed.is_err() || {
            let _asked = self.signal(Signal::QUIT);
            self.wait().is_ok()
        };
        let Some(mut guard) = self.guard.take() else {
            return;
        };
        if let Some(mut stdin) = guard.stdin.take().filter(|_| stopped) {
            let _told = stdin.write_all(b"stopped\n");
        }
        let _removed = guard.wait();
    }
}

/// A process that neither the terminal's signals nor the end of its parent's streams reach.
fn detached(command: &mut Command) -> &mut Command {
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

fn socket_url(home: &Path) -> String {
    let path = home.display().to_string().replace('/', "%2F");
    format!("postgres://postgres@{path}/postgres")
}

/// The server writes this when it takes connections. With the process's id, what another one has left does not count.
fn is_ready(home: &Path, pid: Option<u32>) -> bool {
    let state = fs::read_to_string(home.join("data/postmaster.pid")).unwrap_or_default();
    let mut lines = state.lines();
    let first = lines.next().and_then(|line| line.trim().parse().ok());
    (pid.is_none() || first == pid) && lines.nth(6).map(str::trim) == Some("ready")
}

fn last_words(home: &Path) -> String {
    let log = fs::read_to_string(home.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, but ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Opens the server's log for appending, as its standard error.
fn log(home: &Path, owner: Option<(u32, u32)>) -> Result<File> {
    let path = home.join("log");
    let log = File::options().create(true).append(true).open(&path)?;
    if let Some((user, group)) = owner {
        chown(&path, Some(user), Some(group))?;
    }
    Ok(log)
}

/// Whether a process is there and has not ended. One that has may be left as a zombie, which holds nothing.
fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let state = stat
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(')')?.1.trim_start().chars().next()? != 'Z'));
    state.unwrap_or(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    #[test]
    fn a_server_leaves_nothing_behind() {
        let mut server = PostgresServer::start_tcp().unwrap();
        let home = server.home.clone();
        let first = server.pid().unwrap();
        server.restart().unwrap();
        server.kill().unwrap();
        server.restart().unwrap();
        server.pause().unwrap();
        let pids = server.processes().unwrap();
        assert!(pids.len() > 1 && !pids.contains(&first));
        drop(server);
        assert!(!home.exists());
        for pid in pids {
            assert!(rustix::process::test_kill_process(pid).is_err());
        }
    }

    #[test]
    fn a_shared_server_is_one() {
        let one = SharedPostgres::get().unwrap();
        let other = SharedPostgres::get().unwrap();
        assert_eq!(one.url(), other.url());
    }
}
