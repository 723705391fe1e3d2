//! Starting a program without a helper: what it has to do to itself happens between fork and exec.

use std::{fs::File, io, path::PathBuf, process::Stdio};

use tokio::process::Command;

use super::{
    Owned,
    spawner::{Started, enter},
};
use crate::{
    error::{Error, Result},
    limits::Rlimits,
    port::ProcessSpec,
};

/// Starts the program of `spec`. Must be called within a runtime.
pub(super) fn start(owned: Owned, spec: &ProcessSpec) -> Result<Started> {
    let failed = |source| Error::Start {
        program: spec.program.clone(),
        source,
    };
    let mut command = std::process::Command::new(&spec.program);
    command
        .args(&spec.args)
        .current_dir(&spec.dir)
        .env_clear()
        .envs(spec.env.iter())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let entrances = owned.instance.tree.entrances();
    confine(&mut command, entrances, Rlimits::of(&spec.limits)).map_err(failed)?;
    die_with_this_program(&mut command);
    let mut command = Command::from(command);
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    enter(&owned, &child, false);
    let stdin = child.stdin.take();
    let stdin = stdin.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    Ok(Started {
        owned,
        child,
        stdin: Box::new(stdin),
        launch: None,
    })
}

/// Lets the child join control groups and take limits before it becomes the program.
#[expect(
    unsafe_code,
    reason = "only the child itself can do these things, and without a helper there is no other place for them"
)]
fn confine(
    command: &mut std::process::Command,
    entrances: Vec<PathBuf>,
    rlimits: Rlimits,
) -> io::Result<()> {
    use std::os::unix::process::CommandExt;

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
pub(crate) fn die_with_this_program(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;

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
