//! Processes that are kept running.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_process::{
    Environment, ExitReason, Isolation, Limits, Names, ProcessSpec,
    supervise::{
        Child, Failure, Last, Ready, Restart, Service, State, Strategy, Supervisor,
        SupervisorConfig,
    },
};
use support::{Case, eventually, is_alive, native};

/// Names that no other test gives, and processes of this machine.
struct World {
    case: Case,
    config: SupervisorConfig,
}

impl World {
    fn new() -> Self {
        Self {
            case: Case::shell(""),
            config: SupervisorConfig::default(),
        }
    }

    /// A service that runs a script; its pauses are short.
    fn service(&self, name: &str, script: &str) -> Service {
        let mut child = Child::new(name);
        child.restart.backoff.first = Duration::from_millis(1);
        child.stop_timeout = Duration::from_secs(5);
        Service {
            child,
            process: ProcessSpec {
                program: "/bin/sh".into(),
                args: vec!["-c".to_owned(), script.to_owned()],
                dir: self.case.dir.path().to_owned(),
                env: Environment::inherited(std::env::vars()),
                limits: Limits::default(),
                isolation: Isolation::default(),
            },
            ready: Ready::Started,
        }
    }

    fn start(&self, services: Vec<Service>) -> Supervisor {
        let processes = Arc::new(native(None, true).unwrap());
        Supervisor::start(services, processes, self.config.clone()).unwrap()
    }
}

fn up(state: &State) -> bool {
    matches!(state, State::Up(_))
}

async fn pid(supervisor: &Supervisor, name: &str) -> String {
    let status = supervisor.wait(name, up).await.unwrap();
    status.pid.unwrap().to_string()
}

#[tokio::test]
async fn a_process_that_is_killed_comes_back_and_one_that_crashes_on_fails_in_the_end() {
    let world = World::new();
    let supervisor = world.start(vec![
        world.service("lives", "sleep 600"),
        world.service("dies", "echo x >> starts; exit 3"),
    ]);
    let first = pid(&supervisor, "lives").await;
    let number = rustix::process::Pid::from_raw(first.parse().unwrap()).unwrap();
    rustix::process::kill_process(number, rustix::process::Signal::KILL).unwrap();
    let again = |state: &State| up(state);
    eventually("restarted", || {
        let now = supervisor.get("lives").unwrap();
        again(&now.state) && now.pid.is_some_and(|pid| pid.to_string() != first)
    })
    .await;
    let failed = supervisor.wait("dies", State::is_settled).await.unwrap();
    assert_eq!(failed.state, State::Failed(Failure::Attempts));
    assert_eq!(failed.last, Some(Last::Ended(ExitReason::Exited(3))));
    assert_eq!(world.case.lines("starts").len(), 4, "3 restarts");
    let counted = supervisor.statistics();
    assert_eq!((counted.spawned, counted.active, counted.failed), (6, 1, 5));
    assert_eq!(counted.restarted, 4);
}

#[tokio::test]
async fn those_that_are_depended_on_are_ready_first() {
    let world = World::new();
    let mut db = world.service("db", "sleep 0.2; echo db >> order; touch up; sleep 600");
    db.ready = Ready::File(world.case.file("up"));
    let mut web = world.service("web", "echo web >> order; sleep 600");
    web.child.depends_on = vec!["db".to_owned()];
    let supervisor = world.start(vec![web, db]);
    assert_eq!(supervisor.get("web").unwrap().waits_for, ["db"]);
    eventually("both", || world.case.lines("order").len() == 2).await;
    assert_eq!(world.case.lines("order"), ["db", "web"]);
}

#[tokio::test]
async fn a_cycle_is_named() {
    let world = World::new();
    let mut services = ["a", "b"].map(|name| world.service(name, "true"));
    services[0].child.depends_on = vec!["b".to_owned()];
    services[1].child.depends_on = vec!["a".to_owned()];
    let processes = Arc::new(native(None, true).unwrap());
    let started = Supervisor::start(services.to_vec(), processes, SupervisorConfig::default());
    assert!(started.unwrap_err().to_string().contains("a -> b -> a"));
}

#[tokio::test]
async fn port_and_http_tell_that_a_service_is_ready() {
    let world = World::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let script = format!(
        "exec python3 -m http.server --bind 127.0.0.1 {}",
        port.port()
    );
    let mut by_port = world.service("by-port", &script);
    by_port.ready = Ready::Port(port);
    let supervisor = world.start(vec![by_port]);
    supervisor.wait("by-port", up).await.unwrap();
    assert!(std::net::TcpStream::connect(port).is_ok());
    supervisor.terminate("by-port").await.unwrap();

    let mut by_http = world.service("by-http", &script);
    by_http.ready = Ready::Http(port, "/".to_owned());
    let status = supervisor.spawn(by_http).await.unwrap();
    assert_eq!(status.name, "by-http-01");
    // The other one's server says that there is no such page.
    let mut never = world.service("never", "sleep 600");
    never.ready = Ready::Http(port, "/nothing".to_owned());
    never.child.start_timeout = Duration::from_millis(300);
    never.child.restart.max_attempts = 0;
    let error = supervisor.spawn(never).await.unwrap_err();
    assert_eq!(error.kind(), "not_ready");
}

