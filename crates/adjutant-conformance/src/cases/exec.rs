//! Level 0: any command.

use std::{
    io::{Read, Write},
    process::{Child, ExitStatus, Output},
    thread,
    time::{Duration, Instant},
};

use adjutant_wire::{
    RunInput, RunMessage,
    exec::{EXIT_TRY_LATER, ExecInput, read_answer, read_exit},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Case, Needs::Nothing, case};
use crate::{
    fault::{Check, Fault, broke, ensure},
    pipes::program_command,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "exec/answers",
        0,
        Nothing,
        "the command takes its input on stdin and ends by itself",
        answers,
    ),
    case(
        "exec/status",
        0,
        Nothing,
        "its exit status is 0, 75 or that of a failure",
        status,
    ),
    case(
        "exec/readable-answer",
        0,
        Nothing,
        "its stdout is an answer: JSON or text",
        readable,
    ),
    case(
        "exec/unknown-fields",
        0,
        Nothing,
        "unknown fields of the input are ignored",
        unknown_fields,
    ),
    case(
        "exec/again",
        0,
        Nothing,
        "a second attempt with the same input ends like the first",
        again,
    ),
    case(
        "exec/side-by-side",
        0,
        Nothing,
        "two at once do not get into each other's way",
        side_by_side,
    ),
    case(
        "exec/large-input",
        0,
        Nothing,
        "an input of 1 MiB does not block it",
        large_input,
    ),
    case(
        "exec/no-input",
        0,
        Nothing,
        "an empty input ends it as well",
        no_input,
    ),
    case(
        "exec/terminated",
        0,
        Nothing,
        "TERM ends it while it waits for its input",
        terminated,
    ),
    case(
        "exec/killed",
        0,
        Nothing,
        "after a kill it can be started again",
        killed,
    ),
];

fn input(data: Value) -> Check<Vec<u8>> {
    let input = ExecInput {
        run_id: "run-1".to_owned(),
        attempt: 1,
        input: RunInput {
            messages: vec![RunMessage::new("user", "hello")],
            data: Some(data),
        },
        params: json!({}),
        metadata: json!({}),
    };
    serde_json::to_vec(&input).map_err(|error| Fault::Broke(error.to_string()))
}

fn start(program: &Program) -> Check<Child> {
    let mut command = program_command(program)?;
    let failed = |error| Fault::Broke(format!("start {:?}: {error}", program.command));
    command.spawn().map_err(failed)
}

/// Gives a command its input and waits for its end.
fn finish(program: &Program, mut child: Child, input: Vec<u8>) -> Check<Output> {
    let writer = child.stdin.take().map(|mut stdin| {
        // A command that does not read its input may leave it.
        thread::spawn(move || drop(stdin.write_all(&input)))
    });
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = end_of(program, &mut child)?;
    drop(writer);
    let joined = |thread: thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Ok(Output {
        status,
        stdout: joined(stdout),
        stderr: joined(stderr),
    })
}

/// Waits for a command's end, for as long as there is patience.
fn end_of(program: &Program, child: &mut Child) -> Check<ExitStatus> {
    let by = Instant::now() + program.patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= by {
            child.kill()?;
            child.wait()?;
            return broke(format!("it did not end within {:?}", program.patience));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn run(program: &Program, input: Vec<u8>) -> Check<Output> {
    finish(program, start(program)?, input)
}

fn answers(program: &Program) -> Check {
    run(program, input(json!({"n": 1}))?).map(drop)
}

fn status(program: &Program) -> Check {
    let output = run(program, input(json!({"n": 1}))?)?;
    let known = output.status.code();
    ensure!(known.is_some(), "a signal ended it: {}", output.status);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    match read_exit(known, &output.stdout, &stderr) {
        Ok(_) => Ok(()),
        Err(_) if known == Some(EXIT_TRY_LATER) => Ok(()),
        Err(failure) => broke(failure.to_string()),
    }
}

fn readable(program: &Program) -> Check {
    let output = run(program, input(json!({"n": 1}))?)?;
    ensure!(
        String::from_utf8(output.stdout.clone()).is_ok(),
        "stdout is no UTF-8"
    );
    let answer = read_answer(&output.stdout);
    ensure!(
        answer.text.is_some() || answer.data.is_some() || output.stdout.trim_ascii().is_empty(),
        "nothing can be read from stdout"
    );
    Ok(())
}

fn unknown_fields(program: &Program) -> Check {
    let bytes = input(json!({"n": 1}))?;
    let mut value: Value =
        serde_json::from_slice(&bytes).map_err(|error| Fault::Broke(error.to_string()))?;
    value["later"] = json!({"deep": [1]});
    let plain = run(program, bytes)?;
    let later = run(program, value.to_string().into_bytes())?;
    ensure!(
        plain.status.code() == later.status.code(),
        "it ended with {}, without them with {}",
        later.status,
        plain.status
    );
    Ok(())
}

fn again(program: &Program) -> Check {
    let first = run(program, input(json!({"n": 1}))?)?;
    let second = run(program, input(json!({"n": 1}))?)?;
    ensure!(
        first.status.code() == second.status.code(),
        "first {}, then {}",
        first.status,
        second.status
    );
    Ok(())
}

fn side_by_side(program: &Program) -> Check {
    let (one, two) = (start(program)?, start(program)?);
    let second = finish(program, two, input(json!({"n": 2}))?)?;
    let first = finish(program, one, input(json!({"n": 1}))?)?;
    ensure!(
        first.status.code() == second.status.code(),
        "one {}, the other {}",
        first.status,
        second.status
    );
    Ok(())
}

fn large_input(program: &Program) -> Check {
    run(program, input(json!({"pad": "x".repeat(1 << 20)}))?).map(drop)
}

fn no_input(program: &Program) -> Check {
    run(program, Vec::new()).map(drop)
}

fn terminated(program: &Program) -> Check {
    let mut child = start(program)?;
    // Held open, so that it has something to wait for.
    let stdin = child.stdin.take();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let sent = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
    ensure!(sent, "TERM could not be sent");
    // Its output is not read to the end: a program that it started may still wait for input, and hold the output open.
    let ended = end_of(program, &mut child);
    drop(stdin);
    ended.map(drop)
}

fn killed(program: &Program) -> Check {
    let mut child = start(program)?;
    child.kill()?;
    child.wait()?;
    answers(program)
}
