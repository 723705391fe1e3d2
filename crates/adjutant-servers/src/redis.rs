//! Redis.

mod cluster;
mod line;
mod sentinel;

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

pub use self::{cluster::RedisCluster, sentinel::RedisSentinel};

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to look whether it has.
const GLANCE: Duration = Duration::from_millis(2);

/// Ends a server whose owner has died, in whatever way, and removes its folder. `$1` is the folder.
const GUARD: &str = r#"
trap '' INT TERM HUP
if read -r word && [ "$word" = stopped ]; then rm -rf "$1"; exit; fi
pid=$(cat "$1/pid" 2>/dev/null)
if [ -n "$pid" ]; then kill -KILL "$pid"; fi 2>/dev/null
rm -rf "$1"
"#;

/// When a server syncs its log of writes to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppendFsync {
    /// It keeps no log: all is lost when it ends.
    #[default]
    Off,
    /// Once a second.
    EverySecond,
    /// Before it answers.
    Always,
}

/// How a server is set up.
#[derive(Debug, Clone, Default)]
pub struct RedisSettings {
    /// When it syncs. Off by default: most tests do not pull the plug.
    pub fsync: AppendFsync,
    /// Whether it listens on a free port of the loopback interface and not on a unix socket.
    pub tcp: bool,
    /// Asked of whoever connects.
    pub password: Option<String>,
    /// Settings as in `redis.conf`.
    pub more: Vec<(String, String)>,
}

/// A private Redis server in a folder of its own. It ends when the value is dropped, and when the process dies.
#[derive(Debug)]
pub struct RedisServer {
    home: PathBuf,
    settings: RedisSettings,
    /// The configuration of a sentinel, if it is one.
    sentinel: Option<String>,
    port: Option<u16>,
    child: Option<Child>,
    guard: Option<Child>,
}

impl RedisServer {
    /// Starts a server without a log on a unix socket.
    ///
    /// # Errors
    /// When `redis-server` is missing, with what to install, or when it fails, with what it said.
    pub fn start() -> Result<Self> {
        Self::with(RedisSettings::default())
    }

    /// Starts a server.
    ///
    /// # Errors
    /// See [`start`](Self::start).
    pub fn with(settings: RedisSettings) -> Result<Self> {
        Self::start_as(settings, None)
    }

