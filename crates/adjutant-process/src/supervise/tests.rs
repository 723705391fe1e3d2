//! The machine by tables; by random histories in a file of their own.

mod histories;

use std::{collections::BTreeMap, time::Duration};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// `web:db,cache` depends on `db` and `cache`.
fn children(text: &str, change: impl Fn(&mut Child)) -> Vec<Child> {
    let child = |word: &str| {
        let (name, on) = word.split_once(':').unwrap_or((word, ""));
        let mut child = Child::new(name);
        let on = on.split(',').filter(|on| !on.is_empty());
        child.depends_on = on.map(str::to_owned).collect();
        child.restart.backoff.jitter = 0.0;
        change(&mut child);
        child
    };
    text.split_whitespace().map(child).collect()
}

fn machine(strategy: Strategy, text: &str, change: impl Fn(&mut Child)) -> Machine {
    Machine::new(children(text, change), strategy, Intensity::default(), 0).unwrap()
}

/// A line of a history: `at`, what happens, and all states afterwards.
type Line<'a> = (u64, &'a str, &'a str);

/// Plays a history. `ready a`, `beat a`, `run a`, `ran a`, `sick a`, `ok a` and `bad a` (exits), `none a` and `never a`
/// (did not start) are about the current process of `a`; `start`, `stop` alone are about all.
fn check(mut machine: Machine, history: &[Line]) {
    let mut generations: BTreeMap<String, u64> = BTreeMap::new();
    for (at, what, expected) in history {
        for action in machine.apply(
            event(what, &generations),
            SECOND * u32::try_from(*at).unwrap(),
        ) {
            if let Action::Start(name, generation) = action {
                generations.insert(name, generation);
            }
        }
        assert_eq!(states(&machine), *expected, "after `{what}` at {at}");
    }
}

fn event(what: &str, generations: &BTreeMap<String, u64>) -> Event {
    let (verb, name) = what.split_once(' ').unwrap_or((what, ""));
    let owned = name.to_owned();
    let happened = match verb {
        "start" if name.is_empty() => return Event::StartAll,
        "stop" if name.is_empty() => return Event::StopAll,
        "start" => return Event::Start(owned),
        "stop" => return Event::Stop(owned),
        "restart" => return Event::Restart(owned),
        "pause" => return Event::Pause(owned),
        "resume" => return Event::Resume(owned),
        "tick" => return Event::Tick,
        "ready" => Happened::Ready,
        "beat" => Happened::Heartbeat,
        "run" => Happened::RunStarted,
        "ran" => Happened::RunEnded,
        "sick" => Happened::Sick,
        "ok" => Happened::Exited { clean: true },
        "bad" => Happened::Exited { clean: false },
        "none" => Happened::NotStarted { lasting: false },
        "never" => Happened::NotStarted { lasting: true },
        other => panic!("{other}"),
    };
    let generation = generations.get(name).copied().unwrap_or_default();
    Event::Process(owned, generation, happened)
}

fn states(machine: &Machine) -> String {
    let state = |name: &str| machine.state(name).unwrap().name();
    let all: Vec<String> = machine
        .names()
        .map(|name| format!("{name}={}", state(name)))
        .collect();
    all.join(" ")
}

#[test]
fn a_process_is_ready_busy_and_idle() {
    check(
        machine(Strategy::OneForOne, "a", |_| {}),
        &[
            (0, "start", "a=starting"),
            (1, "ready a", "a=ready"),
            (1, "run a", "a=busy"),
            (1, "run a", "a=busy"),
            (2, "ran a", "a=busy"),
            (2, "ran a", "a=idle"),
            (3, "pause a", "a=paused"),
            (4, "resume a", "a=idle"),
            (5, "stop a", "a=stopping"),
            (6, "ok a", "a=stopped"),
            (7, "start a", "a=starting"),
        ],
    );
}

#[test]
fn a_crash_loop_pauses_longer_each_time_and_fails_after_three_restarts() {
    check(
        machine(Strategy::OneForOne, "a", |_| {}),
        &[
            (0, "start", "a=starting"),
            (0, "bad a", "a=back-off"),
            (1, "tick", "a=starting"),
            (1, "ready a", "a=ready"),
            (1, "bad a", "a=back-off"),
            (2, "tick", "a=back-off"),
            (3, "tick", "a=starting"),
            (3, "none a", "a=back-off"),
            (6, "tick", "a=back-off"),
            (7, "tick", "a=starting"),
            (7, "bad a", "a=failed"),
            (1000, "tick", "a=failed"),
            (1001, "start a", "a=starting"),
            (1001, "bad a", "a=back-off"),
        ],
    );
}

