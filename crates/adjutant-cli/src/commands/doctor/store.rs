//! What the doctor finds out about the store.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use adjutant::{
    RunState, Store,
    core::Timestamp,
    queue::PrunePolicy,
    store::{CheckReport, StoreInfo},
};

use crate::{context::Context, units::show_duration};

use super::{Finding, Verdict, problem};

/// Engines call their look at a server's settings this.
const SETTINGS: &str = "settings";
/// A store that takes longer to count its runs keeps its users waiting.
const SLOW: Duration = Duration::from_secs(1);

/// Looks at the store from all sides.
pub async fn look(context: &Context) -> Vec<Finding> {
    let database = context.database();
    if let Some(path) = database.as_ref().filter(|path| !path.exists()) {
        let found = format!("none yet at {}", context.project.short(path));
        return vec![
            Finding::new("store", Verdict::Note, found)
                .advice("the first `agent run PATH` makes it"),
            Finding::new("engine", Verdict::Ok, "sqlite is in this build"),
        ];
    }
    let started = Instant::now();
    let store = match context.store().await {
        Ok(store) => store,
        Err(failure) => return vec![problem("store", &failure)],
    };
    let opened = started.elapsed();
    let info = store.info();
    let server = context.config.has_server();
    let mut findings = vec![place(&info, server.then_some(opened))];
    let report = store.check().await;
    findings.push(durability(context, &info, report.as_ref().ok()));
    match report {
        Ok(report) => findings.extend(integrity(&info, report)),
        Err(error) => findings.push(problem("integrity", &error.into())),
    }
    if server {
        findings.push(rights(&*store).await);
    }
    findings.push(queue(&*store).await);
    if let Some(path) = &database {
        findings.push(writable(path));
    }
    store.close().await;
    findings
}

/// Where it is, and for a server, how long it took to get there.
fn place(info: &StoreInfo, opened: Option<Duration>) -> Finding {
    let schema = info
        .schema
        .map(|schema| format!(", schema {schema}"))
        .unwrap_or_default();
    let opened = opened
        .map(|time| format!(", opened in {}", show_duration(time)))
        .unwrap_or_default();
    let found = format!("{} at {}{schema}{opened}", info.engine, info.location);
    Finding::new("store", Verdict::Ok, found)
}

/// What an acknowledged write survives.
fn durability(context: &Context, info: &StoreInfo, report: Option<&CheckReport>) -> Finding {
    let found = format!("acknowledged writes survive {}", info.durability);
    let finding = |verdict| Finding::new("durability", verdict, found);
    let settings =
        report.and_then(|report| report.checks.iter().find(|(name, _)| name == SETTINGS));
    match info.engine {
        "memory" => finding(Verdict::Note)
            .advice("keep runs in a file: leave --store out, or use sqlite:PATH"),
        "sqlite" if context.config.text("store.synchronous") != "full" => finding(Verdict::Note).advice(
            "`store.synchronous: full` in adjutant.yaml makes acknowledged writes survive a power cut",
        ),
        // The settings' own finding tells what to do.
        _ if settings.is_some_and(|(_, problem)| problem.is_some()) => finding(Verdict::Note),
        _ => finding(Verdict::Ok),
    }
}

fn integrity(info: &StoreInfo, report: CheckReport) -> Vec<Finding> {
    let findings = report.checks.into_iter().map(|(name, problem)| {
        let (check, advice) = match &*name {
            SETTINGS => ("settings".to_owned(), settings_advice(info.engine)),
            _ => (format!("integrity: {name}"), backup_advice(info.engine)),
        };
        match problem {
            None => Finding::new(&check, Verdict::Ok, "sound"),
            Some(problem) => Finding::new(&check, Verdict::Problem, problem).advice(advice),
        }
    });
    findings.collect()
}

fn settings_advice(engine: &str) -> &'static str {
    match engine {
        "postgres" => {
            "as the server's superuser: ALTER SYSTEM SET <setting> = on; then SELECT pg_reload_conf()"
        }
        "redis" => {
            "in redis.conf, or with CONFIG SET: appendonly yes, appendfsync always (or everysec, which may lose \
             the last second), maxmemory-policy noeviction"
        }
        _ => "see docs/guide/stores.md",
    }
}

fn backup_advice(engine: &str) -> &'static str {
    match engine {
        "postgres" => "restore the database from a dump (pg_restore) or a base backup",
        "redis" => "put a copy of the server's RDB or AOF files back",
        _ => "put a backup back: agent restore FILE --force",
    }
}

/// Whether this user may write. What is forgotten here is what ended before there was a store: nothing.
async fn rights(store: &dyn Store) -> Finding {
    let nothing = PrunePolicy {
        finished_before: Timestamp::from_micros(0),
        limit: 1,
    };
    match store.prune(nothing).await {
        Ok(_) => Finding::new("rights", Verdict::Ok, "this user may read and write"),
        Err(error) => problem("rights", &error.into()),
    }
}

async fn queue(store: &dyn Store) -> Finding {
    let asked = Instant::now();
    match store.stats().await {
        Err(error) => problem("queue", &error.into()),
        Ok(stats) => {
            let total: u64 = stats.by_state.values().sum();
            let parked = stats
                .by_state
                .get(&RunState::Parked)
                .copied()
                .unwrap_or_default();
            let found = format!(
                "{total} runs: {} ready, {} delayed, {} blocked, {parked} parked",
                stats.ready, stats.delayed, stats.blocked
            );
            let took = asked.elapsed();
            if took > SLOW {
                let found = format!("{found}; counted in {}", show_duration(took));
                return Finding::new("queue", Verdict::Note, found).advice(
                    "the store answers slowly: look at its load, its disk, and the way to it",
                );
            }
            if parked == 0 {
                return Finding::new("queue", Verdict::Ok, found);
            }
            Finding::new("queue", Verdict::Note, found)
                .advice("see them with: agent runs list --state parked; put one back with: agent runs redrive RUN")
        }
    }
}

fn writable(database: &Path) -> Finding {
    let folder = database.parent().unwrap_or(Path::new("."));
    for (what, path) in [("file", database), ("folder", folder)] {
        if rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_err() {
            return Finding::new(
                "writable",
                Verdict::Problem,
                format!("the {what} {} cannot be written", path.display()),
            )
            .advice(format!("chmod u+w {}", path.display()));
        }
    }
    Finding::new("writable", Verdict::Ok, "file and folder")
}
