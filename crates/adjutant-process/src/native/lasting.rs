//! Processes that outlive a runtime which dies, and are taken over by the next one.
//!
//! They are owned like others, but their trees have names that neither the guardian nor the sweep takes for a dead
//! program's. A note in a folder says which process it is; a lock on it, which the system lets go with the runtime, whose it
//! is. What they print goes to a file beside the note, because pipes would end with the runtime.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use adjutant_confine::Isolation;
use async_trait::async_trait;
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use super::{direct, first::First};
use crate::{
    capabilities::Enforcement,
    error::{Error, Result},
    limits::{LimitKind, Limits, Rlimits},
    port::{ExitReason, Process, ProcessManager, ProcessSpec, Spawned},
    procfs::Stat,
    tree::{Ground, Tree, VARIABLE},
};

/// The variable that names an instance.
const NAME: &str = "ADJUTANT_INSTANCE";

/// Time between two rounds of emptying a tree, and rounds before it is left.
const ROUND: Duration = Duration::from_millis(5);
const ROUNDS: u32 = 400;

/// Starts processes that survive the sudden death of this program, and takes over those of a program that has died. When it
/// ends in order they end with it.
///
/// Only for what needs nobody beside it: limits that the kernel keeps, the profile `open`, and no pipes.
#[derive(Debug, Clone)]
pub struct LastingProcesses {
    ground: Arc<Ground>,
    /// Where the notes are; one folder for each project.
    dir: PathBuf,
}

/// What the next program has to know of a process.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    pid: i32,
    start: u64,
    tree: String,
    /// What was started; another one is another process.
    what: Vec<String>,
}

impl LastingProcesses {
    /// Keeps notes and output in `dir`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        let failed = |source| Error::WorkFolder {
            dir: dir.clone(),
            source,
        };
        fs::create_dir_all(&dir).map_err(failed)?;
        let dir = fs::canonicalize(&dir).map_err(failed)?;
        let ground = Ground::find(None).unwrap_or(Ground::Plain);
        Ok(Self {
            ground: Arc::new(ground),
            dir,
        })
    }

    fn check(&self, spec: &ProcessSpec) -> Result<()> {
        let by_kernel = |kind| {
            matches!(
                self.ground.enforcement(kind),
                Enforcement::Cgroup | Enforcement::Rlimit
            )
        };
        let loose = |kind: &LimitKind| spec.limits.has(*kind) && !by_kernel(*kind);
        if let Some(kind) = LimitKind::ALL.into_iter().find(loose) {
            return Err(Error::NotEnforceable {
                kind,
                limit: spec.limits.shown(kind),
                ownership: self.ground.ownership(),
            });
        }
        if spec.isolation != Isolation::default() {
            let source = io::Error::new(
                io::ErrorKind::Unsupported,
                "a process that survives its runtime cannot be isolated",
            );
            return Err(start_failed(spec, source));
        }
        Ok(())
    }

    /// A name that is the same for each program of this project, and no incarnation's.
    fn tree_name(&self, name: &str) -> String {
        let folder = adjutant_core::Json::from(self.dir.to_string_lossy().as_ref());
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = name.chars().map(plain).collect();
        format!("adjutant-kept_{:016x}_{name}", folder.fingerprint().0)
    }

    fn begin(&self, spec: &ProcessSpec, name: &str) -> io::Result<LastingProcess> {
        let lock = self.lock(name)?;
        let tree = self.tree_name(name);
        let note = self.dir.join(format!("{name}.json"));
        if let Some(known) = self.living(&note, spec) {
            let process = self.take_over(&known)?;
            tracing::info!(
                instance = name,
                pid = known.pid,
                "still running, and taken over"
            );
            return Ok(LastingProcess::new(process, true, note, lock));
        }
        self.clear(&tree);
        let process = self.start(spec, &tree, name)?;
        let written = Note {
            pid: process.0.pid,
            start: Stat::of(process.0.pid).map_or(0, |stat| stat.start),
            tree,
            what: what(spec),
        };
        // Made before anybody waits: were it lost, the next program would end the process and start another.
        let text = serde_json::to_vec(&written)?;
        let draft = note.with_extension("new");
        fs::write(&draft, text)?;
        fs::rename(&draft, &note)?;
        Ok(LastingProcess::new(process, false, note, lock))
    }

    /// Held as long as this program lives.
    fn lock(&self, name: &str) -> io::Result<File> {
        let path = self.dir.join(format!("{name}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            let why = format!("another runtime has it, see {}", path.display());
            io::Error::new(io::ErrorKind::WouldBlock, why)
        })?;
        Ok(file)
    }

    /// The process of a note, if it is there and is what is wanted.
    fn living(&self, note: &PathBuf, spec: &ProcessSpec) -> Option<Note> {
        let note: Note = serde_json::from_slice(&fs::read(note).ok()?).ok()?;
        let now = Stat::of(note.pid)?;
        let same = now.start == note.start && now.is_alive() && note.what == what(spec);
        same.then_some(note)
    }

    fn take_over(&self, known: &Note) -> io::Result<(First, Box<dyn Tree>)> {
        let tree = self.ground.existing_tree(&known.tree);
        let first = First::stranger(known.pid)?;
        // Looked at with the handle in hand, so that it is nobody else.
        match Stat::of(known.pid) {
            Some(now) if now.start == known.start => tree.entered(now, false),
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok((first, tree))
    }

    /// Ends what is left under a name.
    fn clear(&self, tree: &str) {
        empty(&*self.ground.existing_tree(tree));
        crate::tree::sweep_named(tree);
    }

    fn start(
        &self,
        spec: &ProcessSpec,
        name: &str,
        instance: &str,
    ) -> io::Result<(First, Box<dyn Tree>)> {
        let tree = self.ground.named_tree(name, &spec.limits)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("{instance}.log")))?;
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .current_dir(&spec.dir)
            .env_clear()
            .envs(spec.env.iter())
            .env(VARIABLE, name)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        direct::confine(&mut command, tree.entrances(), Rlimits::of(&spec.limits))?;
        let child = command.spawn().inspect_err(|_| {
            tree.remove();
        })?;
        let first = First::of(child.id().cast_signed())?;
        if let Some(stat) = Stat::of(first.pid) {
            tree.entered(stat, false);
        }
        Ok((first, tree))
    }
}

