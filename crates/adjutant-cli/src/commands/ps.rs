//! `agent ps`: the live instances of all runtimes of the project.

use std::time::Duration;

use adjutant::process::usage::InstanceView;

use crate::{
    context::Context,
    exit::Exit,
    failure::Result,
    project::RUN_DIR,
    socket::{self, Ask},
    units::{show_duration, show_size},
};

pub async fn run(context: &Context) -> Result<Exit> {
    let instances = live(context, Ask::List).await;
    if context.out.is_structured() {
        context.out.value(&instances)?;
        return Ok(Exit::Ok);
    }
    if instances.is_empty() {
        told_empty(context);
        return Ok(Exit::Ok);
    }
    let headings = [
        "INSTANCE",
        "AGENT",
        "RUN",
        "PID",
        "STATE",
        "ISOLATION",
        "UPTIME",
        "RSS",
        "CPU",
    ];
    context
        .out
        .table(&headings, instances.iter().map(row).collect())?;
    Ok(Exit::Ok)
}

/// The live instances of all runtimes of the project, by name.
pub async fn live(context: &Context, ask: Ask) -> Vec<InstanceView> {
    let dir = context.project.state_dir().join(RUN_DIR);
    let answers = socket::ask_all(&dir, &ask).await;
    let mut instances: Vec<InstanceView> = answers
        .into_iter()
        .flat_map(|answer| answer.instances)
        .collect();
    instances.sort_by(|a, b| (&a.instance, a.pid).cmp(&(&b.instance, b.pid)));
    instances
}

pub fn told_empty(context: &Context) {
    context.out.note(&format!(
        "no agent of this project is running; start one with {}",
        context.out.command("run PATH")
    ));
}

fn row(view: &InstanceView) -> Vec<String> {
    vec![
        view.instance.clone(),
        view.agent.clone(),
        runs(view),
        view.pid.to_string(),
        view.state.as_str().to_owned(),
        view.isolation.clone(),
        uptime(view),
        show_size(view.usage.now.rss_bytes),
        format!("{:.1}%", view.usage.now.cpu_percent),
    ]
}

/// The run, or how many there are.
pub fn runs(view: &InstanceView) -> String {
    match view.runs.as_slice() {
        [] => "-".to_owned(),
        [only] => only.clone(),
        several => format!("{} runs", several.len()),
    }
}

pub fn uptime(view: &InstanceView) -> String {
    show_duration(Duration::try_from_secs_f64(view.uptime_seconds).unwrap_or_default())
}
