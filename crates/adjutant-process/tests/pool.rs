//! Processes that outlive their runs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{num::NonZeroU32, time::Duration};

use adjutant_process::{AgentOptions, Names, PoolConfig, ProcessAgent};
use serde_json::{Value, json};
use support::{Case, eventually, is_alive};

/// Tells who did the run, and does what the input says.
const WORKER: &str = "\
what = run.data.get('do')
print('log of ' + str(run.data.get('n')), file=sys.stderr, flush=True)
if what == 'fail': raise AgentError('bad', 'no', retriable=False)
if what == 'die': os._exit(3)
if what == 'sleep': run.sleep('nap', 60)
if what == 'hang':
  while True: time.sleep(1)
if what == 'until cancelled':
  while not run.cancelled: time.sleep(0.01)
if what == 'set': os.environ['LEFT'] = 'behind'
return {'pid': os.getpid(), 'env': dict(os.environ)}";

fn case(pool: PoolConfig) -> Case {
    let mut case = Case::python(WORKER);
    case.manifest.pool = Some(pool);
    case
}

fn pool(min: u32, max: u32) -> PoolConfig {
    PoolConfig {
        min,
        max: NonZeroU32::new(max).unwrap(),
        ..PoolConfig::default()
    }
}

async fn pid(case: &Case, agent: &ProcessAgent) -> u64 {
    output(case, agent).await["pid"].as_u64().unwrap()
}

async fn output(case: &Case, agent: &ProcessAgent) -> Value {
    let result = case.attempt_of(agent, 1).await.unwrap();
    result.final_output.to().unwrap()
}

async fn idle(agent: &ProcessAgent, count: u32) {
    let what = format!("{count} idle");
    eventually(&what, || agent.pooled() == Some((count, 0))).await;
}

#[tokio::test]
async fn a_process_takes_one_run_after_the_other() {
    let case = case(pool(1, 1));
    let agent = case.agent();
    let first = pid(&case, &agent).await;
    for _ in 0..5 {
        assert_eq!(pid(&case, &agent).await, first);
    }
    let started = case.events("process.started");
    assert_eq!(started.len(), 6);
    assert_eq!(
        (&started[5]["warm"], &started[5]["runs"]),
        (&json!(true), &json!(5))
    );
    assert!(case.events("process.exited").is_empty());
}

#[tokio::test]
async fn the_minimum_is_there_before_the_first_run_and_gone_with_the_agent() {
    let case = case(pool(2, 4));
    let agent = case.agent();
    idle(&agent, 2).await;
    let pids = [pid(&case, &agent).await, pid(&case, &agent).await].map(|pid| pid.to_string());
    assert_eq!(case.events("process.started")[0]["warm"], json!(true));
    drop(agent);
    eventually("all gone", || !pids.iter().any(|pid| is_alive(pid))).await;
}

#[tokio::test]
async fn no_more_processes_than_the_maximum_take_runs_and_the_others_wait() {
    let case = case(pool(0, 2));
    let agent = case.agent();
    let runs = (0..8).map(|_| pid(&case, &agent));
    let mut pids = futures::future::join_all(runs).await;
    pids.sort_unstable();
    pids.dedup();
    assert!(pids.len() <= 2, "{pids:?}");
    assert_eq!(agent.pooled().unwrap().1, 0);
}

#[tokio::test]
async fn a_run_that_is_given_up_while_it_waits_leaves_its_place_to_others() {
    let mut case = case(pool(0, 1));
    case.input.data = json!({"do": "hang"}).into();
    let agent = case.agent();
    {
        let mut hanging = std::pin::pin!(case.attempt_of(&agent, 1));
        let mut waiting = std::pin::pin!(case.attempt_of(&agent, 2));
        tokio::select! {
            end = &mut hanging => panic!("{end:?}"),
            end = &mut waiting => panic!("{end:?}"),
            () = eventually("started", || !case.events("process.started").is_empty()) => {}
        }
        assert_eq!(agent.pooled(), Some((0, 1)));
    }
    case.input.data = json!({}).into();
    pid(&case, &agent).await;
    idle(&agent, 1).await;
}