#[tokio::test]
async fn an_agent_that_hangs_is_restarted() {
    let mut world = World::new();
    world.case = Case::python("return 1");
    let manifest = &world.case.manifest;
    let mut service = world.service("agent", "exec python3 agent.py");
    for (name, _) in manifest.env.iter() {
        let text = manifest.env.get(name).unwrap();
        service.process.env.set(name, text);
    }
    service.process.env.set("AGENT_WIRE", "stdio");
    service.ready = Ready::Handshake;
    service.child.heartbeat = Some(Duration::from_millis(900));
    service.child.stop_timeout = Duration::from_millis(100);
    let supervisor = world.start(vec![service]);
    let first = pid(&supervisor, "agent").await;
    let number = rustix::process::Pid::from_raw(first.parse().unwrap()).unwrap();
    rustix::process::kill_process(number, rustix::process::Signal::STOP).unwrap();
    eventually("restarted", || {
        let now = supervisor.get("agent").unwrap();
        up(&now.state) && now.pid.is_some_and(|pid| pid.to_string() != first)
    })
    .await;
    assert!(!is_alive(&first));
}

#[tokio::test]
async fn a_paused_process_stands_still_and_goes_on() {
    let world = World::new();
    // Starts no others: a shell that stands still may be waiting for a child to begin, which looks like sleep.
    let beat = "import time\nwhile 1: open('beats', 'a').write('x\\n'); time.sleep(0.01)";
    let script = &format!("exec python3 -c \"{beat}\"");
    let supervisor = world.start(vec![world.service("a", script)]);
    let beats = || world.case.lines("beats").len();
    eventually("beats", || beats() > 3).await;
    supervisor.pause("a").await.unwrap();
    supervisor
        .wait("a", |state| matches!(state, State::Paused(_)))
        .await
        .unwrap();
    let stopped = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    let pid = supervisor.get("a").unwrap().pid.unwrap();
    eventually("stands still", || stopped(pid)).await;
    let before = beats();
    supervisor.resume("a").await.unwrap();
    eventually("goes on", || beats() > before + 3).await;
    supervisor.pause("a").await.unwrap();
    let ended = supervisor.terminate("a").await.unwrap();
    assert_eq!(ended.state, State::Stopped);
}

#[tokio::test]
async fn the_eleventh_of_ten_is_refused_and_a_failed_spawn_leaves_nothing() {
    let mut world = World::new();
    let names = Names::at_most(10);
    world.config.names = names.clone();
    let supervisor = world.start(Vec::new());
    let spawns = (0..11).map(|_| supervisor.spawn(world.service("my-agent", "sleep 600")));
    let spawned = futures::future::join_all(spawns).await;
    let refused: Vec<_> = spawned
        .iter()
        .filter_map(|one| one.as_ref().err())
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].kind(), "too_many_instances");
    let all: Vec<String> = supervisor.list().into_iter().map(|one| one.name).collect();
    assert_eq!(
        (all[0].as_str(), all[9].as_str(), all.len()),
        ("my-agent-01", "my-agent-10", 10)
    );
    supervisor.kill("my-agent-03").await.unwrap();
    assert_eq!(supervisor.cleanup().await.unwrap(), ["my-agent-03"]);
    let mut broken = world.service("my-agent", "");
    broken.process.program = "/nowhere/at/all".into();
    broken.child.restart.when = Restart::No;
    let error = supervisor.spawn(broken).await.unwrap_err();
    assert!(error.to_string().contains("my-agent-03"), "{error}");
    assert_eq!(names.list().len(), 9);
    let free = supervisor
        .spawn(world.service("my-agent", "sleep 600"))
        .await;
    assert_eq!(free.unwrap().name, "my-agent-03");
}

#[tokio::test]
async fn fifty_that_leave_at_once_are_stopped_in_less_than_a_second() {
    let world = World::new();
    let services = (0..50).map(|at| world.service(&format!("a{at}"), "exec sleep 600"));
    let supervisor = world.start(services.collect());
    let pids = || {
        supervisor
            .list()
            .into_iter()
            .filter_map(|one| one.pid)
            .collect::<Vec<u32>>()
    };
    eventually("all up", || pids().len() == 50).await;
    let pids = pids();
    let start = Instant::now();
    supervisor.stop().await.unwrap();
    let took = start.elapsed();
    assert!(!pids.iter().any(|pid| is_alive(&pid.to_string())));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn who_does_not_heed_the_stop_is_killed_after_the_grace() {
    let world = World::new();
    let mut stubborn = world.service("a", "trap '' TERM; touch up; while :; do sleep 0.05; done");
    stubborn.ready = Ready::File(world.case.file("up"));
    stubborn.child.stop_timeout = Duration::from_millis(200);
    let supervisor = world.start(vec![stubborn]);
    let pid = pid(&supervisor, "a").await;
    let ended = supervisor.terminate("a").await.unwrap();
    assert_eq!(ended.last, Some(Last::Ended(ExitReason::Signal(9))));
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn one_for_all_starts_all_anew() {
    let mut world = World::new();
    world.config.strategy = Strategy::OneForAll;
    let steady = world.service("steady", "echo x >> steady; sleep 600");
    let shaky = world.service(
        "shaky",
        "echo x >> shaky; while [ ! -e go ]; do sleep 0.02; done; rm go; exit 1",
    );
    let supervisor = world.start(vec![steady, shaky]);
    let first = pid(&supervisor, "steady").await;
    eventually("both", || {
        world.case.lines("shaky").len() == 1 && world.case.lines("steady").len() == 1
    })
    .await;
    world.case.write("go", "");
    eventually("again", || world.case.lines("steady").len() == 2).await;
    assert!(!is_alive(&first));
}

#[tokio::test]
async fn nothing_survives_the_supervisor() {
    let world = World::new();
    let supervisor = world.start(vec![
        world.service("a", "trap '' TERM; sleep 600 & wait; sleep 600"),
    ]);
    let pid = pid(&supervisor, "a").await;
    drop(supervisor);
    eventually("dead", || !is_alive(&pid)).await;
}
