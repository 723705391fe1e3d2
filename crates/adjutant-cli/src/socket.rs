//! The control socket: each runtime of a project listens on one and tells about its instances.
//!
//! `.adjutant/run/PID.sock` takes one request a line, such as `{"method":"list"}`, and answers each with one line. Only its owner may connect.

use std::{
    fs, io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use adjutant::{
    mcp::McpServerPool,
    process::usage::{InstanceView, Instances},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};

/// Longer requests are refused.
const MAX_REQUEST: u64 = 4096;
/// Longer answers are not read: some kilobytes for each of thousands of instances.
const MAX_ANSWER: u64 = 256 * 1024 * 1024;
/// Connections that are served at once; more wait.
const MAX_CONNECTIONS: usize = 8;
/// How long the other side may take for anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// All instances.
    List,
    /// All instances, with what they used before.
    Stats,
    /// All MCP servers.
    Mcp,
    /// Restart the MCP servers of this name.
    RestartMcp { server: String },
}

/// What there is to tell about, and to act on.
#[derive(Clone)]
pub struct Controls {
    pub instances: Instances,
    pub servers: Servers,
}

/// The pools of MCP servers of this program, known once its agents are.
#[derive(Clone, Default)]
pub struct Servers(std::sync::Arc<std::sync::Mutex<Vec<McpServerPool>>>);

impl Servers {
    /// Lets others look at these pools.
    pub fn offer(&self, pools: &[McpServerPool]) {
        let mut all = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        all.extend_from_slice(pools);
    }

    fn all(&self) -> Vec<McpServerPool> {
        let all = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        all.clone()
    }

    fn list(&self) -> Vec<serde_json::Value> {
        let views = self.all().into_iter().flat_map(|pool| pool.list());
        views.map(|view| serde_json::json!(view)).collect()
    }

    async fn restart(&self, server: &str) -> Result<u64, String> {
        let mut restarted = 0;
        for pool in self.all().iter().filter(|pool| pool.has(server)) {
            let count = pool
                .restart(server)
                .await
                .map_err(|error| error.to_string())?;
            restarted += count as u64;
        }
        Ok(restarted)
    }
}

/// What is answered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The runtime's process.
    pub pid: u32,
    #[serde(default)]
    pub instances: Vec<InstanceView>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp: Vec<serde_json::Value>,
    /// How many servers were restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The socket of this program; gone when this is dropped.
#[derive(Debug)]
pub struct Served {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Served {
    /// Listens, and clears away sockets of the dead.
    pub fn start(dir: &Path, controls: Controls) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        for other in sockets(dir) {
            remove_dead(dir, &other);
        }
        let (listener, path) = bind(dir)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(listen(listener, controls));
        Ok(Self { path, task })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
        // One that stays behind is cleared away by the next.
        let _ = fs::remove_file(&self.path);
    }
}

/// Asks all live runtimes of a project. Those that do not answer are left out, and told of in the log.
pub async fn ask_all(dir: &Path, ask: &Ask) -> Vec<Answer> {
    let questions = sockets(dir).into_iter().map(|path| async move {
        let asked = timeout(patience(ask), ask_one(dir, &path, ask)).await;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(answer) => Some(answer),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                remove_dead(dir, &path);
                None
            }
            Err(error) => {
                tracing::warn!(socket = %path.display(), %error, "a runtime does not tell about its instances");
                None
            }
        }
    });
    let mut answers = Vec::new();
    for question in questions {
        answers.extend(question.await);
    }
    answers
}

/// A restart lets calls under way end first.
fn patience(ask: &Ask) -> Duration {
    match ask {
        Ask::RestartMcp { .. } => PATIENCE * 12,
        _ => PATIENCE,
    }
}

async fn ask_one(dir: &Path, path: &Path, ask: &Ask) -> io::Result<Answer> {
    let stream = at(dir, path, |path| {
        std::os::unix::net::UnixStream::connect(path)
    })?;
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER))
        .read_line(&mut answer)
        .await?;
    let answer: Answer = serde_json::from_str(&answer)?;
    match answer.error {
        Some(error) => Err(io::Error::other(error)),
        None => Ok(answer),
    }
}

async fn listen(listener: UnixListener, controls: Controls) {
    let places = std::sync::Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely, which passes.
            tokio::time::sleep(PATIENCE / 10).await;
            continue;
        };
        let controls = controls.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, &controls).await {
                tracing::debug!(%error, "a question about instances was not answered");
            }
            drop(place);
        });
    }
}

/// Answers what is asked on one connection, until nothing more is.
async fn serve(stream: UnixStream, controls: &Controls) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        let mut limited = (&mut read).take(MAX_REQUEST);
        if timeout(PATIENCE, limited.read_line(&mut line)).await?? == 0 {
            return Ok(());
        }
        let mut answer = serde_json::to_vec(&answer(&line, controls.clone()).await)?;
        answer.push(b'\n');
        timeout(PATIENCE, write.write_all(&answer)).await??;
    }
}

async fn answer(line: &str, controls: Controls) -> Answer {
    let pid = std::process::id();
    let refused = |error: String| Answer {
        pid,
        error: Some(error),
        ..Answer::default()
    };
    let ask: Ask = match serde_json::from_str(line) {
        Ok(ask) => ask,
        Err(error) => return refused(error.to_string()),
    };
    let answered = Answer {
        pid,
        ..Answer::default()
    };
    match ask {
        Ask::Mcp => Answer {
            mcp: controls.servers.list(),
            ..answered
        },
        Ask::RestartMcp { server } => match controls.servers.restart(&server).await {
            Ok(restarted) => Answer {
                restarted: Some(restarted),
                ..answered
            },
            Err(error) => refused(error),
        },
        Ask::List | Ask::Stats => {
            let instances = controls.instances;
            // Many small files are read for that, which others should not have to wait for.
            let look = tokio::task::spawn_blocking(move || instances.list(ask == Ask::Stats));
            match look.await {
                Ok(instances) => Answer {
                    instances,
                    ..answered
                },
                Err(error) => refused(error.to_string()),
            }
        }
    }
}

/// Binds `PID.sock`, or a name beside it: this program may have bound it before, and so may one in another container.
fn bind(dir: &Path) -> io::Result<(UnixListener, PathBuf)> {
    const NAMES: u32 = 100;
    let pid = std::process::id();
    for number in 1..NAMES {
        let name = match number {
            1 => format!("{pid}.sock"),
            _ => format!("{pid}-{number}.sock"),
        };
        let path = dir.join(name);
        match at(dir, &path, |path| UnixListener::bind(path)) {
            Ok(listener) => return Ok((listener, path)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn sockets(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "sock"))
        .collect();
    paths.sort();
    paths
}

/// Removes a socket that nobody listens on.
fn remove_dead(dir: &Path, path: &Path) {
    let connected = at(dir, path, |path| {
        std::os::unix::net::UnixStream::connect(path)
    });
    if connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        let _ = fs::remove_file(path);
    }
}

/// Uses a socket's path within its folder. The kernel takes no more than 107 bytes, so that a long path is taken through
/// the open folder.
fn at<T>(dir: &Path, path: &Path, action: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    const MAX_PATH: usize = 100;
    if path.as_os_str().len() <= MAX_PATH {
        return action(path);
    }
    let folder = fs::File::open(dir)?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(name);
    action(&short)
}
