//! Looks after one agent where there are no control groups.
//!
//! The keeper is the agent's parent and a subreaper: a descendant whose parent ends becomes the keeper's child, so that
//! everything the agent ever starts stays below it, double forks and `setsid` included. It ends them all when the agent
//! ends and when the runtime is gone, which it learns from the socket between them; then it ends itself.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{net::UnixStream, process::CommandExt},
    process::ExitCode,
    thread,
    time::Duration,
};

use adjutant_confine::End;
use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use super::{
    child::{Failure, command},
    order::{Order, Report, Step, report},
};
use crate::{
    native::die_with_this_program,
    procfs::{self, Stat},
    tree::kill_processes,
};

/// Time between two rounds of killing.
const ROUND: Duration = Duration::from_millis(2);

/// Starts the agent, and returns when it is gone with all that came of it.
pub(super) fn keep(order: &Order, socket: &UnixStream) -> Result<ExitCode, Failure> {
    set_child_subreaper(Some(getpid())).map_err(Failure::of(Step::Tie))?;
    let mut agent = command(order);
    agent.process_group(0);
    die_with_this_program(&mut agent);
    let agent = agent.spawn().map_err(Failure::of(Step::Exec))?;
    let pid = agent.id().cast_signed();
    report(socket, &Report::Started { pid });
    look_after(socket);
    let (code, signal) = reap(pid);
    report(socket, &Report::Ended { code, signal });
    Ok(ExitCode::SUCCESS)
}

/// The same for an agent with a system of its own. Within, the first process does what a keeper does; here is the way to
/// the runtime.
pub(super) fn keep_apart(order: &Order, socket: &UnixStream) -> Result<ExitCode, Failure> {
    set_child_subreaper(Some(getpid())).map_err(Failure::of(Step::Tie))?;
    // A signal for the whole tree is meant for the agent. Executing its program lets it hear signals again.
    ignore_signals().map_err(Failure::of(Step::Tie))?;
    let spawned = order.confinement.spawn(|| command(order).exec());
    let child = spawned.map_err(Failure::Confinement)?;
    let init = child.init();
    let pid = only_child(init).unwrap_or(init);
    report(socket, &Report::Started { pid });
    look_after(socket);
    reap(init);
    let End { code, signal } = child.end();
    report(socket, &Report::Ended { code, signal });
    Ok(ExitCode::SUCCESS)
}

/// The number of a process's child, as the machine counts.
fn only_child(pid: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.ok()?.split_whitespace().next()?.parse().ok()
}

#[expect(unsafe_code, reason = "no library that is used here blocks signals")]
fn ignore_signals() -> io::Result<()> {
    // SAFETY: plain numbers, for which zero is a valid value.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set lives during both calls, and the former one is not asked for.
    let failed = unsafe {
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut())
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the agent have its streams alone, and sees to it that it ends with the runtime.
fn look_after(socket: &UnixStream) {
    let_go_of_the_streams();
    // Without the watch the runtime's end would not be noticed: better no agent than one without that.
    let watched = socket.try_clone().and_then(|socket| {
        let watch = move || until_the_runtime_ends(socket);
        thread::Builder::new().spawn(watch)
    });
    if watched.is_err() {
        kill_processes(below);
    }
}

/// The agent's streams are to end with the agent.
fn let_go_of_the_streams() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
    }
}

/// All living descendants of this process.
fn below() -> Vec<Stat> {
    let own = getpid().as_raw_nonzero().get();
    procfs::descendants(own, &procfs::all())
}

fn until_the_runtime_ends(mut socket: UnixStream) {
    // Nothing is ever sent: a byte is as good as the end.
    let _ = socket.read(&mut [0]);
    loop {
        kill_processes(below);
        thread::sleep(ROUND);
    }
}

/// Reaps until nobody is left; from the agent's end on, with violence.
fn reap(agent: i32) -> (Option<i32>, Option<i32>) {
    let mut end = None;
    loop {
        let how = if end.is_some() {
            WaitOptions::NOHANG
        } else {
            WaitOptions::empty()
        };
        match wait(how) {
            Ok(Some((pid, status))) if Some(pid) == Pid::from_raw(agent) => {
                end = ended(status).or(end);
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => {
                kill_processes(below);
                thread::sleep(ROUND);
            }
            Err(_) => return end.unwrap_or_default(),
        }
    }
}

fn ended(status: WaitStatus) -> Option<(Option<i32>, Option<i32>)> {
    let end = (status.exit_status(), status.terminating_signal());
    (end != (None, None)).then_some(end)
}