#[tokio::test]
async fn a_process_is_replaced_after_its_runs_and_when_it_is_old() {
    let by_runs = PoolConfig {
        max_runs: NonZeroU32::new(2).unwrap(),
        ..pool(1, 1)
    };
    let by_age = PoolConfig {
        max_age: Duration::from_millis(1),
        ..pool(0, 1)
    };
    for (config, expected) in [(by_runs, [0, 0, 1, 1, 2]), (by_age, [0, 1, 2, 3, 4])] {
        let case = case(config);
        let agent = case.agent();
        let mut seen = Vec::new();
        for nth in expected {
            let pid = pid(&case, &agent).await;
            let known = seen.iter().position(|other| *other == pid);
            let at = known.unwrap_or_else(|| {
                seen.push(pid);
                seen.len() - 1
            });
            assert_eq!(at, nth, "{config:?}");
        }
    }
}

#[tokio::test]
async fn an_agent_that_fails_its_run_by_itself_may_take_another() {
    let mut case = case(pool(0, 1));
    let agent = case.agent();
    let first = pid(&case, &agent).await;
    case.input.data = json!({"do": "fail"}).into();
    let failure = case.attempt_of(&agent, 1).await.unwrap_err();
    assert_eq!(failure.kind, "bad");
    case.input.data = json!({}).into();
    assert_eq!(pid(&case, &agent).await, first);
}

#[tokio::test]
async fn who_died_waits_or_is_cancelled_hard_takes_no_other_run() {
    for what in ["die", "sleep", "hang"] {
        let mut case = case(pool(0, 1));
        let agent = case.agent();
        let first = pid(&case, &agent).await;
        case.input.data = json!({ "do": what }).into();
        {
            let mut attempt = std::pin::pin!(case.attempt_of(&agent, 1));
            tokio::select! {
                end = &mut attempt => assert_eq!((what, end.unwrap_err().kind), ("die", "process_exited".to_owned())),
                () = eventually("asleep", || !case.memory.lock().unwrap().slept.is_empty()) => {}
                () = eventually("hangs", || what == "hang" && case.events("process.started").len() == 2) => {
                    case.cancel.send_replace(true);
                    assert_eq!(attempt.await.unwrap_err().kind, "cancelled");
                }
            }
        }
        case.cancel.send_replace(false);
        case.input.data = json!({}).into();
        assert_ne!(pid(&case, &agent).await, first, "{what}");
        eventually("gone", || !is_alive(&first.to_string())).await;
    }
}

#[tokio::test]
async fn who_heeds_a_cancellation_may_take_another_run() {
    let mut case = case(pool(0, 1));
    case.manifest.stop_grace = Duration::from_secs(60);
    let agent = case.agent();
    let first = pid(&case, &agent).await;
    case.input.data = json!({"do": "until cancelled"}).into();
    case.cancel.send_replace(true);
    let failure = case.attempt_of(&agent, 1).await.unwrap_err();
    assert_eq!(failure.kind, "cancelled");
    case.cancel.send_replace(false);
    case.input.data = json!({}).into();
    assert_eq!(pid(&case, &agent).await, first);
}

