//! Random operations: on one engine, to see that its invariants hold after each; on two engines, to see
//! that they give the same answers.

use std::{collections::BTreeMap, fmt::Debug, num::NonZeroU32, sync::Arc, time::Duration};

use adjutant_core::{
    Clock, ErrorInfo, EventType, Json, NewEvent, Result, RunId, RunResult, RunState, WorkerId,
};
use adjutant_queue::{
    AgentFilter, ClaimRequest, Command, Concurrency, Disposition, Lease, NewRun, Origin,
    PrunePolicy, RunFilter, RunRecord, Wait, WakeOn,
};

use super::{Fixture, Snapshot};
use crate::{Commit, Fork, Op, Store};

const SECOND: Duration = Duration::from_secs(1);
const AGENTS: [&str; 3] = ["a", "b", "c"];
const GROUPS: [&str; 2] = ["g", "h"];
const SIGNALS: [&str; 2] = ["go", "stop"];

/// SplitMix64: enough to pick operations, the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.roll(from.len())].clone())
    }
}

/// One call, made before it is known which engine gets it.
#[derive(Debug, Clone)]
enum Call {
    Submit(Vec<NewRun>),
    Claim(ClaimRequest),
    Heartbeat(Vec<Lease>),
    Commit(Commit),
    Settle(Lease, Disposition),
    Control(RunId, Command),
    Advance(Duration),
    Append(RunId),
    Fork(Fork),
    Prune(PrunePolicy),
    List(RunFilter),
}

/// What the operations have made so far, so that the next ones hit something.
struct World {
    dice: Dice,
    clock: super::ManualClock,
    runs: Vec<NewRun>,
    leases: Vec<Lease>,
    steps: usize,
}

impl World {
    fn new(seed: u64, clock: super::ManualClock) -> Self {
        let dice = Dice(seed);
        Self {
            dice,
            clock,
            runs: Vec::new(),
            leases: Vec::new(),
            steps: 0,
        }
    }

    /// Remembers new leases and, mostly, forgets those that were given back; stale ones are of use too.
    fn note(&mut self, leases: Vec<Lease>, call: &Call) {
        let given_back = match call {
            Call::Settle(lease, _) => Some(*lease),
            Call::Commit(commit) => commit.end.as_ref().map(|_| commit.lease),
            _ => None,
        };
        if !self.dice.one_in(5) {
            self.leases.retain(|lease| Some(*lease) != given_back);
        }
        self.leases.extend(leases);
        let old = self.leases.len().saturating_sub(20);
        self.leases.drain(..old);
    }

    fn run(&mut self) -> RunId {
        // Mostly one of the latest, for those are the ones that still change.
        let latest = self.runs.len().saturating_sub(30);
        let runs = if self.dice.one_in(5) {
            &self.runs[..]
        } else {
            &self.runs[latest..]
        };
        self.dice.pick(runs).map_or_else(RunId::new, |run| run.id)
    }

    fn is_parent(&self, run: RunId) -> bool {
        let mut links = self.runs.iter().filter_map(|child| child.parent.as_ref());
        links.any(|link| link.run == run)
    }

