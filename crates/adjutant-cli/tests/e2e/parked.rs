//! Runs whose workers died too often, and those who wait for them.

use std::time::Duration;

use adjutant::{
    AgentKey, RunState, Store, StoreOptions, WorkerId,
    core::RunId,
    open_store,
    queue::{AgentFilter, ClaimRequest, RunFilter},
};

use crate::support::{Project, eventually};

/// Lets workers of `bad` die until its run is parked; the run's id.
async fn park(project: &Project) -> RunId {
    let database = project.path(".adjutant/adjutant.db");
    let url = format!("sqlite:{}", database.display());
    let store = open_store(&url, StoreOptions::default()).await.unwrap();
    loop {
        if let Some(run) = parked(&*store).await {
            store.close().await;
            return run;
        }
        let request = ClaimRequest {
            worker: WorkerId::new(),
            capacity: 1,
            agents: AgentFilter::Only(vec![AgentKey::from("bad")]),
            lease_ttl: Duration::from_millis(1),
            wait: Duration::from_millis(50),
        };
        store.claim(request).await.unwrap();
        store.sweep(10, Duration::from_millis(50)).await.unwrap();
    }
}

async fn parked(store: &dyn Store) -> Option<RunId> {
    let filter = RunFilter {
        states: vec![RunState::Parked],
        ..RunFilter::default()
    };
    store.list(filter).await.unwrap().first().map(|run| run.id)
}

/// A run that waits for a parked child run, and that child.
fn family(project: &Project) -> (String, String) {
    project.python_agent(
        "parent",
        "return run.delegate('fan', [Child('bad', data={})], policy='settle')[0].status",
    );
    let parent = project.submit(&["parent"]);
    let worker = project.start(&["worker", "parent"]);
    project.until_state(&parent, "waiting");
    drop(worker);
    let child = park_now(project);
    assert_eq!(project.state(&child), "parked");
    (parent, child)
}

fn park_now(project: &Project) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(park(project)).to_string()
}

#[test]
fn who_follows_a_run_is_told_of_the_parked_run_it_waits_for() {
    let project = Project::new();
    let (parent, child) = family(&project);
    let followers = [
        vec!["runs", "wait", &parent],
        vec!["runs", "events", &parent, "--follow"],
        vec!["runs", "resume", &parent],
    ]
    .map(|arguments| project.start(&arguments));
    for follower in &followers {
        follower.until_stderr(&format!("{parent} waits for a child run: {child} of bad"));
        follower.until_stderr(&format!("agent runs redrive {child}"));
        follower.until_stderr(&format!("agent runs cancel {child}"));
    }
    let shown = project.agent(&["runs", "show", &parent]);
    let hint = format!("agent runs redrive {child}");
    assert!(shown.code_is(0).stdout.contains(&hint), "{shown:#?}");
    assert_eq!(project.show(&parent)["parked_below"][0], child.as_str());

    // What was told works: the parent goes on, and everyone is told of its end.
    project.agent(&["runs", "cancel", &child]).code_is(0);
    for follower in followers {
        follower.ended().code_is(0);
    }
    assert_eq!(project.state(&parent), "succeeded");
}

#[test]
fn who_follows_a_parked_run_is_told_so_and_let_go() {
    let project = Project::new();
    project.shell_agent("bad", "exit 0");
    let run = project.submit(&["bad"]);
    let follower = project.start(&["runs", "events", &run, "--follow"]);
    eventually("it is followed", || !follower.stdout().is_empty());
    assert_eq!(park_now(&project), run);
    let hint = format!("agent runs redrive {run}");
    follower.ended().code_is(0).says(&hint);
    for (arguments, code) in [
        (vec!["runs", "events", &run, "--follow"], 0),
        (vec!["runs", "wait", &run], 6),
    ] {
        project.agent(&arguments).code_is(code).says(&hint);
    }
    project.agent(&["runs", "redrive", &run]).code_is(0);
    project.agent(&["runs", "resume", &run]).code_is(0);
}