#[tokio::test]
async fn who_breaks_the_rules_takes_no_other_run() {
    let agents = [
        // Answers with something else than a result.
        "send(id=2, result=7)\ntime.sleep(600)",
        // Asks for something although it has no run.
        "end(os.getpid())\nsend(id='q', method='checkpoint/load', params=scope)\ntime.sleep(600)",
        // Writes a line over the limit.
        "end(os.getpid())\nsys.stdout.write('x' * (17 << 20) + '\\n'); sys.stdout.flush()\ntime.sleep(600)",
        // Leaves.
        "end(os.getpid())",
    ];
    for code in agents {
        let mut case = Case::by_hand(&format!(
            "open('pids', 'a').write(str(os.getpid()) + '\\n')\n{code}"
        ));
        case.manifest.pool = Some(pool(0, 1));
        let agent = case.agent();
        let _ = case.attempt_of(&agent, 1).await;
        let first = case.lines("pids").remove(0);
        eventually("not kept", || agent.pooled() == Some((0, 0))).await;
        eventually("gone", || !is_alive(&first)).await;
        let _ = case.attempt_of(&agent, 1).await;
        assert_eq!(case.lines("pids").len(), 2, "{code}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_hangs_while_idle_is_replaced() {
    let mut case = case(pool(1, 1));
    case.manifest.heartbeat = Duration::from_millis(100);
    let agent = case.agent();
    let first = pid(&case, &agent).await.to_string();
    idle(&agent, 1).await;
    let pid_of = |pid: &str| rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid_of(&first), rustix::process::Signal::STOP).unwrap();
    eventually("replaced", || !is_alive(&first)).await;
    idle(&agent, 1).await;
    assert_ne!(pid(&case, &agent).await.to_string(), first);
}

#[tokio::test]
async fn idle_processes_beyond_the_minimum_leave_after_a_while() {
    let config = PoolConfig {
        idle: Duration::from_millis(200),
        ..pool(1, 3)
    };
    let case = case(config);
    let agent = case.agent();
    let runs = (0..12).map(|_| pid(&case, &agent));
    futures::future::join_all(runs).await;
    idle(&agent, 1).await;
}

#[tokio::test]
async fn nothing_of_a_run_is_left_for_the_next() {
    let mut case = case(pool(1, 1));
    case.input.data = json!({"n": "first-run"}).into();
    let agent = case.agent();
    let first = output(&case, &agent).await;
    let names: Vec<&String> = first["env"].as_object().unwrap().keys().collect();
    for variable in ["ADJUTANT_RUN_ID", "ADJUTANT_ATTEMPT"] {
        assert!(!names.contains(&&variable.to_owned()), "{names:?}");
    }
    case.memory.lock().unwrap().events.clear();
    case.input.data = json!({"n": "second-run", "do": "die"}).into();
    let failure = case.attempt_of(&agent, 1).await.unwrap_err();
    let told = format!("{failure:?} {:?}", case.memory.lock().unwrap().events);
    assert!(
        told.contains("second-run") && !told.contains("first-run"),
        "{told}"
    );
}

#[tokio::test]
async fn a_program_that_cannot_start_fails_its_runs_and_is_not_tried_in_a_loop() {
    let mut case = case(pool(1, 2));
    case.write(
        "agent.py",
        "open('starts', 'a').write('x\\n'); raise SystemExit(4)",
    );
    case.manifest.start_timeout = Duration::from_secs(60);
    let agent = case.agent();
    let failure = case.attempt_of(&agent, 1).await.unwrap_err();
    assert_eq!(failure.kind, "process_exited");
    assert!(
        case.lines("starts").len() <= 3,
        "{:?}",
        case.lines("starts")
    );
}

#[tokio::test]
async fn instances_have_names_and_a_common_bound() {
    let mut case = Case::python("return os.environ['ADJUTANT_INSTANCE']");
    let names = Names::at_most(1);
    let options = || AgentOptions::default().names(names.clone());
    let agent = case.agent_with(options());
    assert_eq!(output(&case, &agent).await, json!("tested-01"));
    assert_eq!(output(&case, &agent).await, json!("tested-01"));
    let taken = names.take("other").unwrap();
    let failure = case.attempt_of(&agent, 1).await.unwrap_err();
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("too_many_instances", true)
    );
    drop(taken);
    case.manifest.command = vec!["./nothing".to_owned()];
    let broken = case.agent_with(options());
    case.attempt_of(&broken, 1).await.unwrap_err();
    assert!(names.list().is_empty(), "a failed start leaves nothing");
    output(&case, &agent).await;
}

#[tokio::test]
async fn an_agent_has_no_more_instances_than_its_manifest_allows() {
    let mut case =
        Case::python("open('there', 'w')\nwhile not os.path.exists('go'): time.sleep(0.01)");
    case.manifest.max_instances = Some(std::num::NonZeroU32::MIN);
    let agent = case.agent();
    let second = async {
        eventually("there", || case.file("there").exists()).await;
        let refused = case.attempt_of(&agent, 2).await.unwrap_err();
        case.write("go", "");
        refused
    };
    let (first, refused) = tokio::join!(case.attempt_of(&agent, 1), second);
    first.unwrap();
    assert_eq!(refused.kind, "too_many_instances");
    assert!(
        refused.retriable && refused.message.contains("`max_instances`"),
        "{refused:?}"
    );
    case.attempt_of(&agent, 3).await.unwrap();
}
