//! The decisions, with plain values.

use adjutant_core::{RunInput, RunResult};

use super::*;

const T0: Timestamp = Timestamp::from_micros(1_000_000_000);
const TTL: Duration = Duration::from_secs(10);

fn new_run() -> NewRun {
    NewRun::new("a", &RunInput::text("hello")).unwrap()
}

fn pending() -> RunRecord {
    RunRecord::submitted(&new_run(), T0).0
}

fn running() -> (RunRecord, Lease) {
    let mut record = pending();
    let (lease, _) = record.claim(WorkerId::new(), TTL, T0).unwrap();
    (record, lease)
}

fn never(_: &WakeOn) -> bool {
    false
}

fn told(effects: &Effects) -> Vec<&str> {
    let events = effects.events.iter();
    events.map(|event| event.event_type.as_str()).collect()
}

fn wait_for(on: WakeOn) -> Disposition {
    Disposition::Waiting(Wait {
        wake_on: vec![on],
        input_required: false,
    })
}

/// A record in each state, with what is needed to get there.
fn in_every_state() -> Vec<RunRecord> {
    let reason = String::new();
    let wait = |input_required| {
        let wake_on = vec![WakeOn::At(T0 + TTL)];
        Disposition::Waiting(Wait {
            wake_on,
            input_required,
        })
    };
    let mut records: Vec<_> = [
        wait(false),
        wait(true),
        Disposition::Succeeded(RunResult::default()),
        Disposition::Failed(ErrorInfo::permanent("k", "m")),
        Disposition::Cancelled { reason },
        Disposition::TimedOut { timeout: TTL },
    ]
    .into_iter()
    .map(|disposition| {
        let (mut record, lease) = running();
        record.settle(&lease, disposition, T0, never).unwrap();
        record
    })
    .collect();
    let mut paused = pending();
    paused.control(Command::Pause, T0).unwrap();
    let (mut parked, _) = running();
    parked.max_deaths = 0;
    parked.sweep(T0 + TTL).unwrap();
    records.extend([pending(), running().0, paused, parked]);
    let mut states: Vec<_> = records.iter().map(|record| record.state).collect();
    states.sort_unstable();
    assert_eq!(states, RunState::ALL);
    records
}

fn commands() -> [Command; 5] {
    let reason = "r".to_owned();
    let (name, payload) = ("s".to_owned(), Json::null());
    let signal = Command::Signal { name, payload };
    let cancel = Command::Cancel { reason };
    let (pause, resume) = (Command::Pause, Command::Resume);
    [cancel, pause, resume, Command::Redrive, signal]
}

#[test]
fn a_refused_command_changes_nothing() {
    for record in in_every_state() {
        for command in commands() {
            let mut after = record.clone();
            if after.control(command.clone(), T0 + TTL * 9).is_err() {
                assert_eq!(after, record, "{command:?}");
            }
        }
    }
}

#[test]
fn no_command_and_no_sweep_changes_an_ended_run() {
    let ended = in_every_state().into_iter();
    for record in ended.filter(|record| record.state.is_terminal()) {
        for command in commands() {
            let mut after = record.clone();
            let effects = after.control(command, T0 + TTL * 9).unwrap_or_default();
            assert_eq!((after, effects), (record.clone(), Effects::default()));
        }
        let mut after = record.clone();
        after.sweep(T0 + TTL * 9).unwrap();
        assert_eq!(after, record);
    }
}

#[test]
fn every_change_of_state_has_an_event() {
    for record in in_every_state() {
        for command in commands() {
            let mut after = record.clone();
            let effects = after.control(command, T0).unwrap_or_default();
            assert!(after.state == record.state || !effects.events.is_empty());
        }
        let mut after = record.clone();
        let effects = after.sweep(T0 + TTL * 9).unwrap();
        assert!(after.state == record.state || !effects.events.is_empty());
    }
}

#[test]
fn only_the_current_lease_settles() {
    let (mut record, lease) = running();
    let stale = [
        Lease { epoch: 0, ..lease },
        Lease { epoch: 2, ..lease },
        Lease {
            worker: WorkerId::new(),
            ..lease
        },
    ];
    let before = record.clone();
    for lease in stale {
        let result = Disposition::Succeeded(RunResult::default());
        let error = record.settle(&lease, result, T0, never).unwrap_err();
        assert!(matches!(error, Error::LeaseLost { .. }), "{error}");
        assert_eq!(record.heartbeat(&lease, TTL, T0), Beat::Lost);
    }
    assert_eq!(record, before);
}

#[test]
fn a_heartbeat_never_shortens_a_lease() {
    let (mut record, lease) = running();
    record.heartbeat(&lease, Duration::ZERO, T0);
    assert_eq!(record.held.unwrap().expires_at, T0 + TTL);
    record.heartbeat(&lease, TTL * 2, T0);
    assert_eq!(record.held.unwrap().expires_at, T0 + TTL * 2);
}

