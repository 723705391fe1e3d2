//! What the tests of confinement confine: it launches itself under a plan, and tries to get out.
//!
//! - `confine-probe support` prints what this machine enforces, as JSON.
//! - `confine-probe launch PLAN PROGRAM ARGS...` becomes or starts PROGRAM under a plan (JSON).
//! - `confine-probe try FACTS NAME...` makes attempts in a process each and prints `NAME NUMBER` for each: the error that
//!   the system answered with, 0 if the attempt worked, 255 if it ended in another way.

#![expect(
    unsafe_code,
    clippy::print_stdout,
    reason = "attempts are system calls, and the answers are read from stdout"
)]

mod facts;
mod files;
mod kernel;
mod network;
mod processes;

use std::{
    env, io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use adjutant_confine::{Confinement, Support};

use crate::facts::Facts;

/// One way to try to get out.
type Attempt = (&'static str, fn(&Facts) -> io::Result<()>);

/// An attempt that could not even be made.
const BROKEN: i32 = 255;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["support"] => {
            let support = serde_json::to_string(&Support::probe());
            println!("{}", support.unwrap_or_default());
            ExitCode::SUCCESS
        }
        ["launch", plan, program, rest @ ..] => launch(plan, program, rest),
        ["try", facts, names @ ..] => make_attempts(facts, names),
        ["user"] => {
            println!("{}", rustix::process::geteuid().as_raw());
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}

fn launch(plan: &str, program: &str, arguments: &[&str]) -> ExitCode {
    let plan: Confinement = match serde_json::from_str(plan) {
        Ok(plan) => plan,
        Err(error) => return failed(&error.to_string()),
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if !plan.has_own_view() {
        if let Err(error) = take_shelter() {
            return failed(&error.to_string());
        }
        if let Err(error) = plan.apply() {
            return failed(&error.to_string());
        }
        return failed(&command.exec().to_string());
    }
    match plan.spawn(|| command.exec()) {
        Err(error) => failed(&error.to_string()),
        Ok(child) => match child.wait() {
            Ok(end) => {
                ExitCode::from(end.code.unwrap_or(128 + end.signal.unwrap_or_default()) as u8)
            }
            Err(error) => failed(&error.to_string()),
        },
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the tests read why a launch failed from stderr"
)]
fn failed(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(126)
}

fn make_attempts(facts: &str, names: &[&str]) -> ExitCode {
    let facts: Facts = match serde_json::from_str(facts) {
        Ok(facts) => facts,
        Err(error) => return failed(&error.to_string()),
    };
    let all = [files::ALL, processes::ALL, network::ALL, kernel::ALL].concat();
    for name in names {
        let found = all.iter().find(|(known, _)| known == name);
        let answer = found.map_or(BROKEN, |(_, attempt)| in_a_process(*attempt, &facts));
        println!("{name} {answer}");
    }
    ExitCode::SUCCESS
}

/// Keeps the machine's mounts and names safe from attempts that work, as far as root can.
fn take_shelter() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // SAFETY: the call takes numbers only, and this process has a single thread.
    answer(unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS) })?;
    use rustix::mount::{MountPropagationFlags, mount_change};
    Ok(mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?)
}

/// Makes an attempt in a process of its own, so that what it changes there does not touch the next one.
fn in_a_process(attempt: fn(&Facts) -> io::Result<()>, facts: &Facts) -> i32 {
    // SAFETY: this process has a single thread, so the child may do whatever it likes.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = match attempt(facts) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(BROKEN),
        };
        // SAFETY: ends the child without running what belongs to its parent.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: `status` lives during the call.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    if waited == pid && libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        BROKEN
    }
}

/// The answer of a system call.
fn answer(result: impl Into<i64>) -> io::Result<i64> {
    let result = result.into();
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
