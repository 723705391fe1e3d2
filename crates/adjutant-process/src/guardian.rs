//! Ends what a runtime leaves behind when it dies, however it dies.
//!
//! The guardian is the helper under another name, in a process group of its own. It waits for the end of the runtime on a file
//! descriptor that stands for that very process, then empties and removes all its trees, and ends.

use std::{
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, getppid, pidfd_open},
};
use serde::{Deserialize, Serialize};

use crate::{
    helper::Helper,
    tree::{Ground, Incarnation},
};

/// The hidden argument.
pub(crate) const GUARD: &str = "__guard";

/// Time between two rounds of cleaning up, and when to give up: what cannot be killed by then waits for a device.
const ROUND: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// What a guardian has to know.
#[derive(Serialize, Deserialize)]
struct Charge {
    runtime: i32,
    /// The name of the runtime's trees, without their numbers.
    trees: String,
    ground: Ground,
}

/// The runtime's side: a guardian of this program's trees. Dropping it ends it.
pub(crate) struct Guardian(Child);

impl Guardian {
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // Before the runtime's end it has done nothing yet.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a guardian for this program.
pub(crate) fn start(helper: &Helper, ground: &Ground, own: &Incarnation) -> io::Result<Guardian> {
    let charge = serde_json::to_vec(&Charge {
        runtime: std::process::id().cast_signed(),
        trees: own.tree(0),
        ground: ground.clone(),
    })?;
    let mut command = helper.command(GUARD);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // So that no signal meant for the runtime's group ends it.
        .process_group(0)
        .current_dir("/");
    let mut guardian = Guardian(command.spawn()?);
    if let Some(mut stdin) = guardian.0.stdin.take() {
        stdin.write_all(&charge)?;
    }
    Ok(guardian)
}

/// The guardian's side.
pub(crate) fn guard() -> ExitCode {
    let mut text = Vec::new();
    let read = io::stdin().read_to_end(&mut text);
    let charge: Charge = match read.map(|_| serde_json::from_slice(&text)) {
        Ok(Ok(charge)) => charge,
        _ => return ExitCode::FAILURE,
    };
    let Some(runtime) = Incarnation::of_tree(&charge.trees) else {
        return ExitCode::FAILURE;
    };
    wait_for_the_end(&charge);
    let begun = Instant::now();
    // Twice nothing: a process on its way into a group may have been missed the first time.
    let mut clean = 0;
    while clean < 2 && begun.elapsed() < PATIENCE {
        clean = if charge.ground.sweep_of(&runtime) {
            clean + 1
        } else {
            0
        };
        thread::sleep(ROUND);
    }
    ExitCode::SUCCESS
}

/// Returns when the runtime is no more.
fn wait_for_the_end(charge: &Charge) {
    let runtime = Pid::from_raw(charge.runtime);
    let Some(Ok(handle)) = runtime.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return;
    };
    // Checked with the handle in hand: it is the parent's as long as the parent is still that one.
    while getppid() == runtime {
        let mut handles = [PollFd::new(&handle, PollFlags::IN)];
        if let Ok(1..) = poll(&mut handles, None) {
            return;
        }
    }
}
