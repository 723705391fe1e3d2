//! Private servers, what they can do without any of our code, and how fast one process hears of another's work.

use std::time::{Duration, Instant};

use adjutant_core::{Json, RunInput, RunResult, WorkerId};
use adjutant_queue::{ClaimRequest, Disposition, NewRun};
use adjutant_servers::{AppendFsync, PostgresServer, PostgresSettings, RedisServer, RedisSettings};
use anyhow::{Context, Result, bail};
use sqlx::{Connection, Executor, PgConnection};

use crate::{
    bench::{Bench, Engine, Meter},
    claims,
    report::{Row, Times},
};

/// Clients of the bare commits.
const CLIENTS: [usize; 2] = [1, 16];
/// When Redis syncs, for each of the bare round trips.
const MODES: [AppendFsync; 3] = [
    AppendFsync::Off,
    AppendFsync::EverySecond,
    AppendFsync::Always,
];
/// Engines with servers that are measured.
pub const ENGINES: [Engine; 3] = [
    Engine::Postgres,
    Engine::Redis(AppendFsync::EverySecond),
    Engine::Redis(AppendFsync::Always),
];
/// Runs that are submitted to a waiting claim, one after another.
const WAKE_UPS: usize = 300;

/// The servers that have been needed so far. They end with the program.
#[derive(Default)]
pub struct Servers {
    postgres: Option<PostgresServer>,
    redis: Vec<(AppendFsync, RedisServer)>,
}

impl Servers {
    /// Starts the engine's server, or finds it started.
    pub fn url(&mut self, engine: Engine) -> Result<String> {
        match engine {
            Engine::Postgres => {
                let server = match self.postgres.take() {
                    Some(server) => server,
                    None => PostgresServer::with(PostgresSettings {
                        fsync: true,
                        ..PostgresSettings::default()
                    })?,
                };
                Ok(self.postgres.insert(server).url())
            }
            Engine::Redis(fsync) => {
                if let Some((_, server)) = self.redis.iter().find(|(mode, _)| *mode == fsync) {
                    return Ok(server.url());
                }
                let server = RedisServer::with(RedisSettings {
                    fsync,
                    ..RedisSettings::default()
                })?;
                let url = server.url();
                self.redis.push((fsync, server));
                Ok(url)
            }
            _ => bail!("{} has no server", engine.name()),
        }
    }
}

/// The yardstick row of an engine.
pub fn yardstick(engine: Engine) -> String {
    match engine {
        Engine::Postgres => commits(16),
        other => round_trips(other),
    }
}

fn commits(clients: usize) -> String {
    format!("postgres one-row commits, {clients} clients")
}

fn round_trips(engine: Engine) -> String {
    format!("{} SET, one by one", engine.name())
}

fn wake_up(engine: Engine) -> [String; 2] {
    ["p50", "p99"].map(|part| format!("{} submit to start elsewhere: {part}", engine.name()))
}

/// The yardsticks, before the rows that they are for.
pub async fn yardsticks(bench: &mut Bench) -> Result<()> {
    let wanted = ENGINES.map(|engine| format!("runs {}, 64 in flight", engine.name()));
    for (clients, runs) in CLIENTS.into_iter().zip([&wanted[0]; 2]) {
        if bench.wants(&[&commits(clients), runs]) {
            let url = bench.server(Engine::Postgres)?;
            let rate = postgres_commits(&url, clients, bench.time).await?;
            bench.push(Row::new(commits(clients), rate, "commits/s"));
        }
    }
    for mode in MODES {
        let engine = Engine::Redis(mode);
        let runs = format!("runs {}, 64 in flight", engine.name());
        if bench.wants(&[&round_trips(engine), &runs]) {
            let url = bench.server(engine)?;
            let rate = redis_sets(&url, bench.time).await?;
            bench.push(Row::new(round_trips(engine), rate, "/s"));
        }
    }
    Ok(())
}

/// How long it takes until a run that one store submits starts at another that waits for it.
pub async fn wake_ups(bench: &mut Bench) -> Result<()> {
    for engine in ENGINES {
        let [p50, p99] = &wake_up(engine);
        if !bench.wants(&[p50, p99]) {
            continue;
        }
        let times = times_to_start(bench, engine).await?;
        bench.push(Row::new(p50, times.percentile(50) / 1000.0, "ms"));
        bench.push(Row::new(p99, times.percentile(99) / 1000.0, "ms").at_most(10.0));
    }
    Ok(())
}

async fn times_to_start(bench: &mut Bench, engine: Engine) -> Result<Times> {
    let opener = bench.opener(engine)?;
    let (here, there) = (opener.clone().open().await?, opener.open().await?);
    let input = Json::from_value(&RunInput::text("hello"))?;
    let mut times = Vec::with_capacity(WAKE_UPS);
    for _ in 0..WAKE_UPS {
        let waiting = tokio::spawn({
            let there = there.clone();
            async move {
                let wait = Duration::from_secs(30);
                let request = claims::request(WorkerId::new(), 1);
                let claimed = there.claim(ClaimRequest { wait, ..request }).await;
                (claimed, Instant::now())
            }
        });
        // So that it does wait.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let submitted = Instant::now();
        here.submit(vec![NewRun::with_json("noop", input.clone())])
            .await?;
        let (claimed, started) = waiting.await?;
        let claimed = claimed?.pop().context("nothing was claimed")?;
        times.push(started - submitted);
        let end = Disposition::Succeeded(RunResult::default());
        there.settle(claimed.lease, end).await?;
    }
    here.close().await;
    there.close().await;
    Ok(Times::new(times))
}

async fn postgres_commits(url: &str, clients: usize, time: Duration) -> Result<f64> {
    let mut conn = PgConnection::connect(url).await?;
    conn.execute("create table if not exists bare (id bigserial primary key, body text)")
        .await?;
    let meter = Meter::start(time);
    let clients: Vec<_> = (0..clients)
        .map(|_| tokio::spawn(postgres_client(url.to_owned(), meter.clone())))
        .collect();
    let mut all = meter;
    for client in clients {
        all.add(&client.await??);
    }
    Ok(all.rate())
}

async fn postgres_client(url: String, mut meter: Meter) -> Result<Meter> {
    let mut conn = PgConnection::connect(&url).await?;
    let body = "x".repeat(100);
    while meter.is_running() {
        let insert = sqlx::query("insert into bare (body) values ($1)").bind(&body);
        conn.execute(insert).await?;
        meter.count(Instant::now());
    }
    Ok(meter)
}

async fn redis_sets(url: &str, time: Duration) -> Result<f64> {
    let client = redis::Client::open(url)?;
    let mut conn = client.get_multiplexed_async_connection().await?;
    let body = "x".repeat(100);
    let mut meter = Meter::start(time);
    while meter.is_running() {
        redis::cmd("SET")
            .arg("bare")
            .arg(&body)
            .exec_async(&mut conn)
            .await?;
        meter.count(Instant::now());
    }
    Ok(meter.rate())
}