#[test]
fn a_level_of_priority_is_worth_one_ageing() {
    let rank = |priority, ready_at| {
        let mut record = pending();
        record.priority = priority;
        record.ready_at = ready_at;
        assert_eq!(super::ready_at(record.rank(), priority), ready_at);
        record.rank()
    };
    assert!(rank(10, T0) < rank(5, T0) && rank(5, T0) < rank(0, T0));
    assert_eq!(rank(0, T0), rank(1, T0 + AGEING));
    assert!(rank(-100, T0) > rank(100, T0));
}

#[test]
fn deaths_are_not_attempts() {
    let (mut record, _) = running();
    for death in 1..=record.max_deaths {
        record.sweep(T0 + TTL).unwrap();
        assert_eq!(
            (record.state, record.deaths, record.attempt),
            (RunState::Pending, death, 1)
        );
        record.claim(WorkerId::new(), TTL, T0).unwrap();
    }
    let effects = record.sweep(T0 + TTL).unwrap();
    assert_eq!(record.state, RunState::Parked);
    assert_eq!(told(&effects), ["lease.lost", "run.parked"]);
}

#[test]
fn a_sweep_before_the_time_changes_nothing() {
    for record in in_every_state() {
        let mut after = record.clone();
        let just_before = record
            .due_at()
            .map_or(T0, |due| Timestamp::from_micros(due.as_micros() - 1));
        assert_eq!(after.sweep(just_before).unwrap(), Effects::default());
        assert_eq!(after, record);
    }
}

#[test]
fn back_off_differs_between_runs_and_epochs_but_not_between_engines() {
    let (record, _) = running();
    let (other, _) = running();
    assert_ne!(record.dice().to_bits(), other.dice().to_bits());
    let mut later = record.clone();
    later.epoch += 1;
    assert_ne!(record.dice().to_bits(), later.dice().to_bits());
    assert!((0.0..=1.0).contains(&record.dice()));
}

#[test]
fn a_fulfilled_wait_wakes_at_once() {
    for (on, there) in [
        (WakeOn::At(T0), false),
        (WakeOn::Signal("s".to_owned()), true),
    ] {
        let (mut record, lease) = running();
        let effects = record.settle(&lease, wait_for(on), T0, |_| there).unwrap();
        assert_eq!(record.state, RunState::Pending);
        assert_eq!(told(&effects), ["run.waiting", "run.resumed"]);
    }
}

#[test]
fn a_cancel_that_was_asked_for_wins_over_waiting_releasing_and_retrying() {
    let reason = "drain".to_owned();
    let error = ErrorInfo::retriable("k", "m");
    let ways = [
        (wait_for(WakeOn::At(T0)), RunState::Cancelled),
        (Disposition::Released { reason }, RunState::Cancelled),
        (Disposition::Failed(error), RunState::Failed),
        (
            Disposition::Succeeded(RunResult::default()),
            RunState::Succeeded,
        ),
    ];
    for (disposition, expected) in ways {
        let (mut record, lease) = running();
        let reason = "asked".to_owned();
        record.control(Command::Cancel { reason }, T0).unwrap();
        record.settle(&lease, disposition, T0, never).unwrap();
        assert_eq!(record.state, expected);
    }
}

#[test]
fn leaving_a_worker_frees_the_key_and_ends_tell_the_parent() {
    let mut new = new_run();
    let limit = std::num::NonZeroU32::MIN;
    let key: Arc<str> = Arc::from("k");
    new.concurrency = Some(Concurrency {
        key: Arc::clone(&key),
        limit,
    });
    new.parent = Some(ParentLink {
        run: RunId::new(),
        group: Arc::from("g"),
    });
    let (mut record, _) = RunRecord::submitted(&new, T0);
    let (lease, _) = record.claim(WorkerId::new(), TTL, T0).unwrap();
    let effects = record.sweep(T0 + TTL).unwrap();
    assert_eq!(
        (effects.unblock, effects.child_ended),
        (Some(key.clone()), None)
    );
    assert!(record.check(&lease).is_err());
    let (lease, _) = record.claim(WorkerId::new(), TTL, T0).unwrap();
    let result = Disposition::Succeeded(RunResult::default());
    let effects = record.settle(&lease, result, T0, never).unwrap();
    assert_eq!(effects.unblock, Some(key));
    let ended = effects.child_ended.unwrap();
    assert_eq!((ended.child, ended.succeeded), (record.id, true));
}

#[test]
fn a_group_is_done_when_nothing_is_open_or_at_the_first_failure() {
    let group = |open, failed| Group { open, failed };
    assert!(group_is_done(group(0, 3), false));
    assert!(!group_is_done(group(1, 3), false));
    assert!(group_is_done(group(1, 1), true));
    assert!(!group_is_done(group(1, 0), true));
}
