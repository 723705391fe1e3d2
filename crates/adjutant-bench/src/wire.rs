//! A question and its answer over the agent wire, beside an echo of the same bytes over the same kind of pipes.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use adjutant_wire::{
    Decoder, Frame, HealthCheck, Initialize, Message, PROTOCOL_VERSION, Request, RunScope,
    RunStart, encode,
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;

use crate::{
    bench::Bench,
    report::{Row, Times},
};

const ECHO: &str = "wire: bare echo of a question";
const ASKED: &str = "wire: the host asks, the agent answers";
const ASKS: &str = "wire: the agent asks, the host answers";

/// What this program is called as to be the other end.
const ECHO_CHILD: &str = "wire-echo";
const AGENT: &str = "wire-agent";
const WARM_UP: usize = 500;
/// Calls of the agent in one run.
const CALLS: usize = 500;

/// This program as the other end of the pipes, if it was started as that.
pub fn child_main() -> Option<ExitCode> {
    match std::env::args().nth(1)?.as_str() {
        ECHO_CHILD => Some(echo()),
        AGENT => Some(adjutant_agent::serve(AGENT, |run| {
            let mut times = Vec::with_capacity(CALLS);
            for n in 0..CALLS {
                let begin = Instant::now();
                run.step_builder("ask").run(|| Ok(n))?;
                // A step asks twice, when it begins and when it ends.
                times.push(begin.elapsed().as_nanos() / 2);
            }
            Ok(json!(
                times
                    .iter()
                    .map(|nanos| u64::try_from(*nanos).unwrap_or(u64::MAX))
                    .collect::<Vec<_>>()
            ))
        })),
        _ => None,
    }
}

fn echo() -> ExitCode {
    let (mut stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stdin.read(&mut piece) {
        let echoed = stdout.write_all(piece.get(..count).unwrap_or_default());
        if echoed.and_then(|()| stdout.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

pub fn measure(bench: &mut Bench) -> Result<()> {
    let names = [ECHO, ASKED, ASKS];
    if !bench.wants(&names) {
        return Ok(());
    }
    let time = bench.time;
    let (mut echo, mut asked) = (Vec::new(), Vec::new());
    // In turns, since the machine's mood changes.
    for _ in 0..4 {
        echo.extend(echoes(time / 4)?);
        asked.extend(questions(time / 4)?);
    }
    let asks = Times::new(calls(time)?);
    let (echo, asked) = (Times::new(echo), Times::new(asked));
    let row = |name: &str, times: &Times| Row::new(name, times.percentile(50), "us");
    let echo = row(ECHO, &echo);
    let asked = row(ASKED, &asked).over(Some(&echo)).ratio_at_most(1.5);
    let asks = row(ASKS, &asks).over(Some(&echo)).ratio_at_most(1.5);
    for row in [echo, asked, asks] {
        bench.push(row);
    }
    Ok(())
}

/// A process at the other end of two pipes.
struct Peer {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    decoder: Decoder,
    piece: Vec<u8>,
}

impl Peer {
    fn start(role: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        Ok(Self {
            child,
            stdin,
            stdout,
            decoder: Decoder::default(),
            piece: vec![0; 64 * 1024],
        })
    }

    fn send(&mut self, message: &Message) -> Result<()> {
        Ok(self.stdin.write_all(encode(message).as_bytes())?)
    }

    fn next(&mut self) -> Result<Message> {
        loop {
            match self.decoder.next_frame() {
                Some(Frame::Message(message)) => return Ok(message),
                Some(other) => bail!("not a message: {other:?}"),
                None => {
                    let count = self.stdout.read(&mut self.piece)?;
                    ensure!(count > 0, "the other end is gone");
                    self.decoder
                        .push(self.piece.get(..count).unwrap_or_default());
                }
            }
        }
    }

    fn initialized(mut self) -> Result<Self> {
        let offer = Initialize {
            protocol_version: PROTOCOL_VERSION,
            heartbeat_ms: 60_000,
            ..Initialize::default()
        };
        self.send(&Request::call(1, &offer)?.into())?;
        self.next()?;
        Ok(self)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does something again and again, and returns how long each took once it is warm.
fn repeat(time: Duration, mut once: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
    for _ in 0..WARM_UP {
        once()?;
    }
    let (end, mut times) = (Instant::now() + time, Vec::new());
    while Instant::now() < end {
        let begin = Instant::now();
        once()?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn echoes(time: Duration) -> Result<Vec<Duration>> {
    let mut peer = Peer::start(ECHO_CHILD)?;
    let line = encode(&Request::call(1_000_000, &HealthCheck {})?.into()).into_bytes();
    let mut back = vec![0; line.len()];
    repeat(time, || {
        peer.stdin.write_all(&line)?;
        Ok(peer.stdout.read_exact(&mut back)?)
    })
}

fn questions(time: Duration) -> Result<Vec<Duration>> {
    let mut peer = Peer::start(AGENT)?.initialized()?;
    let mut id = 1_000_000;
    repeat(time, || {
        id += 1;
        peer.send(&Request::call(id, &HealthCheck {})?.into())?;
        match peer.next()? {
            Message::Response(response) if response.id == Some(id.into()) => Ok(()),
            other => Err(anyhow!("not expected: {other:?}")),
        }
    })
}

/// What the agent measures while this side answers at once.
fn calls(time: Duration) -> Result<Vec<Duration>> {
    let mut peer = Peer::start(AGENT)?.initialized()?;
    let (end, mut times, mut attempt) = (Instant::now() + time, Vec::new(), 0);
    while Instant::now() < end {
        attempt += 1;
        let scope = RunScope {
            run_id: "run".to_owned(),
            attempt,
            epoch: u64::from(attempt),
        };
        let start = RunStart {
            scope,
            ..RunStart::default()
        };
        peer.send(&Request::call(i64::from(attempt) + 1, &start)?.into())?;
        times.extend(answer_all(&mut peer)?);
    }
    Ok(times)
}

fn answer_all(peer: &mut Peer) -> Result<Vec<Duration>> {
    loop {
        match peer.next()? {
            Message::Request(request) => {
                let answer = request.answer(Ok(json!({"state": "execute", "attempt": 1})));
                peer.send(&answer.into())?;
            }
            Message::Response(response) => {
                let result = response.outcome.map_err(|error| anyhow!("{error}"))?;
                let data = result["output"]["data"].as_array().cloned();
                let nanos = data.context("no times came")?;
                let nanos = nanos.iter().filter_map(serde_json::Value::as_u64);
                return Ok(nanos.map(Duration::from_nanos).collect());
            }
            Message::Notification(_) => {}
        }
    }
}
