//! Several runs at once in one process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{num::NonZeroU32, time::Duration};

use adjutant_core::{ErrorInfo, RunId, RunInput, RunResult};
use adjutant_process::{PoolConfig, ProcessAgent};
use futures::future::join_all;
use serde_json::{Value, json};
use support::{Case, eventually};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent whose process takes `takes` runs at once and is given `given`.
fn together(takes: u32, given: u32, max: u32, code: &str) -> Case {
    let mut case = Case::python(code);
    let text = std::fs::read_to_string(case.file("agent.py")).unwrap();
    let serve = format!("serve(max_concurrent_runs={takes}, steerable=True)");
    case.write("agent.py", &text.replace("serve()", &serve));
    case.manifest.pool = Some(PoolConfig {
        max: NonZeroU32::new(max).unwrap(),
        runs_per_process: NonZeroU32::new(given).unwrap(),
        ..PoolConfig::default()
    });
    case
}

async fn run(case: &Case, agent: &ProcessAgent, data: Value) -> Result<RunResult, ErrorInfo> {
    let input = RunInput::data(data);
    let attempt = case.attempt_at(agent, RunId::new(), 1, &input);
    tokio::time::timeout(PATIENCE, attempt).await.unwrap()
}

fn output(result: Result<RunResult, ErrorInfo>) -> Value {
    result.unwrap().final_output.to().unwrap()
}

/// Waits until all have come.
const MEET: &str = "open(f'here-{run.id}', 'w')\n\
     while len([name for name in os.listdir('.') if name.startswith('here-')]) < run.data['of']: time.sleep(0.01)\n";

#[tokio::test]
async fn runs_share_a_process_and_each_gets_its_own_answers() {
    let code = format!(
        "{MEET}\
         mine = [run.step(f's{{n}}', lambda: run.data['n'] * 10 + n) for n in range(3)]\n\
         run.emit('mine', run.data['n'])\n\
         return [os.getpid(), run.data['n'], mine]"
    );
    // Each run has its own journal in a real host; here its keys would meet.
    let code = code.replace("f's{n}'", "f'{run.id} s{n}'");
    let case = together(8, 4, 1, &code);
    let agent = case.agent();
    let runs = (0..4).map(|n| run(&case, &agent, json!({ "n": n, "of": 4 })));
    let outputs: Vec<Value> = join_all(runs).await.into_iter().map(output).collect();
    for (n, output) in outputs.iter().enumerate() {
        assert_eq!(output[0], outputs[0][0], "one process");
        assert_eq!(output[1], json!(n));
        assert_eq!(output[2], json!([n * 10, n * 10 + 1, n * 10 + 2]));
    }
    assert_eq!(case.events("mine").len(), 4);
    assert!(case.events("process.exited").is_empty(), "it goes on");
    assert_eq!(agent.pooled(), Some((1, 0)));
}

#[tokio::test]
async fn no_process_gets_more_runs_than_it_takes() {
    for (takes, given) in [(2, 8), (8, 2)] {
        let code = format!("{MEET}return os.getpid()");
        let case = together(takes, given, 2, &code);
        let agent = case.agent();
        let runs = (0..4).map(|_| run(&case, &agent, json!({ "of": 4 })));
        let mut pids: Vec<Value> = join_all(runs).await.into_iter().map(output).collect();
        pids.sort_by_key(|pid| pid.as_u64());
        assert_eq!(pids[0], pids[1]);
        assert_eq!(pids[2], pids[3]);
        assert_ne!(pids[1], pids[2]);
    }
}

#[tokio::test]
async fn a_run_that_finds_no_room_waits_for_it() {
    let case = together(2, 2, 1, "time.sleep(0.05)\nreturn os.getpid()");
    let agent = case.agent();
    let runs = (0..7).map(|_| run(&case, &agent, json!({})));
    let pids: Vec<Value> = join_all(runs).await.into_iter().map(output).collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
}

const ONE_OF_TWO: &str = "if run.data['n'] == 0:\n  BAD\n\
     while not os.path.exists('go'): time.sleep(0.01)\n\
     return os.getpid()";

#[tokio::test]
async fn a_failed_run_leaves_the_others_alone() {
    let case = together(
        4,
        4,
        1,
        &ONE_OF_TWO.replace("BAD", "raise ValueError('no')"),
    );
    let agent = case.agent();
    let bad = async {
        let failure = run(&case, &agent, json!({ "n": 0 })).await.unwrap_err();
        case.write("go", "");
        failure
    };
    let (failure, good) = tokio::join!(bad, run(&case, &agent, json!({ "n": 1 })));
    assert_eq!(failure.kind, "ValueError");
    let next = run(&case, &agent, json!({ "n": 2 })).await;
    assert_eq!(output(good), output(next), "the same process");
}

