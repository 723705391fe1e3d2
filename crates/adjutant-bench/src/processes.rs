//! Starting and stopping agents' processes, beside bare `posix_spawn` of the same programs.

mod idle;

use std::{
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use adjutant_process::{
    Environment, Isolation, Limits, NativeOptions, NativeProcesses, Ownership, ProcessManager,
    ProcessSpec, Profile, Spawned, StopCause,
};
use anyhow::{Context, Result};
use futures::{
    StreamExt,
    future::try_join_all,
    stream::{self, FuturesUnordered},
};
use tokio::io::AsyncReadExt;

use self::idle::IDLE;
use crate::{
    bench::{Bench, Meter},
    report::{Row, Times},
};

const READY: &str = "spawn to ready";
const RATE: &str = "spawns";
const STOP: &str = "stop of 50";
const BARE: &str = "bare posix_spawn";

const CONFINED: [Profile; 3] = [Profile::Workspace, Profile::Isolated, Profile::Restricted];

/// Processes under way at once where many are started.
const IN_FLIGHT: usize = 16;
const STOPPED: usize = 50;

/// Ways of owning trees, best first.
const WAYS: [(Ownership, &str); 3] = [
    (Ownership::CgroupV2, "cgroup v2"),
    (Ownership::CgroupV1, "cgroup v1"),
    (Ownership::Processes, "process list"),
];

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let groups = [READY, RATE, STOP, IDLE];
    if !groups.iter().any(|group| wants(bench, group)) {
        return Ok(());
    }
    let mut ways = Vec::new();
    for (ownership, name) in WAYS {
        // What this machine does not have is left out.
        let mut options = NativeOptions::default();
        options.ownership = Some(ownership);
        if let Ok(processes) = NativeProcesses::with(options) {
            ways.push((name, processes));
        }
    }
    if wants(bench, READY) {
        ready(bench, &ways).await?;
        confined(bench, &ways).await?;
    }
    if wants(bench, RATE) {
        rate(bench, &ways).await?;
    }
    if wants(bench, STOP) {
        stop(bench, &ways).await?;
    }
    if wants(bench, IDLE) {
        idle::measure(bench, &ways).await?;
    }
    Ok(())
}