#[test]
fn a_stable_time_forgets_earlier_restarts() {
    check(
        machine(Strategy::OneForOne, "a", |child| {
            child.restart.max_attempts = 1;
        }),
        &[
            (0, "start", "a=starting"),
            (0, "bad a", "a=back-off"),
            (1, "tick", "a=starting"),
            (1, "ready a", "a=ready"),
            (61, "bad a", "a=back-off"),
            (62, "tick", "a=starting"),
            (62, "ready a", "a=ready"),
            (121, "bad a", "a=failed"),
        ],
    );
}

#[test]
fn the_policy_decides_who_comes_back() {
    let cases = [
        (Restart::No, "ok a", "exited"),
        (Restart::No, "bad a", "failed"),
        (Restart::OnFailure, "ok a", "exited"),
        (Restart::OnFailure, "bad a", "back-off"),
        (Restart::Always, "ok a", "back-off"),
        (Restart::Always, "bad a", "back-off"),
        (Restart::UnlessStopped, "ok a", "back-off"),
        (Restart::UnlessStopped, "bad a", "back-off"),
        (Restart::Always, "never a", "failed"),
    ];
    for (when, what, expected) in cases {
        let expected = format!("a={expected}");
        check(
            machine(Strategy::OneForOne, "a", |child| {
                child.restart.when = when;
            }),
            &[(0, "start", "a=starting"), (0, what, &expected)],
        );
    }
}

#[test]
fn what_was_stopped_by_hand_comes_back_only_with_always() {
    for (when, expected) in [
        (Restart::Always, "a=starting"),
        (Restart::UnlessStopped, "a=stopped"),
    ] {
        let change = |child: &mut Child| (child.restart.when, child.stopped) = (when, true);
        check(
            machine(Strategy::OneForOne, "a", change),
            &[(0, "start", expected)],
        );
        check(
            machine(Strategy::OneForOne, "a", |child| {
                child.restart.when = when;
            }),
            &[
                (0, "start", "a=starting"),
                (1, "ready a", "a=ready"),
                (2, "stop a", "a=stopping"),
                (2, "bad a", "a=stopped"),
                (3, "start", expected),
            ],
        );
    }
}

#[test]
fn who_is_late_silent_or_sick_is_ended_and_restarted() {
    let beats = |child: &mut Child| {
        child.heartbeat = Some(SECOND * 30);
    };
    check(
        machine(Strategy::OneForOne, "a", beats),
        &[
            (0, "start", "a=starting"),
            (29, "tick", "a=starting"),
            (30, "tick", "a=unhealthy"),
            (39, "tick", "a=unhealthy"),
            (40, "bad a", "a=back-off"),
            (41, "tick", "a=starting"),
            (41, "ready a", "a=ready"),
            (70, "beat a", "a=ready"),
            (99, "tick", "a=ready"),
            (100, "tick", "a=unhealthy"),
            (100, "ok a", "a=back-off"),
            (102, "tick", "a=starting"),
            (102, "ready a", "a=ready"),
            (103, "sick a", "a=unhealthy"),
        ],
    );
}

#[test]
fn nothing_is_expected_of_a_paused_process() {
    let beats = |child: &mut Child| {
        child.heartbeat = Some(SECOND * 30);
    };
    check(
        machine(Strategy::OneForOne, "a", beats),
        &[
            (0, "start", "a=starting"),
            (0, "ready a", "a=ready"),
            (1, "pause a", "a=paused"),
            (1000, "tick", "a=paused"),
            (1000, "resume a", "a=ready"),
            (1029, "tick", "a=ready"),
            (1030, "tick", "a=unhealthy"),
        ],
    );
}

