//! A process with a system of its own, and the first process of that system, which looks after it.
//!
//! ```text
//! caller ── clone ──► init: process 1 of the namespaces; builds the view, reaps, ends with the agent or the caller
//!                      └── clone ──► agent: gives up its rights, executes the program
//! ```
//!
//! The kernel ends everything in a process namespace when its first process ends, so that nothing gets away.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{
        DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, getegid, geteuid,
        set_dumpable_behavior, set_parent_process_death_signal, setsid, wait, waitpid,
    },
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    system::sethostname,
    thread::set_thread_groups,
};

use crate::{
    error::{At, Error, Result, Step},
    mounts, rights, sys,
    view::View,
};

/// What a process in a system of its own calls the machine.
const HOST: &[u8] = b"agent";

/// A process with a system of its own. It ends when the process that has this ends.
#[derive(Debug)]
pub struct Child {
    init: Pid,
    status: File,
}

/// How a process ended: one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// Its status.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Child {
    /// The number of the first process of its namespace. Killing that one ends them all.
    #[must_use]
    pub const fn init(&self) -> i32 {
        self.init.as_raw_nonzero().get()
    }

    /// Waits until the process has ended with all that came of it.
    ///
    /// # Errors
    /// When somebody else has waited for it.
    pub fn wait(self) -> io::Result<End> {
        loop {
            match waitpid(Some(self.init), WaitOptions::empty()) {
                Ok(_) => return Ok(self.end()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How the process ended; blocks until then. For callers that wait for their children in a way of their own.
    #[must_use]
    pub fn end(mut self) -> End {
        let mut told = [0; 8];
        match self.status.read_exact(&mut told) {
            Ok(()) => decode(told),
            // The first process was killed, and with it the agent.
            Err(_) => End {
                code: None,
                signal: Some(Signal::KILL.as_raw()),
            },
        }
    }
}

fn encode(end: End) -> [u8; 8] {
    let mut bytes = [0; 8];
    let (left, right) = bytes.split_at_mut(4);
    left.copy_from_slice(&end.code.unwrap_or(-1).to_le_bytes());
    right.copy_from_slice(&end.signal.unwrap_or(-1).to_le_bytes());
    bytes
}

fn decode(bytes: [u8; 8]) -> End {
    let [a, b, c, d, e, f, g, h] = bytes;
    let present = |number: i32| (number >= 0).then_some(number);
    End {
        code: present(i32::from_le_bytes([a, b, c, d])),
        signal: present(i32::from_le_bytes([e, f, g, h])),
    }
}

/// The user and group that the process is to be, which it cannot ask for any more once it is in its namespace.
struct Ids {
    user: u32,
    group: u32,
}

/// Starts a process that sees `view`, lets it `restrict` itself, and then `exec` the program.
pub(crate) fn spawn(
    view: &View,
    restrict: impl FnOnce() -> Result<()>,
    exec: impl FnOnce() -> io::Error,
) -> Result<Child> {
    let ids = Ids {
        user: geteuid().as_raw(),
        group: getegid().as_raw(),
    };
    // Groups cannot be named in the namespace, but would count. Only root can leave them.
    if ids.user == 0 {
        let _ = set_thread_groups(&[]);
    }
    let (mut failure, tell_failure) = pipe().at(Step::Namespaces)?;
    let (status, tell_status) = pipe().at(Step::Namespaces)?;
    let Some(init) = sys::clone_into(namespaces(view)).at(Step::Namespaces)? else {
        drop((failure, status));
        let told = Told {
            tell_failure,
            tell_status,
        };
        begin(view, &ids, told, restrict, exec)
    };
    drop((tell_failure, tell_status));
    let mut text = Vec::new();
    failure.read_to_end(&mut text).at(Step::Namespaces)?;
    let child = Child { init, status };
    if text.is_empty() {
        return Ok(child);
    }
    let _ = child.wait();
    let unreadable = |_| Error::new(Step::Namespaces, Errno::IO);
    Err(serde_json::from_slice(&text).unwrap_or_else(unreadable))
}

const fn namespaces(view: &View) -> libc::c_int {
    let always = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    if view.host_network {
        always
    } else {
        always | libc::CLONE_NEWNET
    }
}

fn pipe() -> io::Result<(File, File)> {
    let (read, write): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((read.into(), write.into()))
}

/// Ends this process at once.
pub(crate) fn exit(code: i32) -> ! {
    sys::exit_now(code)
}

/// The ways from the new processes to the caller.
struct Told {
    /// Closes when the program runs.
    tell_failure: File,
    tell_status: File,
}

impl Told {
    fn failed(&mut self, error: &Error) -> ! {
        // When nobody listens any more there is nobody to tell.
        let _ = serde_json::to_writer(&mut self.tell_failure, error);
        exit(127)
    }
}

/// The life of the first process.
fn begin(
    view: &View,
    ids: &Ids,
    mut told: Told,
    restrict: impl FnOnce() -> Result<()>,
    exec: impl FnOnce() -> io::Error,
) -> ! {
    let prepared =
        prepare(view, ids, &told.tell_status).and_then(|()| sys::clone_into(0).at(Step::Fork));
    match prepared {
        Err(error) => told.failed(&error),
        Ok(None) => {
            let became = become_the_agent(restrict, exec);
            told.failed(&became)
        }
        Ok(Some(agent)) => {
            let Told {
                tell_failure,
                mut tell_status,
            } = told;
            // The agent must not wait for us, and must not find more rights here than it has itself.
            let _ = rights::give_up();
            let _ = let_go_of_the_streams();
            drop(tell_failure);
            let _ = sys::close_all_but(tell_status.as_fd());
            let _ = tell_status.write_all(&encode(reap(agent)));
            exit(0)
        }
    }
}

fn prepare(view: &View, ids: &Ids, tell_status: &File) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).at(Step::Namespaces)?;
    // The caller may have ended before the call above took effect; then nobody would ever send the signal.
    if nobody_listens(tell_status).at(Step::Namespaces)? {
        return Err(Error::new(Step::Namespaces, Errno::PIPE));
    }
    name_the_user(ids).at(Step::Users)?;
    sethostname(HOST).at(Step::Host)?;
    if view.loopback {
        sys::loopback_up().at(Step::Loopback)?;
    }
    mounts::enter(view)?;
    // What this process has in its memory and files is the runtime's, and none of the agent's business.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Step::Namespaces)
}

fn nobody_listens(pipe: &File) -> io::Result<bool> {
    let mut files = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::OUT)];
    poll(&mut files, Some(&Timespec::default()))?;
    Ok(files
        .iter()
        .any(|file| file.revents().contains(PollFlags::ERR)))
}

/// Lets the process be in its namespace who it is outside, and nobody else.
fn name_the_user(ids: &Ids) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{0} {0} 1", ids.user))?;
    fs::write("/proc/self/gid_map", format!("{0} {0} 1", ids.group))
}

/// Comes back only with an error.
fn become_the_agent(
    restrict: impl FnOnce() -> Result<()>,
    exec: impl FnOnce() -> io::Error,
) -> Error {
    let ready = setsid().at(Step::Fork).and_then(|_| restrict());
    match ready {
        Ok(()) => Error::new(Step::Exec, exec()),
        Err(error) => error,
    }
}

/// The agent's streams are to end with the agent.
fn let_go_of_the_streams() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Reaps whoever ends here, until it is the agent.
fn reap(agent: Pid) -> End {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == agent => return end_of(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return End::default(),
        }
    }
}

fn end_of(status: WaitStatus) -> End {
    End {
        code: status.exit_status(),
        signal: status.terminating_signal(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_it_was() {
        for end in [
            End {
                code: Some(0),
                signal: None,
            },
            End {
                code: Some(255),
                signal: None,
            },
            End {
                code: None,
                signal: Some(15),
            },
        ] {
            assert_eq!(decode(encode(end)), end);
        }
    }
}
