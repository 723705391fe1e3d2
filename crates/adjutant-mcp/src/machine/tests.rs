//! The life of a server, walked through.

use super::*;

struct Walk {
    machine: Machine,
    now: Instant,
}

impl Walk {
    fn new() -> Self {
        Self {
            machine: Machine::new(Restart::default()),
            now: Instant::now(),
        }
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        self.machine.apply(event, self.now, 1.0)
    }

    fn up() -> Self {
        let mut walk = Self::new();
        assert_eq!(walk.apply(Event::Wanted), [Effect::Start]);
        assert_eq!(walk.apply(Event::Started), [Effect::Admit]);
        walk
    }

    /// Lets the timer that was just set run out.
    fn ring(&mut self, effects: &[Effect], needed: bool) -> Vec<Effect> {
        let [Effect::Timer { token, after }] = effects else {
            panic!("no timer in {effects:?}");
        };
        self.now += *after;
        self.apply(Event::Timer {
            token: *token,
            needed,
        })
    }
}

fn lost() -> Event {
    Event::Lost {
        why: "exited".into(),
    }
}

fn every_life(now: Instant) -> Vec<Life> {
    let mut lives = vec![
        Life::Idle,
        Life::Starting,
        Life::Ready { since: now },
        Life::Stopped,
        Life::Backoff { until: now },
        Life::Open { until: now },
        Life::Failed { until: now },
    ];
    for then in [Then::Start, Then::Rest] {
        lives.push(Life::Draining { then });
        lives.push(Life::Ending { then });
    }
    lives
}

fn every_event() -> Vec<Event> {
    let why = || "x".to_owned();
    vec![
        Event::Wanted,
        Event::Started,
        Event::StartFailed {
            why: why(),
            lasting: false,
        },
        Event::StartFailed {
            why: why(),
            lasting: true,
        },
        Event::Lost { why: why() },
        Event::Restart,
        Event::Rest,
        Event::Drained,
        Event::Ended,
        Event::Timer {
            token: 0,
            needed: true,
        },
        Event::Timer {
            token: 9,
            needed: true,
        },
    ]
}

#[test]
fn nothing_starts_a_second_process_beside_a_living_one() {
    let now = Instant::now();
    for life in every_life(now) {
        for event in every_event() {
            let mut machine = Machine::new(Restart::default());
            machine.life = life.clone();
            let effects = machine.apply(event.clone(), now, 0.5);
            let alive = matches!(
                life,
                Life::Starting | Life::Ready { .. } | Life::Draining { .. }
            );
            if alive {
                assert!(
                    !effects.contains(&Effect::Start),
                    "{life:?} {event:?} {effects:?}"
                );
            }
            if effects.contains(&Effect::Start) {
                assert_eq!(machine.life, Life::Starting, "{life:?} {event:?}");
            }
        }
    }
}

#[test]
fn a_server_that_dies_is_started_again_after_doubled_pauses_and_then_left_alone() {
    let mut walk = Walk::up();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let effects = walk.apply(lost());
        let [Effect::Timer { after, .. }] = effects[..] else {
            panic!("{effects:?}");
        };
        pauses.push(after.as_millis());
        assert_eq!(walk.ring(&effects, true), [Effect::Start]);
        walk.apply(Event::Started);
    }
    assert_eq!(pauses, [500, 1000, 2000]);
    assert_eq!(walk.apply(lost()), [Effect::Refuse]);
    assert_eq!(walk.machine.state(0), State::Open);
    assert_eq!(walk.apply(Event::Wanted), [Effect::Refuse]);

    walk.now += Restart::default().open_for;
    assert_eq!(walk.apply(Event::Wanted), [Effect::Start]);
    let failed = Event::StartFailed {
        why: "again".into(),
        lasting: false,
    };
    assert_eq!(walk.apply(failed), [Effect::Refuse], "one try, not three");
}

#[test]
fn a_healthy_minute_forgets_failures() {
    let mut walk = Walk::up();
    for _ in 0..20 {
        walk.now += Restart::default().reset_after;
        let effects = walk.apply(lost());
        assert_eq!(walk.ring(&effects, true), [Effect::Start]);
        walk.apply(Event::Started);
    }
}

#[test]
fn what_nobody_needs_is_not_started_again() {
    let mut walk = Walk::up();
    let effects = walk.apply(lost());
    assert_eq!(walk.ring(&effects, false), []);
    assert_eq!(walk.machine.state(0), State::Stopped);
    assert_eq!(walk.apply(Event::Wanted), [Effect::Start]);
}

#[test]
fn who_waits_through_a_pause_gets_the_next_start() {
    let mut walk = Walk::up();
    let effects = walk.apply(lost());
    assert_eq!(walk.apply(Event::Wanted), []);
    assert_eq!(walk.ring(&effects, false), [Effect::Start]);
}

#[test]
fn a_restart_drains_ends_and_starts() {
    let mut walk = Walk::up();
    assert_eq!(walk.apply(Event::Restart), [Effect::Drain]);
    assert_eq!(walk.machine.state(3), State::Draining);
    assert_eq!(walk.apply(Event::Wanted), []);
    assert_eq!(walk.apply(Event::Drained), [Effect::End]);
    assert_eq!(walk.apply(Event::Ended), [Effect::Start]);
}

#[test]
fn a_stop_does_not_start_again_unless_somebody_waits() {
    for waits in [false, true] {
        let mut walk = Walk::up();
        assert_eq!(walk.apply(Event::Rest), [Effect::Drain]);
        assert_eq!(walk.apply(Event::Drained), [Effect::End]);
        if waits {
            walk.apply(Event::Wanted);
        }
        let effects = walk.apply(Event::Ended);
        assert_eq!(effects.contains(&Effect::Start), waits);
    }
}

#[test]
fn dying_while_it_drains_is_no_failure() {
    let mut walk = Walk::up();
    walk.apply(Event::Rest);
    assert_eq!(walk.apply(lost()), [Effect::End]);
    assert_eq!(walk.apply(Event::Ended), []);
    assert_eq!(walk.machine.state(0), State::Stopped);
}

#[test]
fn a_lasting_failure_is_not_tried_again_at_once_but_by_order() {
    let mut walk = Walk::new();
    walk.apply(Event::Wanted);
    let failed = Event::StartFailed {
        why: "no program".into(),
        lasting: true,
    };
    assert_eq!(walk.apply(failed), [Effect::Refuse]);
    assert_eq!(walk.machine.state(0), State::Failed);
    assert_eq!(walk.machine.last_error(), Some("no program"));
    assert_eq!(walk.apply(Event::Wanted), [Effect::Refuse]);
    assert_eq!(walk.apply(Event::Restart), [Effect::Start]);
}

#[test]
fn stale_timers_do_nothing() {
    let mut walk = Walk::up();
    let effects = walk.apply(lost());
    walk.apply(Event::Restart);
    assert_eq!(walk.apply(Event::Started), [Effect::Admit]);
    assert_eq!(walk.ring(&effects, true), []);
    assert!(matches!(walk.machine.life(), Life::Ready { .. }));
}