#[test]
fn those_that_are_depended_on_start_first_and_stop_last() {
    check(
        machine(Strategy::OneForOne, "web:db,cache db cache", |_| {}),
        &[
            (0, "start", "db=starting cache=starting web=waiting"),
            (1, "ready db", "db=ready cache=starting web=waiting"),
            (2, "ready cache", "db=ready cache=ready web=starting"),
            (3, "ready web", "db=ready cache=ready web=ready"),
            (4, "stop", "db=ready cache=ready web=stopping"),
            (5, "ok web", "db=stopping cache=stopping web=stopped"),
            (6, "ok db", "db=stopped cache=stopping web=stopped"),
            (6, "ok cache", "db=stopped cache=stopped web=stopped"),
        ],
    );
}

#[test]
fn a_job_that_is_done_is_as_good_as_a_service_that_is_ready() {
    check(
        machine(Strategy::OneForOne, "migrate web:migrate", |_| {}),
        &[
            (0, "start", "migrate=starting web=waiting"),
            (1, "ok migrate", "migrate=exited web=starting"),
        ],
    );
}

#[test]
fn one_for_one_leaves_the_others_alone() {
    check(
        machine(Strategy::OneForOne, "a b:a c", |_| {}),
        &[
            (0, "start", "a=starting b=waiting c=starting"),
            (0, "ready a", "a=ready b=starting c=starting"),
            (0, "bad a", "a=back-off b=starting c=starting"),
            (0, "ready b", "a=back-off b=ready c=starting"),
        ],
    );
}

#[test]
fn one_for_all_takes_everybody_down_and_starts_nobody_before_all_are_down() {
    check(
        machine(Strategy::OneForAll, "a b c", |_| {}),
        &[
            (0, "start", "a=starting b=starting c=starting"),
            (0, "ready b", "a=starting b=ready c=starting"),
            (0, "bad a", "a=back-off b=stopping c=stopping"),
            (1, "tick", "a=waiting b=stopping c=stopping"),
            (2, "bad c", "a=waiting b=stopping c=waiting"),
            (3, "ok b", "a=starting b=starting c=starting"),
        ],
    );
}

#[test]
fn who_goes_down_for_others_and_ends_by_itself_first_has_not_failed() {
    check(
        machine(Strategy::OneForAll, "a b:a c", |_| {}),
        &[
            (0, "start", "a=starting b=waiting c=starting"),
            (0, "ready a", "a=ready b=starting c=starting"),
            (0, "bad c", "a=ready b=stopping c=back-off"),
            (0, "bad a", "a=waiting b=stopping c=back-off"),
        ],
    );
}

#[test]
fn rest_for_one_takes_those_down_that_started_later_and_goes_in_line() {
    check(
        machine(Strategy::RestForOne, "a b c", |_| {}),
        &[
            (0, "start", "a=starting b=waiting c=waiting"),
            (0, "ready a", "a=ready b=starting c=waiting"),
            (0, "ready b", "a=ready b=ready c=starting"),
            (0, "ready c", "a=ready b=ready c=ready"),
            (1, "bad b", "a=ready b=back-off c=stopping"),
            (2, "tick", "a=ready b=starting c=stopping"),
            (2, "ok c", "a=ready b=starting c=waiting"),
            (3, "ready b", "a=ready b=ready c=starting"),
        ],
    );
}

#[test]
fn who_fails_for_good_takes_those_along_that_go_down_with_it() {
    for (strategy, expected) in [
        (Strategy::OneForOne, "a=ready b=failed c=ready"),
        (Strategy::OneForAll, "a=stopping b=failed c=stopping"),
        (Strategy::RestForOne, "a=ready b=failed c=stopping"),
    ] {
        check(
            machine(strategy, "a b c", |child| {
                child.restart.max_attempts = 0;
            }),
            &[
                (0, "start", &states_after_start(strategy)),
                (0, "ready a", &states_after_a(strategy)),
                (0, "ready b", &states_after_b(strategy)),
                (0, "ready c", "a=ready b=ready c=ready"),
                (1, "bad b", expected),
            ],
        );
    }
}

fn in_line(strategy: Strategy, in_line: &str, beside: &str) -> String {
    let line = strategy == Strategy::RestForOne;
    if line { in_line } else { beside }.to_owned()
}

fn states_after_start(strategy: Strategy) -> String {
    let beside = "a=starting b=starting c=starting";
    in_line(strategy, "a=starting b=waiting c=waiting", beside)
}