type Ways = [(&'static str, NativeProcesses)];

fn name(group: &str, way: &str) -> String {
    format!("{group}: {way}")
}

fn wants(bench: &Bench, group: &str) -> bool {
    let ways = WAYS.iter().map(|(_, way)| *way).chain([BARE]);
    let ways = ways.chain(CONFINED.map(Profile::name));
    let names: Vec<String> = ways.map(|way| name(group, way)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.wants(&names)
}

fn spec(program: &str, args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        program: program.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        dir: "/".into(),
        env: Environment::default(),
        limits: Limits::default(),
        isolation: Isolation::default(),
    }
}

fn bare(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// From the call to the program's first byte.
async fn ready(bench: &mut Bench, ways: &Ways) -> Result<()> {
    let mut times = Vec::new();
    let mut meter = Meter::start(bench.time);
    while meter.is_running() {
        let begin = Instant::now();
        let mut child = bare("/bin/echo", &["ready"]).spawn()?;
        let mut out = child.stdout.take().context("no stdout")?;
        out.read_exact(&mut [0])?;
        take(&mut times, &mut meter, begin);
        child.wait()?;
    }
    let yardstick = Row::new(name(READY, BARE), median(times), "ms");
    let most = yardstick.figure.mul_add(1.3, 2.0);
    bench.push(yardstick);
    for (way, processes) in ways {
        let mut times = Vec::new();
        let mut meter = Meter::start(bench.time);
        while meter.is_running() {
            let begin = Instant::now();
            let mut spawned = processes.spawn(spec("/bin/echo", &["ready"])).await?;
            spawned.stdout.read_u8().await?;
            take(&mut times, &mut meter, begin);
            spawned.process.wait().await?;
        }
        let row = Row::new(name(READY, way), median(times), "ms");
        let row = row.over(bench.row(&name(READY, BARE))).at_most(most);
        bench.push(row);
    }
    Ok(())
}

/// The same under each profile that confines, owned in the best way.
async fn confined(bench: &mut Bench, ways: &Ways) -> Result<()> {
    let Some((way, processes)) = ways.first() else {
        return Ok(());
    };
    let place = tempfile::tempdir()?;
    let (home, temp) = (place.path().join("agent"), place.path().join("tmp"));
    std::fs::create_dir(&home)?;
    std::fs::create_dir(&temp)?;
    for profile in CONFINED {
        let mut times = Vec::new();
        let mut meter = Meter::start(bench.time);
        while meter.is_running() {
            let mut spec = spec("/bin/echo", &["ready"]);
            spec.dir.clone_from(&home);
            spec.env.set("TMPDIR", temp.to_string_lossy());
            spec.isolation = Isolation::of(profile);
            let begin = Instant::now();
            let mut spawned = processes.spawn(spec).await?;
            spawned.stdout.read_u8().await?;
            take(&mut times, &mut meter, begin);
            spawned.process.wait().await?;
        }
        let open = bench.row(&name(READY, way));
        let most = open.map_or(f64::INFINITY, |open| open.figure + 10.0);
        let row = Row::new(name(READY, profile.name()), median(times), "ms");
        let row = row.over(open).at_most(most);
        bench.push(row);
    }
    Ok(())
}

fn take(times: &mut Vec<Duration>, meter: &mut Meter, begin: Instant) {
    let now = Instant::now();
    if meter.count(now) {
        times.push(now - begin);
    }
}

fn median(times: Vec<Duration>) -> f64 {
    Times::new(times).percentile(50) / 1000.0
}

/// Programs that end at once, started and waited for.
async fn rate(bench: &mut Bench, ways: &Ways) -> Result<()> {
    let mut meter = Meter::start(bench.time);
    while meter.is_running() {
        bare("/bin/true", &[]).spawn()?.wait()?;
        meter.count(Instant::now());
    }
    bench.push(Row::new(name(RATE, BARE), meter.rate(), "/s"));
    for (way, processes) in ways {
        let mut meter = Meter::start(bench.time);
        let mut under_way = FuturesUnordered::new();
        let one = || async {
            let mut spawned = processes.spawn(spec("/bin/true", &[])).await?;
            spawned.process.wait().await
        };
        while meter.is_running() {
            while under_way.len() < IN_FLIGHT {
                under_way.push(one());
            }
            if let Some(ended) = under_way.next().await {
                ended?;
                meter.count(Instant::now());
            }
        }
        while let Some(ended) = under_way.next().await {
            ended?;
        }
        let row = Row::new(name(RATE, way), meter.rate(), "/s");
        bench.push(row.over(bench.row(&name(RATE, BARE))).at_least(500.0));
    }
    Ok(())
}

/// Processes that leave when they are asked to, all at once.
async fn stop(bench: &mut Bench, ways: &Ways) -> Result<()> {
    let mut children = Vec::new();
    for _ in 0..STOPPED {
        children.push(bare("/bin/sleep", &["60"]).spawn()?);
    }
    let begin = Instant::now();
    for child in &mut children {
        child.kill()?;
    }
    for child in &mut children {
        child.wait()?;
    }
    let time = begin.elapsed();
    bench.push(Row::new(name(STOP, BARE), milliseconds(time), "ms"));
    for (way, processes) in ways {
        let starts = (0..STOPPED).map(|_| processes.spawn(spec("/bin/sleep", &["60"])));
        let mut all: Vec<Spawned> = try_join_all(starts).await?;
        let begin = Instant::now();
        let stops = stream::iter(&mut all).map(|spawned| {
            let patience = Duration::from_secs(30);
            spawned.process.stop(StopCause::Finished, patience)
        });
        let stopped: Vec<_> = stops.buffer_unordered(STOPPED).collect().await;
        let time = begin.elapsed();
        for reason in stopped {
            reason?;
        }
        let row = Row::new(name(STOP, way), milliseconds(time), "ms");
        bench.push(row.over(bench.row(&name(STOP, BARE))).at_most(1000.0));
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