/// What makes two processes the same one.
fn what(spec: &ProcessSpec) -> Vec<String> {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let Limits {
        memory, cpu, pids, ..
    } = spec.limits;
    let limits = format!("{memory:?} {cpu:?} {pids:?}");
    let mut what = vec![text(&spec.program), text(&spec.dir), limits];
    what.extend(spec.args.iter().cloned());
    what
}

fn start_failed(spec: &ProcessSpec, source: io::Error) -> Error {
    Error::Start {
        program: spec.program.clone(),
        source,
    }
}

/// Kills all of a tree and removes it. Blocks while that takes.
fn empty(tree: &dyn Tree) {
    for _ in 0..ROUNDS {
        if tree.remove() {
            return;
        }
        tree.kill();
        std::thread::sleep(ROUND);
    }
}

#[async_trait]
impl ProcessManager for LastingProcesses {
    async fn spawn(&self, spec: ProcessSpec) -> Result<Spawned> {
        self.check(&spec)?;
        let name = spec.env.get(NAME).unwrap_or("process").to_owned();
        let (this, wanted) = (self.clone(), spec.clone());
        let begun = tokio::task::spawn_blocking(move || this.begin(&wanted, &name)).await;
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let mut process = begun
            .map_err(gone)
            .and_then(|begun| begun)
            .map_err(|source| start_failed(&spec, source))?;
        let handle = process.begun.as_ref().map(|(first, _)| first.watch());
        process.handle = handle
            .transpose()
            .map_err(|source| start_failed(&spec, source))?;
        Ok(Spawned {
            process: Box::new(process),
            stdin: Box::new(tokio::io::sink()),
            stdout: Box::new(tokio::io::empty()),
            stderr: Box::new(tokio::io::empty()),
        })
    }
}

/// One of them. Dropped, it ends as every process does.
struct LastingProcess {
    pid: u32,
    begun: Option<(First, Box<dyn Tree>)>,
    handle: Option<AsyncFd<OwnedFd>>,
    /// Whether another program started it, so that nobody tells us how it ended.
    adopted: bool,
    ended: Option<ExitReason>,
    note: PathBuf,
    _lock: File,
}

impl LastingProcess {
    fn new(begun: (First, Box<dyn Tree>), adopted: bool, note: PathBuf, lock: File) -> Self {
        Self {
            pid: begun.0.pid.cast_unsigned(),
            begun: Some(begun),
            handle: None,
            adopted,
            ended: None,
            note,
            _lock: lock,
        }
    }

    fn signal(&self, signals: &[Signal]) {
        if let Some((_, tree)) = &self.begun {
            tree.signal(signals);
        }
    }

    fn status(&self) -> ExitReason {
        let Some((first, tree)) = &self.begun else {
            return ExitReason::Unseen;
        };
        let struck = tree.struck();
        let end = if self.adopted {
            None
        } else {
            first.end().ok().flatten()
        };
        match (struck, end) {
            (Some(LimitKind::Memory), _) => ExitReason::Oom,
            (Some(kind), Some((code, _))) if code != Some(0) => ExitReason::Limit(kind),
            (_, Some((Some(code), _))) => ExitReason::Exited(code),
            (_, Some((None, Some(signal)))) => ExitReason::Signal(signal),
            _ => ExitReason::Unseen,
        }
    }
}

#[async_trait]
impl Process for LastingProcess {
    fn id(&self) -> u32 {
        self.pid
    }

    async fn wait(&mut self) -> Result<ExitReason> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        if let Some(handle) = &self.handle {
            let pid = self.pid;
            let seen = handle.readable().await;
            seen.map_err(|source| Error::Wait { pid, source })?
                .retain_ready();
        }
        let reason = self.status();
        self.ended = Some(reason);
        let _ = fs::remove_file(&self.note);
        if let Some((_, tree)) = self.begun.take() {
            let _ = tokio::task::spawn_blocking(move || empty(&*tree)).await;
        }
        Ok(reason)
    }

    fn terminate(&mut self) {
        self.signal(&[Signal::TERM, Signal::CONT]);
    }

    fn kill(&mut self) {
        if let Some((_, tree)) = &self.begun {
            tree.kill();
        }
    }

    fn pause(&mut self) {
        self.signal(&[Signal::STOP]);
    }

    fn resume(&mut self) {
        self.signal(&[Signal::CONT]);
    }
}

impl Drop for LastingProcess {
    fn drop(&mut self) {
        let Some((first, tree)) = self.begun.take() else {
            return;
        };
        let _ = fs::remove_file(&self.note);
        tree.kill();
        empty(&*tree);
        if !self.adopted {
            first.reap();
        }
    }
}