fn states_after_a(strategy: Strategy) -> String {
    let beside = "a=ready b=starting c=starting";
    in_line(strategy, "a=ready b=starting c=waiting", beside)
}

fn states_after_b(_: Strategy) -> String {
    "a=ready b=ready c=starting".to_owned()
}

#[test]
fn too_many_restarts_of_all_together_end_them_all() {
    let intensity = Intensity {
        restarts: 2,
        period: SECOND * 10,
    };
    let all = children("a b c", |_| {});
    let machine = Machine::new(all, Strategy::OneForOne, intensity, 0).unwrap();
    check(
        machine,
        &[
            (0, "start", "a=starting b=starting c=starting"),
            (0, "bad a", "a=back-off b=starting c=starting"),
            (5, "bad b", "a=starting b=back-off c=starting"),
            (11, "bad c", "a=starting b=starting c=back-off"),
            (12, "bad a", "a=failed b=stopping c=stopped"),
        ],
    );
}

#[test]
fn a_stop_that_is_not_heeded_becomes_a_kill() {
    let mut machine = machine(Strategy::OneForOne, "a", |_| {});
    machine.apply(Event::StartAll, SECOND);
    let stop = machine.apply(Event::StopAll, SECOND * 2);
    assert!(stop.contains(&Action::Stop("a".to_owned(), 1)), "{stop:?}");
    assert_eq!(machine.next_wake(), Some(SECOND * 12));
    let kill = machine.apply(Event::Tick, SECOND * 12);
    assert_eq!(kill, [Action::Kill("a".to_owned(), 1)]);
    assert_eq!(machine.next_wake(), None);
}

#[test]
fn a_paused_process_goes_on_before_it_is_stopped() {
    let mut machine = machine(Strategy::OneForOne, "a", |_| {});
    machine.apply(Event::StartAll, SECOND);
    machine.apply(Event::Process("a".to_owned(), 1, Happened::Ready), SECOND);
    machine.apply(Event::Pause("a".to_owned()), SECOND);
    let mut actions = machine.apply(Event::StopAll, SECOND);
    actions.retain(|action| !matches!(action, Action::Tell(..)));
    let name = || "a".to_owned();
    assert_eq!(
        actions,
        [Action::Resume(name(), 1), Action::Stop(name(), 1)]
    );
}

#[test]
fn old_news_is_ignored() {
    let mut machine = machine(Strategy::OneForOne, "a", |_| {});
    machine.apply(Event::StartAll, SECOND);
    let gone = Happened::Exited { clean: false };
    machine.apply(Event::Process("a".to_owned(), 1, gone), SECOND);
    machine.apply(Event::Tick, SECOND * 10);
    machine.apply(Event::Process("a".to_owned(), 1, gone), SECOND * 10);
    assert_eq!(states(&machine), "a=starting");
    machine.apply(Event::Process("b".to_owned(), 1, gone), SECOND * 10);
}

#[test]
fn who_waits_knows_for_whom() {
    let mut machine = machine(Strategy::OneForOne, "db cache web:db,cache", |_| {});
    machine.apply(Event::StartAll, SECOND);
    machine.apply(Event::Process("db".to_owned(), 1, Happened::Ready), SECOND);
    assert_eq!(machine.waits_for("web"), ["cache"]);
    assert!(machine.waits_for("db").is_empty());
}

#[test]
fn one_can_be_added_and_removed_while_others_run() {
    let mut machine = machine(Strategy::OneForOne, "db", |_| {});
    machine.apply(Event::StartAll, SECOND);
    let web = || children("web:db", |_| {}).remove(0);
    machine.add(web()).unwrap();
    assert!(matches!(
        machine.add(web()),
        Err(OrderError::Duplicate { .. })
    ));
    let lost = children("x:y", |_| {}).remove(0);
    assert!(matches!(machine.add(lost), Err(OrderError::Unknown { .. })));
    assert!(!machine.remove("db"), "it runs, and is needed");
    machine.apply(Event::StopAll, SECOND);
    machine.apply(
        Event::Process("db".to_owned(), 1, Happened::Exited { clean: true }),
        SECOND,
    );
    assert!(!machine.remove("db"), "it is needed");
    assert!(machine.remove("web") && machine.remove("db"));
}
