//! `agent doctor`: whether everything that agents need is there and in order.

mod processes;
mod store;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{
    config::Origin,
    context::Context,
    drive,
    exit::Exit,
    failure::{Failure, Result},
    output::Paint,
    units::show_size,
    workers::{self, Life},
};

/// Less free space than this is about to be a problem.
const LITTLE_SPACE: u64 = 200 << 20;
/// Clocks that are off by more have other troubles than ours; this is when this program was written.
const NOT_BEFORE: Duration = Duration::from_secs(1_760_000_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Works, but somebody may want to know.
    Note,
    Problem,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    /// The same for programs to read, where there is more to it than a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<serde_json::Value>,
}

impl Finding {
    fn new(check: &str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            verdict,
            found: found.into(),
            advice: None,
            details: None,
        }
    }

    fn advice(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }

    fn details(self, details: serde_json::Value) -> Self {
        Self {
            details: Some(details),
            ..self
        }
    }
}

pub async fn run(context: &Context) -> Result<Exit> {
    let mut findings = vec![configuration(context)];
    findings.extend(store::look(context).await);
    findings.extend(secret(context));
    findings.extend(workers(context));
    findings.extend(space(context));
    findings.extend(processes::look());
    findings.extend(programs());
    findings.extend(system());
    for finding in &mut findings {
        let advice = finding.advice.take();
        finding.advice = advice.map(|advice| context.out.advice(&advice));
    }
    let sound = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Problem);
    if context.out.is_structured() {
        context
            .out
            .value(&serde_json::json!({ "sound": sound, "checks": findings }))?;
    } else {
        table(context, &findings)?;
    }
    Ok(if sound { Exit::Ok } else { Exit::Failed })
}

fn table(context: &Context, findings: &[Finding]) -> Result<()> {
    let width = findings
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or_default();
    for finding in findings {
        let sign = match finding.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Note => "note   ",
            Verdict::Problem => "PROBLEM",
        };
        context
            .out
            .line(format!("{sign}  {:width$}  {}", finding.check, finding.found).trim_end())?;
        if let Some(advice) = &finding.advice {
            context
                .out
                .line(&format!("{:7}  {:width$}  -> {advice}", "", ""))?;
        }
    }
    let problems = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Problem)
        .count();
    match problems {
        0 => context.out.note(
            &context
                .out
                .paint(Paint::Green, "everything that was looked at is in order"),
        ),
        1 => context.out.note("1 problem"),
        many => context.out.note(&format!("{many} problems")),
    }
    Ok(())
}

fn configuration(context: &Context) -> Finding {
    let file = context.config.file.as_ref();
    let found = file.map_or_else(
        || "defaults, no file".to_owned(),
        |file| context.project.short(file),
    );
    Finding::new("configuration", Verdict::Ok, found)
}

/// A password that others can read.
fn secret(context: &Context) -> Option<Finding> {
    let typed = matches!(context.config.origin("store.url"), Origin::Flag(_));
    (typed && adjutant::has_password(context.config.text("store.url"))).then(|| {
        let found = "it stands on the command line, where every user of this machine can read it";
        Finding::new("password", Verdict::Note, found).advice(
            "keep it in a file that `store.password_file` names, or the whole URL in the variable ADJUTANT_STORE",
        )
    })
}

fn workers(context: &Context) -> Vec<Finding> {
    let Some(folder) = drive::notes_folder(context) else {
        return Vec::new();
    };
    let notes = workers::notes(&folder);
    let alive = notes
        .iter()
        .filter(|note| note.life() == Life::Alive)
        .count();
    let dead = notes
        .iter()
        .filter(|note| note.life() == Life::Dead)
        .count();
    vec![Finding::new(
        "workers",
        Verdict::Ok,
        format!("{alive} alive on this machine, {dead} dead"),
    )]
}

fn space(context: &Context) -> Option<Finding> {
    let database = context.database()?;
    let folder = database
        .ancestors()
        .skip(1)
        .find(|folder| folder.exists())?;
    let stat = rustix::fs::statvfs(folder).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{} free at {}", show_size(free), folder.display());
    if free < LITTLE_SPACE {
        return Some(
            Finding::new("disk", Verdict::Problem, found).advice(
                "free some space; `agent runs prune --older-than 30d` forgets finished runs",
            ),
        );
    }
    Some(Finding::new("disk", Verdict::Ok, found))
}

/// Programs that agents are commonly written for. Only those of the machine's PATH, as agents see it.
fn programs() -> Vec<Finding> {
    [
        ("python3", "needed for agents in Python"),
        ("cargo", "needed to build agents in Rust"),
    ]
    .into_iter()
    .map(|(program, why)| {
        let Some(path) = in_path(program) else {
            return Finding::new(program, Verdict::Note, format!("not found; {why}"))
                .advice(format!("install {program} if you want such agents"));
        };
        let version = Command::new(&path)
            .arg("--version")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()
            .filter(|output| output.status.success())
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        match version {
            Some(version) => Finding::new(program, Verdict::Ok, version),
            None => Finding::new(
                program,
                Verdict::Note,
                format!("{} does not run; {why}", path.display()),
            ),
        }
    })
    .collect()
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn system() -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") {
        let cgroup = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            "cgroup v2"
        } else {
            "no cgroup v2"
        };
        findings.push(Finding::new(
            "kernel",
            Verdict::Ok,
            format!("{}, {cgroup}", release.trim()),
        ));
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let shown = crate::recovery::now().to_string();
    findings.push(if now < NOT_BEFORE {
        Finding::new("clock", Verdict::Problem, shown)
            .advice("set the clock: leases and timers go by it")
    } else {
        Finding::new("clock", Verdict::Ok, shown)
    });
    findings
}

fn problem(check: &str, failure: &Failure) -> Finding {
    let mut found = failure.message.clone();
    for cause in &failure.causes {
        found.push_str(": ");
        found.push_str(cause);
    }
    let finding = Finding::new(check, Verdict::Problem, found);
    // Who is told to ask the doctor has done so.
    match &failure.hint {
        Some(hint) if !hint.contains("agent doctor") => finding.advice(hint.clone()),
        _ => finding,
    }
}
