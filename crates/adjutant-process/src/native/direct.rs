//! Starting a program without a helper: what it has to do to itself happens between fork and exec.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
};

use tokio::net::unix::pipe;

use super::{
    first::{First, abandon},
    spawner::Begun,
};
use crate::{
    error::{Error, Result},
    limits::Rlimits,
    port::ProcessSpec,
    tree::Tree,
};

/// Starts the program of `spec`. Must be called within a runtime.
pub(super) fn start(tree: &dyn Tree, spec: &ProcessSpec) -> Result<Begun> {
    begin(tree, spec).map_err(|source| Error::Start {
        program: spec.program.clone(),
        source,
    })
}

fn begin(tree: &dyn Tree, spec: &ProcessSpec) -> io::Result<Begun> {
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
    confine(&mut command, tree.entrances(), Rlimits::of(&spec.limits))?;
    die_with_this_program(&mut command);
    let mut child = command.spawn()?;
    let pid = child.id().cast_signed();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let open = || {
        Ok((
            pipe::Sender::from_owned_fd(OwnedFd::from(stdin.ok_or_else(missing)?))?,
            pipe::Receiver::from_owned_fd(OwnedFd::from(stdout.ok_or_else(missing)?))?,
            pipe::Receiver::from_owned_fd(OwnedFd::from(stderr.ok_or_else(missing)?))?,
        ))
    };
    let opened: io::Result<_> = open();
    let (stdin, stdout, stderr) = opened.inspect_err(|_| abandon(pid))?;
    Ok(Begun {
        first: First::of(pid)?,
        stdin,
        stdout,
        stderr,
        launch: None,
    })
}

/// Lets the child join control groups and take limits before it becomes the program.
#[expect(
    unsafe_code,
    reason = "only the child itself can do these things, and without a helper there is no other place for them"
)]
pub(super) fn confine(
    command: &mut Command,
    entrances: Vec<PathBuf>,
    rlimits: Rlimits,
) -> io::Result<()> {
    let open = |path: PathBuf| File::options().write(true).open(path);
    let entrances: Vec<File> = entrances.into_iter().map(open).collect::<Result<_, _>>()?;
    // SAFETY: the hook runs in the child between fork and exec, where only async-signal-safe calls are allowed and
    // nothing may allocate or lock. It makes plain system calls on files that are open and numbers that are known:
    // write, getrlimit, setrlimit, prctl. Errors are built from numbers.
    unsafe {
        command.pre_exec(move || {
            for entrance in &entrances {
                rustix::io::write(entrance, b"0")?;
            }
            rlimits.apply()?;
            rustix::thread::set_no_new_privs(true)?;
            Ok(())
        });
    }
    Ok(())
}

/// Lets the kernel kill the child when the thread that starts it ends.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the kernel offers this to the child itself only, and std has no safe name for it"
)]
pub(crate) fn die_with_this_program(command: &mut Command) {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

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