    fn start_as(settings: RedisSettings, sentinel: Option<String>) -> Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("adjutant-redis-")
            .tempdir()?;
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(home.path());
        let guard = detached(&mut guard).stdin(Stdio::piped()).spawn()?;
        let mut server = Self {
            home: home.keep(),
            port: settings.tcp.then(free_port).transpose()?,
            settings,
            sentinel,
            child: None,
            guard: Some(guard),
        };
        server.launch()?;
        Ok(server)
    }

    fn sentinel(config: &str) -> Result<Self> {
        let settings = RedisSettings {
            tcp: true,
            ..RedisSettings::default()
        };
        Self::start_as(settings, Some(config.to_owned()))
    }

    /// Where it is, with its password.
    #[must_use]
    pub fn url(&self) -> String {
        match (self.port, &self.settings.password) {
            (Some(port), None) => format!("redis://127.0.0.1:{port}"),
            (Some(port), Some(password)) => format!("redis://:{password}@127.0.0.1:{port}"),
            (None, None) => format!("redis+unix://{}", self.socket().display()),
            (None, Some(password)) => {
                format!("redis+unix://{}?pass={password}", self.socket().display())
            }
        }
    }

    /// Host and port.
    ///
    /// # Errors
    /// When it listens on a unix socket.
    pub fn address(&self) -> Result<String> {
        let port = self.port.context("the server was started without a port")?;
        Ok(format!("127.0.0.1:{port}"))
    }

    /// Its unix socket; there is none if it has a port.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.join("s")
    }

    /// The folder of its data.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.home
    }

    /// Sets a setting for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.more.push((name.to_owned(), value.to_owned()));
    }

    /// Sends one command and returns the first line of the answer, or the text of it.
    ///
    /// # Errors
    /// When it cannot be sent, or the server answers with an error.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let mut line = match self.port {
            Some(port) => line::Line::tcp(port)?,
            None => line::Line::unix(&self.socket())?,
        };
        if let Some(password) = &self.settings.password {
            line.ask(&["AUTH", password])?;
        }
        line.ask(words)
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.wait()
    }

    /// Kills it at once.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait()
    }

    /// Stops it where it is, until [`resume`](Self::resume).
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Stops it in order, if it runs, and starts it again on the same data and address.
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
        if let Some(sentinel) = &self.sentinel {
            // It writes into it what it finds out.
            fs::write(self.home.join("sentinel.conf"), sentinel)?;
        }
        let child = detached(&mut self.serve()).spawn();
        let child = match child {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("there is no `redis-server`; install it: apt-get install redis-server")
            }
            other => other.context("start redis-server")?,
        };
        let pid = child.id();
        self.child = Some(child);
        fs::write(self.home.join("pid"), pid.to_string())?;
        let started = Instant::now();
        // Whoever asks for a password is ready.
        while !self.command(&["PING"]).is_ok_and(|answer| answer == "PONG") {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                bail!("redis-server ended with {status}: {}", self.last_words());
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "redis-server does not get ready: {}",
                self.last_words()
            );
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn serve(&self) -> Command {
        let mut command = Command::new("redis-server");
        if self.sentinel.is_some() {
            command.arg(self.home.join("sentinel.conf"));
        }
        let mut set = |name: &str, value: &str| {
            command.arg(format!("--{name}")).arg(value);
        };
        match self.port {
            Some(port) => {
                set("port", &port.to_string());
                set("bind", "127.0.0.1");
            }
            None => {
                set("port", "0");
                set("unixsocket", &self.socket().display().to_string());
            }
        }
        set("dir", &self.home.display().to_string());
        set("logfile", "log");
        if self.sentinel.is_some() {
            command.arg("--sentinel");
            return command;
        }
        set("save", "");
        let (log, fsync) = match self.settings.fsync {
            AppendFsync::Off => ("no", "everysec"),
            AppendFsync::EverySecond => ("yes", "everysec"),
            AppendFsync::Always => ("yes", "always"),
        };
        set("appendonly", log);
        set("appendfsync", fsync);
        if let Some(password) = &self.settings.password {
            set("requirepass", password);
        }
        for (name, value) in &self.settings.more {
            set(name, value);
        }
        command
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("redis-server does not run")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("an impossible process id")?, signal)
            .context("signal redis-server")
    }

    fn wait(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        let started = Instant::now();
        while child.try_wait()?.is_none() {
            ensure!(started.elapsed() < PATIENCE, "redis-server does not stop");
            std::thread::sleep(GLANCE);
        }
        self.child = None;
        // Its number may soon be somebody else's.
        fs::remove_file(self.home.join("pid")).context("forget redis-server")
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // What fails here is left to the guard.
        let stopped = self.child.is_none() || self.kill().is_ok();
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

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    #[test]
    fn a_server_keeps_its_data_and_leaves_nothing_behind() {
        let mut server = RedisServer::with(RedisSettings {
            fsync: AppendFsync::Always,
            password: Some("secret".to_owned()),
            ..RedisSettings::default()
        })
        .unwrap();
        let home = server.home.clone();
        server.command(&["SET", "a", "one two"]).unwrap();
        server.kill().unwrap();
        assert!(server.command(&["PING"]).is_err());
        server.restart().unwrap();
        assert_eq!(server.command(&["GET", "a"]).unwrap(), "one two");
        server.pause().unwrap();
        drop(server);
        assert!(!home.exists());
    }

    #[test]
    fn a_cluster_takes_every_key() {
        let cluster = RedisCluster::start().unwrap();
        let url = cluster.url();
        assert_eq!(url.matches("127.0.0.1").count(), 3, "{url}");
        let answers = cluster
            .nodes()
            .iter()
            .map(|node| node.command(&["SET", "a", "1"]));
        assert_eq!(answers.filter(Result::is_ok).count(), 1);
    }
}
