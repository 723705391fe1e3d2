//! The end of the process.

use adjutant_wire::{ErrorCode, RunCancel, Shutdown};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    Case,
    Needs::{Modes, Nothing},
    case,
};
use crate::{
    fault::{Check, broke, ensure},
    host::{Host, ends, mode, mode_of, scope},
    journal::Journal,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "shutdown/idle",
        1,
        Nothing,
        "`shutdown` is answered, and an idle process exits with 0",
        idle,
    ),
    case(
        "shutdown/at-work",
        1,
        Modes,
        "`shutdown` is answered at once and lets the run go on",
        at_work,
    ),
    case(
        "shutdown/no-new-runs",
        1,
        Modes,
        "after `shutdown` new runs are refused with -31005",
        no_new_runs,
    ),
    case(
        "shutdown/after-the-run",
        1,
        Modes,
        "the process exits with 0 when its run has ended",
        after_the_run,
    ),
    case(
        "shutdown/grace-is-over",
        1,
        Modes,
        "a process whose grace is over exits although a run is open",
        grace_is_over,
    ),
    case(
        "end/of-the-connection",
        1,
        Nothing,
        "an idle process exits with 0 when the connection ends",
        connection,
    ),
    case(
        "end/of-the-connection-at-work",
        1,
        Modes,
        "a process at work exits soon when the connection ends",
        connection_at_work,
    ),
    case(
        "end/terminated",
        1,
        Nothing,
        "TERM ends the process",
        terminated,
    ),
    case(
        "end/before-initialize",
        1,
        Nothing,
        "a process that is never greeted exits when the connection ends",
        before_initialize,
    ),
];

fn zero(host: &mut Host) -> Check {
    let status = host.exit()?;
    ensure!(status.code() == Some(0), "the process ended with {status}");
    Ok(())
}

fn shutdown() -> Shutdown {
    Shutdown {
        grace_ms: 60_000,
        reason: "conformance".to_owned(),
    }
}

fn idle(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.expect(&shutdown())?;
    zero(&mut host)
}

fn busy(program: &Program) -> Check<(Host, adjutant_wire::RequestId)> {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("busy", 1))?;
    host.until_ready("run-1")?;
    Ok((host, id))
}

fn at_work(program: &Program) -> Check {
    let (mut host, _) = busy(program)?;
    host.expect(&shutdown())?;
    let health = host.expect(&adjutant_wire::HealthCheck {})?;
    ensure!(health.runs.len() == 1, "at work are {:?}", health.runs);
    Ok(())
}

fn no_new_runs(program: &Program) -> Check {
    let (mut host, _) = busy(program)?;
    host.expect(&shutdown())?;
    match host.call(&mode_of("run-2", "echo", 1))? {
        Err(error) if error.is(ErrorCode::Overloaded) => Ok(()),
        other => broke(format!("answered with {other:?}")),
    }
}

fn after_the_run(program: &Program) -> Check {
    let (mut host, id) = busy(program)?;
    host.expect(&shutdown())?;
    let cancel = RunCancel {
        run_id: "run-1".to_owned(),
        epoch: Some(scope("run-1", 1).epoch),
        ..RunCancel::default()
    };
    host.notify(&cancel)?;
    let mut journal = Journal::default();
    let outcome = host.finish(&id, |request| journal.answer(request))?;
    ends(&outcome, "cancelled", &Value::Null)?;
    zero(&mut host)
}

fn grace_is_over(program: &Program) -> Check {
    let (mut host, _) = busy(program)?;
    host.expect(&Shutdown {
        grace_ms: 50,
        ..shutdown()
    })?;
    host.exit().map(drop)
}

fn connection(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.hang_up();
    zero(&mut host)
}

fn connection_at_work(program: &Program) -> Check {
    let (mut host, _) = busy(program)?;
    host.hang_up();
    host.exit().map(drop)
}

fn terminated(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let pid = i32::try_from(host.pipes.child.id())
        .ok()
        .and_then(Pid::from_raw);
    let sent = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
    ensure!(sent, "TERM could not be sent");
    host.exit().map(drop)
}

fn before_initialize(program: &Program) -> Check {
    let mut host = Host::silent(program)?;
    host.hang_up();
    host.exit().map(drop)
}
