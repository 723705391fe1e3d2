//! Many processes on one store.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::support::{Project, Running, count, eventually};

use super::fresh::Fresh;

pub const STEPS: &str = "run.step('one', note, home, 'one')\nrun.step('gate', gate, home, 'go')\nrun.step('two', note, home, 'two')\nreturn 'done'";

/// As the tests set it.
const LEASE: Duration = Duration::from_millis(1500);
/// What is allowed beyond the lease until a run of a dead worker is begun by another one.
const ALLOWED: Duration = Duration::from_secs(1);
/// The machine may be busy with other tests just then, so the best of a few takes counts.
const TAKES: usize = 3;

fn at_the_gate(project: &Project, runs: usize) {
    eventually("all are at the gate", || count(project, "at go") == runs);
}

pub fn a_killed_command_is_continued_by_the_same_one(store: &Fresh) {
    let project = Project::on(store.url());
    project.python_agent("steps", STEPS);
    let mut command = project.command(&["run", "steps", "x"]);
    // The dead worker's lease is not waited for: this one would not end within the test.
    let running = project.start_with(command.env("ADJUTANT_RUNNER__LEASE_TTL", "1h"));
    at_the_gate(&project, 1);
    let run = project.newest();
    running.signal("KILL");
    running.ended();
    project.write("go", "");
    let again = project.agent(&["run", "steps", "x"]);
    again
        .code_is(0)
        .says(&format!("continuing {run}"))
        .says("its worker is dead");
    assert_eq!((count(&project, "one"), count(&project, "two")), (1, 1));
    // The notes that tell of dead workers are nothing for version control.
    assert_eq!(project.read(".adjutant/.gitignore"), "*\n");
}

pub fn a_killed_workers_run_goes_on_in_another_one(store: &Fresh) {
    let mut best = Duration::MAX;
    for _ in 0..TAKES {
        best = best.min(time_to_move(store));
        if best <= LEASE + ALLOWED {
            return;
        }
    }
    panic!("it took {best:?} until the run went on");
}

fn time_to_move(store: &Fresh) -> Duration {
    let project = Project::on(store.url());
    project.python_agent("steps", STEPS);
    let run = project.submit(&["steps"]);
    let first = project.start(&["worker", "steps"]);
    at_the_gate(&project, 1);
    let next = project.start(&["worker", "steps"]);
    next.until_stderr("serves steps");
    let killed = kill(first);
    at_the_gate(&project, 2);
    project.write("go", "");
    project.agent(&["runs", "wait", &run]).code_is(0);
    // The gate's step was under way; the one before it was recorded.
    assert_eq!((count(&project, "one"), count(&project, "two")), (1, 1));
    let view = project.show(&run);
    assert_eq!((&view["epoch"], &view["deaths"]), (&2.into(), &1.into()));
    begun_again(&project, &run)
        .duration_since(killed)
        .unwrap_or_default()
}

pub fn workers_share_the_load_and_take_over_what_a_killed_one_had(store: &Fresh) {
    let project = Project::on(store.url());
    project.python_agent("steps", STEPS);
    let two_at_a_time = ["worker", "steps", "--concurrency", "2"];
    let mut workers: Vec<Running> = (0..3).map(|_| project.start(&two_at_a_time)).collect();
    for worker in &workers {
        worker.until_stderr("serves steps");
    }
    let runs: Vec<String> = (0..6).map(|_| project.submit(&["steps"])).collect();
    at_the_gate(&project, 6);
    let held_by: Vec<Value> = runs
        .iter()
        .map(|run| project.show(run)["worker"].clone())
        .collect();
    let holders: BTreeSet<String> = held_by.iter().map(Value::to_string).collect();
    assert_eq!(holders.len(), 3, "six runs at two a worker: {holders:?}");

    workers.push(project.start(&two_at_a_time));
    workers[3].until_stderr("serves steps");
    let dead = name(&workers[0]);
    kill(workers.remove(0));
    at_the_gate(&project, 8);
    project.write("go", "");
    for run in &runs {
        project.agent(&["runs", "wait", run]).code_is(0);
    }
    assert_eq!((count(&project, "one"), count(&project, "two")), (6, 6));
    for (run, holder) in runs.iter().zip(held_by) {
        let had_died = holder == dead.as_str();
        let view = project.show(run);
        let expected = if had_died { (2, 1) } else { (1, 0) };
        let found = (
            view["epoch"].as_u64().unwrap(),
            view["deaths"].as_u64().unwrap_or(0),
        );
        assert_eq!(found, expected, "{view}");
    }
}

pub fn a_server_that_comes_back_is_waited_for(store: &Fresh) {
    let mut server = (store.restartable)();
    let project = Project::on(&server.url);
    project.python_agent("steps", STEPS);
    let running = project.start(&["run", "steps", "x"]);
    at_the_gate(&project, 1);
    let run = project.newest();
    let follow = project.start(&["runs", "events", &run, "--follow"]);
    eventually("it is followed", || follow.stdout().contains("step"));
    (server.kill)();
    for process in [&running, &follow] {
        process.until_stderr("the store is away");
    }
    (server.start)();
    project.write("go", "");
    assert_eq!(running.ended().code_is(0).stdout, "done\n");
    assert!(follow.ended().code_is(0).stdout.contains("run.succeeded"));
    assert_eq!((count(&project, "one"), count(&project, "two")), (1, 1));
}

/// The worker's id, as it tells it.
fn name(worker: &Running) -> String {
    let told = worker.stderr();
    let name = told.split_once("worker ").unwrap().1;
    name.split(' ').next().unwrap().to_owned()
}

/// Kills a worker, and says when.
fn kill(worker: Running) -> SystemTime {
    let now = SystemTime::now();
    worker.signal("KILL");
    worker.ended();
    now
}

/// When the run was begun for the second time.
fn begun_again(project: &Project, run: &str) -> SystemTime {
    let events = project.agent(&["runs", "events", run, "-o", "json"]);
    let mut starts = events.code_is(0).stdout.lines().filter_map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        (event["type"] == "run.started").then(|| event["timestamp"].as_str().unwrap().to_owned())
    });
    let second: jiff::Timestamp = starts.nth(1).unwrap().parse().unwrap();
    second.into()
}
