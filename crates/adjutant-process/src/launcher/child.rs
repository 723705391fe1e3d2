//! A copy of the helper: from an order to the agent.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, ExitCode},
};

use rustix::{
    process::{Pid, Signal, getppid, set_parent_process_death_signal, setpgid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    thread::set_no_new_privs,
};

use super::{
    keeper,
    order::{Order, Report, Step, receive, report},
    server::Files,
};
use crate::limits::Rlimits;

/// When memory runs out on the machine, agents go before the runtime; 0 to 1000.
const OOM_SCORE: &str = "300";

/// What is told when a step has failed.
pub(super) enum Failure {
    Step(Step, io::Error),
    Confinement(adjutant_confine::Error),
}

impl Failure {
    /// Names the step that fails.
    pub(super) fn of<E: Into<io::Error>>(step: Step) -> impl Fn(E) -> Self {
        move |error| Self::Step(step, error.into())
    }

    fn report(self) -> Report {
        match self {
            Self::Confinement(error) => Report::Unconfined(error),
            Self::Step(step, error) => {
                let errno = error.raw_os_error();
                let errno = errno.unwrap_or(rustix::io::Errno::IO.raw_os_error());
                Report::Failed { step, errno }
            }
        }
    }
}

/// Becomes the agent that an order asks for, or looks after it.
pub(super) fn launch(files: Files) -> ExitCode {
    let Files { socket, streams } = files;
    let failed = match carry_out(&socket, streams) {
        Ok(code) => return code,
        Err(failed) => failed,
    };
    report(&socket, &failed.report());
    ExitCode::FAILURE
}

fn carry_out(socket: &UnixStream, streams: [OwnedFd; 3]) -> Result<ExitCode, Failure> {
    take(streams).map_err(Failure::of(Step::Order))?;
    let order = receive(socket).map_err(Failure::of(Step::Order))?;
    if !order.keep {
        tie(&order).map_err(Failure::of(Step::Tie))?;
    }
    confine(&order)?;
    if order.confinement.has_own_view() {
        return keeper::keep_apart(&order, socket);
    }
    order.confinement.apply().map_err(Failure::Confinement)?;
    if order.keep {
        return keeper::keep(&order, socket);
    }
    report(socket, &Report::Ready);
    // Comes back only when it fails.
    Err(Failure::Step(Step::Exec, command(&order).exec()))
}

/// Makes these the standard streams, and this process the first of a group of its own.
fn take(streams: [OwnedFd; 3]) -> io::Result<()> {
    let [stdin, stdout, stderr] = streams;
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    Ok(setpgid(None, None)?)
}

/// Lets the kernel kill this process when the runtime dies.
fn tie(order: &Order) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The runtime may have died before the call above took effect; then nobody would ever send the signal.
    if getppid() == Pid::from_raw(order.runtime) {
        Ok(())
    } else {
        Err(rustix::io::Errno::SRCH.into())
    }
}

/// Takes from this process what the agent is not to have.
fn confine(order: &Order) -> Result<(), Failure> {
    for entrance in &order.entrances {
        fs::write(entrance, "0").map_err(Failure::of(Step::Cgroup))?;
    }
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let rlimits = Rlimits::of(&order.limits);
    rlimits.apply().map_err(Failure::of(Step::Rlimits))?;
    set_no_new_privs(true).map_err(Failure::of(Step::NoNewPrivs))
}

/// The agent's command, with the standard streams of this process.
pub(super) fn command(order: &Order) -> Command {
    let mut command = Command::new(&order.program);
    command
        .args(&order.args)
        .current_dir(&order.dir)
        .env_clear()
        .envs(order.env.iter());
    command
}