    fn new_run(&mut self) -> NewRun {
        let agent = self.dice.pick(&AGENTS).unwrap();
        let data = self.dice.roll(3);
        let input = Json::parse(format!(r#"{{"data":{data}}}"#)).unwrap();
        let mut run = NewRun::with_json(agent, input);
        run.priority = i32::try_from(self.dice.roll(5)).unwrap() - 2;
        run.max_deaths = u32::try_from(self.dice.roll(3)).unwrap();
        if self.dice.one_in(5) {
            run.not_before =
                Some(self.clock.now() + SECOND * u32::try_from(self.dice.roll(9)).unwrap());
        }
        if self.dice.one_in(6) {
            run.idempotency_key = Some(format!("key-{}", self.dice.roll(20)));
        }
        if self.dice.one_in(3) {
            let key = Arc::from(agent);
            run.concurrency = Some(Concurrency {
                key,
                limit: NonZeroU32::new(2).unwrap(),
            });
        }
        self.runs.push(run.clone());
        run
    }

    fn op(&mut self, lease: Lease) -> Op {
        match self.dice.roll(12) {
            0..=3 => {
                let key = format!("step-{}", self.dice.roll(6));
                let payload = Json::from(key.as_str());
                let outcome = match self.dice.roll(4) {
                    0 | 1 => adjutant_core::StepOutcome::Started { memo: payload },
                    2 => adjutant_core::StepOutcome::Completed { result: payload },
                    _ => adjutant_core::StepOutcome::Failed {
                        error: ErrorInfo::permanent("k", "m"),
                    },
                };
                Op::Step(adjutant_core::StepRecord {
                    key,
                    kind: adjutant_core::StepKind::Code,
                    input: adjutant_core::Fingerprint(self.dice.0),
                    outcome,
                    attempts: 1,
                    started_at: self.clock.now(),
                    recorded_at: self.clock.now(),
                })
            }
            4 | 5 => Op::Checkpoint(Json::from(self.steps.to_string().as_str())),
            6 | 7 => Op::Event(NewEvent::new(
                "note",
                Json::from(self.steps.to_string().as_str()),
            )),
            8 | 9 => {
                let mut child = self.new_run();
                let group = Arc::from(self.dice.pick(&GROUPS).unwrap());
                child.parent = Some(adjutant_queue::ParentLink {
                    run: lease.run,
                    group,
                });
                if let Some(known) = self.runs.last_mut() {
                    known.parent = child.parent.clone();
                }
                Op::Spawn(Box::new(child))
            }
            10 => Op::TakeSignal(self.dice.roll(4) as u64),
            _ => Op::CancelGroup {
                group: Arc::from(self.dice.pick(&GROUPS).unwrap()),
                reason: "enough".to_owned(),
            },
        }
    }

    fn disposition(&mut self) -> Disposition {
        match self.dice.roll(12) {
            0..=2 => Disposition::Succeeded(RunResult::output(Json::from("done"))),
            3 | 4 => Disposition::Failed(ErrorInfo::retriable("flaky", "again")),
            5 => Disposition::Failed(ErrorInfo::permanent("broken", "no")),
            6 => Disposition::Cancelled {
                reason: "asked".to_owned(),
            },
            7 => Disposition::TimedOut { timeout: SECOND },
            8 => Disposition::Released {
                reason: "drain".to_owned(),
            },
            _ => {
                let wake_on = (0..1 + self.dice.roll(2)).map(|_| self.wake_on()).collect();
                Disposition::Waiting(Wait {
                    wake_on,
                    input_required: self.dice.one_in(4),
                })
            }
        }
    }

    fn wake_on(&mut self) -> WakeOn {
        match self.dice.roll(3) {
            0 => WakeOn::At(self.clock.now() + SECOND * u32::try_from(self.dice.roll(9)).unwrap()),
            1 => WakeOn::Signal(self.dice.pick(&SIGNALS).unwrap().to_owned()),
            _ => WakeOn::Group {
                key: Arc::from(self.dice.pick(&GROUPS).unwrap()),
                fail_fast: self.dice.one_in(2),
            },
        }
    }

    fn command(&mut self) -> Command {
        match self.dice.roll(10) {
            0 | 1 => Command::Cancel {
                reason: "operator".to_owned(),
            },
            2 | 3 => Command::Pause,
            4..=6 => Command::Resume,
            7 => Command::Redrive,
            _ => Command::Signal {
                name: self.dice.pick(&SIGNALS).unwrap().to_owned(),
                payload: Json::from(self.steps.to_string().as_str()),
            },
        }
    }

    fn filter(&mut self) -> RunFilter {
        let states = (0..self.dice.roll(3))
            .filter_map(|_| self.dice.pick(&RunState::ALL))
            .collect();
        let agent = self
            .dice
            .one_in(2)
            .then(|| self.dice.pick(&AGENTS).unwrap().into());
        let parent = self.dice.one_in(4).then(|| self.run());
        let before = self.dice.one_in(2).then(|| self.run());
        RunFilter {
            states,
            agent,
            parent,
            before,
            limit: self.dice.roll(8),
        }
    }

    fn call(&mut self) -> Call {
        self.steps += 1;
        match self.dice.roll(100) {
            0..=11 => {
                let mut runs: Vec<_> = (0..1 + self.dice.roll(3)).map(|_| self.new_run()).collect();
                if self.dice.one_in(8) {
                    runs.extend(self.dice.pick(&self.runs));
                }
                // A run that names a parent comes from a commit, not from here.
                // A parent that is forgotten and made again has no children, which engines need not know of each other.
                runs.retain(|run| run.parent.is_none() && !self.is_parent(run.id));
                Call::Submit(runs)
            }
            12..=29 => {
                let agents: Vec<_> = AGENTS.iter().filter(|_| self.dice.one_in(2)).collect();
                let agents = agents.into_iter().map(|agent| (*agent).into()).collect();
                let any = self.dice.one_in(2);
                Call::Claim(ClaimRequest {
                    worker: WorkerId::new(),
                    capacity: self.dice.roll(4),
                    agents: if any {
                        AgentFilter::Any
                    } else {
                        AgentFilter::Only(agents)
                    },
                    lease_ttl: SECOND * 20,
                    wait: Duration::ZERO,
                })
            }
            30..=64 => {
                let Some(lease) = self.dice.pick(&self.leases) else {
                    return Call::List(self.filter());
                };
                if self.dice.one_in(6) {
                    return Call::Settle(lease, self.disposition());
                }
                let ops = (0..self.dice.roll(4)).map(|_| self.op(lease)).collect();
                let end = self.dice.one_in(2).then(|| self.disposition());
                Call::Commit(Commit { lease, ops, end })
            }
            65..=69 => {
                let leases = (0..3)
                    .filter_map(|_| self.dice.pick(&self.leases))
                    .collect();
                Call::Heartbeat(leases)
            }
            70..=84 => Call::Control(self.run(), self.command()),
            85..=91 => Call::Advance(SECOND * u32::try_from(self.dice.roll(4)).unwrap()),
            92 | 93 => Call::Append(self.run()),
            94 | 95 => {
                let source = self.run();
                let mut run = self.new_run();
                run.origin = Some(Origin::ForkOf(source));
                let steps = self.dice.one_in(2).then(|| self.dice.roll(4));
                Call::Fork(Fork { source, run, steps })
            }
            96 if self.dice.one_in(3) => Call::Prune(PrunePolicy {
                finished_before: self.clock.now(),
                limit: 1000,
            }),
            _ => Call::List(self.filter()),
        }
    }
}

/// The answer as text; of errors only what is stable between engines.
fn told<T: Debug>(answer: Result<T>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.code().0.to_owned(),
    }
}

/// Whether a run is held back is found out when somebody tries to claim it, so engines may differ.
fn plain(mut record: RunRecord) -> RunRecord {
    record.blocked = false;
    record
}

async fn make(call: Call, engine: &dyn Store, clock: &super::ManualClock) -> (String, Vec<Lease>) {
    let answer = match call {
        Call::Claim(request) => {
            let claimed = engine.claim(request).await;
            let leases = claimed
                .iter()
                .flatten()
                .map(|claimed| claimed.lease)
                .collect();
            return (told(claimed), leases);
        }
        Call::Submit(runs) => told(engine.submit(runs).await),
        Call::Heartbeat(leases) => told(engine.heartbeat(&leases, SECOND * 20).await),
        Call::Commit(commit) => told(engine.commit(commit).await),
        Call::Settle(lease, end) => told(engine.settle(lease, end).await.map(plain)),
        Call::Control(run, command) => told(engine.control(run, command).await.map(plain)),
        Call::Advance(by) => {
            clock.advance(by);
            told(engine.sweep(100_000, Duration::ZERO).await)
        }
        Call::Append(run) => {
            let event = NewEvent::new(EventType::Log, Json::from("late"));
            told(engine.append(run, vec![event]).await)
        }
        Call::Fork(fork) => told(engine.fork(fork).await),
        Call::Prune(policy) => told(engine.prune(policy).await),
        Call::List(filter) => {
            let listed = engine.list(filter).await;
            told(listed.map(|runs| runs.into_iter().map(plain).collect::<Vec<_>>()))
        }
    };
    (answer, Vec::new())
}

/// What must hold for one run at any time.
async fn check_run(engine: &dyn Store, run: RunId) -> Option<(RunState, Option<Concurrency>)> {
    let s = Snapshot::of(engine, run).await;
    let view = s.view?;
    let record = view.run;
    assert!(
        s.events
            .iter()
            .map(|event| event.seq)
            .eq(1..=record.last_seq),
        "{record:?}"
    );
    assert_eq!(
        record.held.is_some(),
        record.state == RunState::Running,
        "{record:?}"
    );
    let ended = record.state.is_terminal();
    assert_eq!(
        view.outcome.map(|outcome| outcome.state()),
        ended.then_some(record.state)
    );
    let ends = s
        .events
        .iter()
        .filter(|event| event.event_type.is_terminal())
        .count();
    assert_eq!(ends, usize::from(ended), "{record:?}");
    assert_eq!(record.steps, s.history.journal.len() as u64, "{record:?}");
    assert_eq!(
        record.checkpoint,
        s.checkpoints.first().map_or(0, |c| c.seq),
        "{record:?}"
    );
    assert_eq!(s.history.checkpoint.as_ref(), s.checkpoints.first());
    let starts = s
        .events
        .iter()
        .filter(|event| event.event_type == EventType::RunStarted);
    assert_eq!(starts.count() as u64, record.epoch, "{record:?}");
    Some((record.state, record.concurrency))
}

/// What must hold for the whole store.
async fn check_all(engine: &dyn Store, runs: &[NewRun]) {
    let mut by_state: BTreeMap<RunState, u64> = BTreeMap::new();
    let mut running: BTreeMap<Arc<str>, u32> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for run in runs.iter().filter(|run| seen.insert(run.id)) {
        let Some((state, concurrency)) = check_run(engine, run.id).await else {
            continue;
        };
        *by_state.entry(state).or_default() += 1;
        if let Some(concurrency) = concurrency.filter(|_| state == RunState::Running) {
            let count = running.entry(concurrency.key).or_default();
            *count += 1;
            assert!(*count <= concurrency.limit.get(), "too many run at a time");
        }
    }
    let stats = engine.stats().await.unwrap();
    assert_eq!(stats.by_state, by_state);
    let pending = by_state.get(&RunState::Pending).copied().unwrap_or(0);
    assert_eq!(stats.ready + stats.delayed + stats.blocked, pending);
    let report = engine.check().await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// Applies `steps` random operations and checks the invariants as it goes.
pub async fn check(f: &Fixture, seed: u64, steps: usize) {
    println!("seed {seed}");
    let mut world = World::new(seed, f.clock.clone());
    for step in 0..steps {
        let call = world.call();
        let (_, leases) = make(call.clone(), &*f.engine, &f.clock).await;
        world.note(leases, &call);
        if let Call::Commit(Commit {
            lease: Lease { run, .. },
            ..
        })
        | Call::Settle(Lease { run, .. }, _)
        | Call::Control(run, _) = call
        {
            check_run(&*f.engine, run).await;
        }
        if step % 100 == 99 || step + 1 == steps {
            check_all(&*f.engine, &world.runs).await;
        }
    }
}

/// Applies the same random operations to two engines: all answers and, in the end, all runs are the same.
pub async fn compare(a: &Fixture, b: &Fixture, seed: u64, steps: usize) {
    println!("seed {seed}");
    let mut world = World::new(seed, a.clock.clone());
    for step in 0..steps {
        let call = world.call();
        let (one, leases) = make(call.clone(), &*a.engine, &a.clock).await;
        let (other, _) = make(call.clone(), &*b.engine, &b.clock).await;
        assert_eq!(one, other, "seed {seed}, step {step}: {call:?}");
        world.note(leases, &call);
    }
    for run in &world.runs {
        let mut snapshots = [
            Snapshot::of(&*a.engine, run.id).await,
            Snapshot::of(&*b.engine, run.id).await,
        ];
        for view in snapshots
            .iter_mut()
            .filter_map(|snapshot| snapshot.view.as_mut())
        {
            view.run.blocked = false;
        }
        let [one, other] = snapshots;
        assert_eq!(one, other, "seed {seed}, {}", run.id);
    }
}

pub async fn random_operations_keep_the_invariants(f: &Fixture) {
    let mut seed = [0; 8];
    seed.copy_from_slice(&RunId::new().as_bytes()[8..]);
    check(f, u64::from_le_bytes(seed), 1500).await;
}
