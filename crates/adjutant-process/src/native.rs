//! Processes of this machine, each with a process group of its own.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use crate::{
    error::{Error, Result},
    port::{ExitReason, Process, ProcessManager, ProcessSpec, Spawned},
};

/// Starts that may be waiting for the thread at once; more wait in their callers.
const MAX_WAITING_STARTS: usize = 16;

/// Starts plain processes. Cheap to clone.
///
/// - Each process leads a process group; signals go to the group, so that what an agent starts ends with it. A
///   descendant that makes a group of its own (`setsid`) escapes this.
/// - On Linux the kernel kills the process when this program dies, however it dies. It does so when the *thread* that
///   started the process ends, so one thread starts them all and lives as long as any of them.
#[derive(Debug, Clone)]
pub struct NativeProcesses {
    spawner: Arc<Spawner>,
}

/// The way to the thread that starts processes; the thread ends when this is dropped.
#[derive(Debug)]
struct Spawner {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    spec: ProcessSpec,
    runtime: Handle,
    reply: oneshot::Sender<Result<(Group, Child)>>,
}

impl NativeProcesses {
    /// Starts the thread that starts processes.
    ///
    /// # Errors
    /// When the operating system has no thread to give.
    pub fn new() -> Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(MAX_WAITING_STARTS);
        std::thread::Builder::new()
            .name("adjutant-spawn".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    let _runtime = job.runtime.enter();
                    // If nobody waits any more, the refused value is dropped and its group killed.
                    let _ = job.reply.send(start(&job.spec));
                }
            })
            .map_err(|source| Error::Spawner { source })?;
        Ok(Self {
            spawner: Arc::new(Spawner { jobs }),
        })
    }
}

#[async_trait]
impl ProcessManager for NativeProcesses {
    async fn spawn(&self, spec: ProcessSpec) -> Result<Spawned> {
        let gone = |_| Error::Spawner {
            source: io::ErrorKind::BrokenPipe.into(),
        };
        let program = spec.program.clone();
        let (reply, started) = oneshot::channel();
        let job = Job {
            spec,
            runtime: Handle::current(),
            reply,
        };
        self.spawner.jobs.send(job).await.map_err(|_| gone(()))?;
        let (group, mut child) = started.await.map_err(|_| gone(()))??;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Error::Start {
                program,
                source: io::ErrorKind::BrokenPipe.into(),
            });
        };
        Ok(Spawned {
            process: Box::new(NativeProcess {
                group,
                child,
                ended: None,
                _spawner: Arc::clone(&self.spawner),
            }),
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
        })
    }
}

fn start(spec: &ProcessSpec) -> Result<(Group, Child)> {
    let failed = |source| Error::Start {
        program: spec.program.clone(),
        source,
    };
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .current_dir(&spec.dir)
        .env_clear()
        .envs(spec.env.iter())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    die_with_this_program(&mut command);
    let child = command.spawn().map_err(failed)?;
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let pid = pid.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    Ok((Group { leader: Some(pid) }, child))
}

/// Lets the kernel kill the child when the thread that starts it ends.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the kernel offers this to the child itself only, and std has no safe name for it"
)]
fn die_with_this_program(command: &mut Command) {
    use rustix::process::{getppid, set_parent_process_death_signal};

    let parent = Pid::from_raw(std::process::id().cast_signed());
    // SAFETY: the hook runs in the child between fork and exec, where only async-signal-safe calls are allowed and
    // nothing may allocate or lock. It makes two system calls, prctl and getppid, and builds errors from numbers.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the call above took effect; then nobody would ever send the signal.
            if getppid() == parent {
                Ok(())
            } else {
                Err(io::Error::from(rustix::io::Errno::SRCH))
            }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_this_program(_command: &mut Command) {}

/// A process group that is killed when dropped.
#[derive(Debug)]
struct Group {
    /// Empty once the group is gone, so that a later group with the same number is never signalled.
    leader: Option<Pid>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        let Some(leader) = self.leader else { return };
        // The only likely error is that the group has no members left, which is what we want.
        if let Err(error) = kill_process_group(leader, signal) {
            tracing::trace!(pid = leader.as_raw_nonzero().get(), %error, "a process group could not be signalled");
        }
    }

    /// Kills what is left when the leader has ended by itself.
    fn sweep(&mut self) {
        self.signal(Signal::KILL);
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

struct NativeProcess {
    // Dropped before `child`: tokio reaps the leader in the background afterwards, and until then its number is ours.
    group: Group,
    child: Child,
    ended: Option<(u32, ExitStatus)>,
    _spawner: Arc<Spawner>,
}

#[async_trait]
impl Process for NativeProcess {
    fn id(&self) -> u32 {
        self.ended
            .map(|(pid, _)| pid)
            .or_else(|| self.child.id())
            .unwrap_or_default()
    }

    async fn wait(&mut self) -> Result<ExitReason> {
        let pid = self.id();
        if self.ended.is_none() {
            let waited = self.child.wait().await;
            let status = waited.map_err(|source| Error::Wait { pid, source })?;
            self.group.sweep();
            self.ended = Some((pid, status));
        }
        let status = self.ended.map(|(_, status)| status).unwrap_or_default();
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => ExitReason::Exited(code),
            (None, signal) => ExitReason::Signal(signal.unwrap_or_default()),
        })
    }

    fn terminate(&mut self) {
        self.group.signal(Signal::TERM);
    }

    fn kill(&mut self) {
        self.group.signal(Signal::KILL);
    }
}