#[tokio::test]
async fn a_suspended_run_makes_room_and_is_told_to_stop() {
    let bad = "open('waits', 'w')\n  try: run.sleep('nap', 60)\n  finally: open('unwound', 'w')";
    let case = together(2, 2, 1, &ONE_OF_TWO.replace("BAD", bad));
    let agent = case.agent();
    let good = run(&case, &agent, json!({ "n": 1 }));
    let others = async {
        {
            let mut suspended = std::pin::pin!(run(&case, &agent, json!({ "n": 0 })));
            tokio::select! {
                end = &mut suspended => panic!("it should sleep: {end:?}"),
                () = eventually("asleep", || !case.memory.lock().unwrap().slept.is_empty()) => {}
            }
        }
        eventually("unwound", || case.file("unwound").exists()).await;
        case.write("go", "");
        run(&case, &agent, json!({ "n": 2 })).await
    };
    let (good, next) = tokio::join!(good, others);
    assert_eq!(output(good), output(next), "the same process");
}

#[tokio::test]
async fn the_end_of_the_process_fails_all_its_runs_and_the_next_ones_get_another() {
    let bad = "while not os.path.exists('two'): time.sleep(0.01)\n  print('last words'); sys.stderr.flush(); os._exit(3)";
    let code = ONE_OF_TWO.replace("BAD", bad);
    let code = code.replace(
        "while not os.path.exists('go')",
        "open('two', 'w')\nwhile not os.path.exists('go')",
    );
    let case = together(4, 4, 1, &code);
    let agent = case.agent();
    let (one, two) = tokio::join!(
        run(&case, &agent, json!({ "n": 0 })),
        run(&case, &agent, json!({ "n": 1 }))
    );
    for failure in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(failure.kind, "process_exited", "{failure:?}");
        assert!(failure.retriable);
        assert!(failure.message.contains("last words"), "{failure:?}");
    }
    case.write("go", "");
    output(run(&case, &agent, json!({ "n": 1 })).await);
}

#[tokio::test]
async fn a_process_with_a_run_that_does_not_stop_gets_no_more_and_ends_with_its_last_good_one() {
    // It holds on to a place, whatever it is told.
    let bad = "open('stuck', 'w')\n  while True:\n    try: time.sleep(600)\n    except BaseException: pass";
    let mut case = together(4, 4, 1, &ONE_OF_TWO.replace("BAD", bad));
    case.manifest.stop_grace = Duration::from_millis(100);
    let agent = case.agent();
    let good = run(&case, &agent, json!({ "n": 1 }));
    let others = async {
        {
            let mut stuck = std::pin::pin!(run(&case, &agent, json!({ "n": 0 })));
            tokio::select! {
                end = &mut stuck => panic!("it should be stuck: {end:?}"),
                () = eventually("stuck", || case.file("stuck").exists()) => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        case.write("go", "");
        run(&case, &agent, json!({ "n": 2 })).await
    };
    let (good, next) = tokio::join!(good, others);
    let (first, second) = (output(good), output(next));
    assert_ne!(first, second, "another process");
    let pid = first.to_string();
    eventually("the first process has ended", || !support::is_alive(&pid)).await;
}

#[tokio::test]
async fn a_process_that_has_had_its_runs_or_none_for_long_makes_way() {
    let mut case = together(4, 4, 1, "return os.getpid()");
    let pool = case.manifest.pool.as_mut().unwrap();
    pool.max_runs = NonZeroU32::new(2).unwrap();
    pool.idle = Duration::from_millis(300);
    let agent = case.agent();
    let mut pids = Vec::new();
    for _ in 0..3 {
        pids.push(output(run(&case, &agent, json!({})).await));
    }
    assert_eq!(pids[0], pids[1]);
    assert_ne!(pids[1], pids[2], "it had its two runs");
    for pid in pids {
        let pid = pid.to_string();
        eventually("it has left", || !support::is_alive(&pid)).await;
    }
}

#[tokio::test]
async fn a_cancelled_run_ends_alone() {
    let bad = "open('works', 'w')\n  while not run.cancelled: time.sleep(0.01)\n  return 'stopped'";
    let case = together(4, 4, 1, &ONE_OF_TWO.replace("BAD", bad));
    let agent = case.agent();
    // Both runs are cancelled by the same switch; only one looks.
    let cancel = async {
        eventually("works", || case.file("works").exists()).await;
        case.cancel.send_replace(true);
    };
    let (bad, ()) = tokio::join!(run(&case, &agent, json!({ "n": 0 })), cancel);
    assert_eq!(bad.unwrap_err().kind, "cancelled");
    assert_eq!(agent.pooled(), Some((1, 0)), "the process goes on");
}
