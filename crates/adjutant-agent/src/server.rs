//! The process: takes runs from the host and lives until the host lets it go.

use std::{
    any::Any,
    collections::HashMap,
    io::{Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{Arc, Condvar, Mutex, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use adjutant_wire::{
    AgentCapabilities, AgentDescription, Call, ErrorCode, Info, Initialized, Outcome,
    PROTOCOL_VERSION, RequestId, Response, RpcError, RunOutput, RunResult as WireResult, RunStart,
    StopReason,
};

use crate::{
    attempt::{Attempt, End, RunHandle},
    error::{AgentError, RunError, RunResult},
    heartbeat,
    link::{Link, lock},
    reader,
    run::Run,
    transport,
};

/// How long runs may unwind after the host closed the connection.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Until `initialize` says otherwise.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);

/// Serves one agent on stdin and stdout until the runtime lets the process go; what `main` returns.
///
/// `code` is called once per attempt. What it returns is the run's output: text, or JSON with [`serde_json::Value`], or
/// a [`RunOutput`]. Its panics are failures of the run, not of the process.
pub fn serve<O, F>(name: &str, code: F) -> ExitCode
where
    O: Into<RunOutput>,
    F: Fn(&mut Run) -> RunResult<O> + Send + Sync + 'static,
{
    Server::new(name).serve(code)
}

/// An agent program with more to say about itself than [`serve`] does.
#[derive(Debug, Clone)]
pub struct Server {
    profile: Initialized,
}

impl Server {
    /// A program with one agent that takes one run at a time.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let capabilities = AgentCapabilities {
            checkpoint: true,
            steps: true,
            input: true,
            ..Default::default()
        };
        let profile = Initialized {
            protocol_version: PROTOCOL_VERSION,
            info: Info {
                name: name.to_owned(),
                version: String::new(),
            },
            capabilities,
            max_concurrent_runs: 1,
            limits: None,
            agents: vec![AgentDescription {
                name: name.to_owned(),
                ..AgentDescription::default()
            }],
        };
        Self { profile }
    }

    /// The program's version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.profile.info.version);
        self
    }

    /// How many runs the program takes at once, each in a thread of its own; at least 1.
    #[must_use]
    pub fn max_concurrent_runs(mut self, runs: u32) -> Self {
        self.profile.max_concurrent_runs = runs.max(1);
        self
    }

    /// The agents of the program, instead of the one that is named like it. [`Run::agent`] tells them apart.
    #[must_use]
    pub fn agents(mut self, agents: Vec<AgentDescription>) -> Self {
        self.profile.agents = agents;
        self
    }

    /// Says that the agents look at [`RunHandle::steering`] now and then, so that people can talk to a run at work.
    #[must_use]
    pub fn steerable(mut self) -> Self {
        self.profile.capabilities.steer = true;
        self
    }

    /// See [`serve`]. The environment variable `AGENT_WIRE` says where the host is; absent means stdin and stdout.
    pub fn serve<O, F>(self, code: F) -> ExitCode
    where
        O: Into<RunOutput>,
        F: Fn(&mut Run) -> RunResult<O> + Send + Sync + 'static,
    {
        match transport::connect() {
            Ok((input, output)) => self.serve_on(input, output, code),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "adjutant-agent: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// Serves on another pair of streams, such as a socket.
    pub fn serve_on<O, F>(
        self,
        input: impl Read + Send + 'static,
        output: impl Write + Send + 'static,
        code: F,
    ) -> ExitCode
    where
        O: Into<RunOutput>,
        F: Fn(&mut Run) -> RunResult<O> + Send + Sync + 'static,
    {
        let host = Arc::new(Host {
            link: Arc::new(Link::new(Box::new(output))),
            profile: self.profile,
            code: Box::new(move |run| code(run).map(Into::into)),
            state: Mutex::new(State {
                runs: HashMap::new(),
                answering: 0,
                heartbeat: DEFAULT_HEARTBEAT,
                stop_at: None,
                closed: false,
            }),
            changed: Condvar::new(),
            pulse: Condvar::new(),
        });
        let (reading, beating) = (host.clone(), host.clone());
        let threads = [
            thread::Builder::new()
                .name("wire-reader".into())
                .spawn(move || reader::read(&reading, input)),
            thread::Builder::new()
                .name("heartbeat".into())
                .spawn(move || heartbeat::beat(&beating)),
        ];
        // Without its threads the process is of no use; the host sees it exit and starts another.
        if threads.iter().any(Result::is_err) {
            ExitCode::FAILURE
        } else {
            host.wait_for_the_end()
        }
    }
}

type Code = dyn Fn(&mut Run) -> RunResult<RunOutput> + Send + Sync;

/// What reader, heartbeat and runs share.
pub(crate) struct Host {
    pub link: Arc<Link>,
    pub profile: Initialized,
    code: Box<Code>,
    pub state: Mutex<State>,
    /// A run ended, or the process is to end.
    pub changed: Condvar,
    /// The interval of heartbeats changed, or the connection closed.
    pub pulse: Condvar,
}

pub(crate) struct State {
    pub runs: HashMap<String, Arc<Attempt>>,
    /// Runs that are over but for their answer.
    answering: u32,
    pub heartbeat: Duration,
    /// No new runs; the process ends when there are none left, at the latest then.
    stop_at: Option<Instant>,
    /// The host is gone.
    pub closed: bool,
}

impl State {
    pub fn stop_at(&mut self, at: Instant) {
        self.stop_at = Some(self.stop_at.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Host {
    /// The host is gone: nothing that runs do from here on counts.
    pub fn close(&self) {
        self.link.close();
        let mut state = lock(&self.state);
        state.closed = true;
        state.stop_at(Instant::now() + CLOSE_GRACE);
        state.runs.values().for_each(|attempt| attempt.cancel());
        drop(state);
        self.pulse.notify_all();
        self.changed.notify_all();
    }

    fn wait_for_the_end(&self) -> ExitCode {
        let mut state = lock(&self.state);
        loop {
            let left = match state.stop_at {
                Some(_) if state.runs.is_empty() && state.answering == 0 => {
                    return ExitCode::SUCCESS;
                }
                Some(at) => at.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            if left.is_zero() {
                return ExitCode::FAILURE;
            }
            state = if left == Duration::MAX {
                self.changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.changed.wait_timeout(state, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// Takes the run in, if there is room for it.
    fn admit(&self, attempt: &Arc<Attempt>) -> Result<(), RpcError> {
        let mut state = lock(&self.state);
        let overloaded = |why: &str| Err(RpcError::new(ErrorCode::Overloaded, why));
        if state.stop_at.is_some() {
            return overloaded("the process is about to exit");
        }
        if state.runs.contains_key(&attempt.scope.run_id) {
            return overloaded("an earlier attempt of this run has not ended yet");
        }
        if state.runs.len()
            >= usize::try_from(self.profile.max_concurrent_runs).unwrap_or(usize::MAX)
        {
            return overloaded("as many runs as the process takes");
        }
        state
            .runs
            .insert(attempt.scope.run_id.clone(), attempt.clone());
        Ok(())
    }

    /// Lets go of a run, then sends its answer: in this order, so that the host may start the next run as soon as it
    /// has the answer. The process does not end in between.
    fn finish(&self, attempt: &Attempt, outcome: Outcome) {
        {
            let mut state = lock(&self.state);
            state.runs.remove(&attempt.scope.run_id);
            state.answering += 1;
        }
        self.link.answer(Response {
            id: Some(attempt.request.clone()),
            outcome,
        });
        lock(&self.state).answering -= 1;
        self.changed.notify_all();
    }
}

/// Begins an attempt in a thread of its own; its end is the answer.
pub(crate) fn start_run(host: &Arc<Host>, id: &RequestId, start: RunStart) {
    let attempt = Arc::new(Attempt::new(
        start.scope.clone(),
        id.clone(),
        host.link.clone(),
    ));
    if let Err(error) = host.admit(&attempt) {
        return host.link.answer(Response::error(Some(id.clone()), error));
    }
    let (owner, running) = (host.clone(), attempt.clone());
    let spawned = thread::Builder::new().name("run".into()).spawn(move || {
        let outcome = drive(&owner, &running, start);
        owner.finish(&running, outcome);
    });
    if let Err(error) = spawned {
        let error = RpcError::new(ErrorCode::Internal, format!("start a thread: {error}"));
        host.finish(&attempt, Err(error));
    }
}

fn drive(host: &Host, attempt: &Arc<Attempt>, start: RunStart) -> Outcome {
    let mut run = Run::new(RunHandle(attempt.clone()), start);
    let result = catch_unwind(AssertUnwindSafe(|| (host.code)(&mut run)))
        .unwrap_or_else(|panic| Err(RunError::Agent(panic_error(&*panic))));
    let result = conclude(attempt, result)?;
    RunStart::write_answer(&result)
}

/// What the code returned, in the light of what happened to the attempt.
fn conclude(attempt: &Attempt, result: RunResult<RunOutput>) -> Result<WireResult, RpcError> {
    // An agent that swallowed the error of a parked call must not pass for one that is done.
    match attempt.end() {
        Some(End::Parked) => return Ok(WireResult::yielded()),
        Some(End::Suspended(answer)) => return Ok(*answer),
        Some(End::Stopped(error)) => return Err(error),
        None => {}
    }
    if attempt.given_up.load(Ordering::Relaxed) {
        return Err(RpcError::new(
            ErrorCode::Cancelled,
            "run/start was given up",
        ));
    }
    let cancelled = |output| {
        Ok(WireResult {
            stop_reason: StopReason::Cancelled,
            output,
            ..WireResult::default()
        })
    };
    match result {
        Ok(output) if attempt.is_cancelled() => cancelled(output),
        Ok(output) => Ok(WireResult {
            output,
            ..WireResult::default()
        }),
        Err(_) if attempt.is_cancelled() => cancelled(RunOutput::default()),
        Err(RunError::Agent(error)) => Err(error.into_failure().into()),
        Err(RunError::Parked) => Ok(WireResult::yielded()),
        Err(RunError::Cancelled) => cancelled(RunOutput::default()),
        Err(RunError::Stopped(error)) => Err(error),
    }
}

fn panic_error(panic: &(dyn Any + Send)) -> AgentError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    AgentError::retriable(
        "panic",
        text.unwrap_or_else(|| "the agent panicked".to_owned()),
    )
}
