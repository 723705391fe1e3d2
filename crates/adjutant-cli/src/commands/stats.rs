//! `agent stats`: what live instances use, now and before.

use std::time::Duration;

use adjutant::process::usage::{InstanceView, Sample};
use clap::Args;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, INSTANCE_NOT_FOUND, Result},
    interrupt::Interrupts,
    socket::Ask,
    units::{parse_duration, show_size},
};

use super::ps;

/// Samples of one instance that are shown.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
#[command(
    after_help = "CPU is told in percent of one core, and memory shared by processes counts for each of them."
)]
pub struct Stats {
    /// Only this instance, with what it used before
    instance: Option<String>,
    /// Look again and again, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    interval: Duration,
}

impl Stats {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        if !self.watch {
            self.look(context).await?;
            return Ok(Exit::Ok);
        }
        let mut interrupts = Interrupts::new()?;
        let mut ticks = tokio::time::interval(self.interval.max(Duration::from_millis(100)));
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look(context).await?,
                _ = interrupts.next() => return Ok(Exit::Ok),
            }
        }
    }

    async fn look(&self, context: &Context) -> Result<()> {
        let mut instances = ps::live(context, Ask::Stats).await;
        if let Some(name) = &self.instance {
            instances.retain(|view| view.instance == *name);
            if instances.is_empty() {
                return Err(unknown(name));
            }
        }
        if context.out.is_structured() {
            return match self.watch {
                true => context.out.json_line(&instances),
                false => context.out.value(&instances),
            };
        }
        if instances.is_empty() {
            ps::told_empty(context);
            return Ok(());
        }
        if self.instance.is_none() {
            return table(context, &instances);
        }
        instances.iter().try_for_each(|view| details(context, view))
    }
}

fn unknown(name: &str) -> Failure {
    Failure::usage(
        INSTANCE_NOT_FOUND,
        format!("no live instance has the name `{name}`"),
    )
    .hint("see the names of those that live with `agent ps`")
}

fn table(context: &Context, instances: &[InstanceView]) -> Result<()> {
    let has_gpu = instances
        .iter()
        .any(|view| view.usage.now.gpu_memory_bytes.is_some());
    let mut headings = vec![
        "INSTANCE",
        "RSS",
        "PEAK",
        "CPU",
        "FILES",
        "THREADS",
        "CHILDREN",
        "READ",
        "WRITTEN",
        "RUNS",
        "RUNS/MIN",
        "TOKENS/MIN",
    ];
    if has_gpu {
        headings.push("GPU");
    }
    let row = |view: &InstanceView| {
        let now = &view.usage.now;
        let mut row = vec![
            view.instance.clone(),
            show_size(now.rss_bytes),
            show_size(view.usage.peak_rss_bytes),
            percent(now),
            now.open_files.to_string(),
            now.threads.to_string(),
            now.children.to_string(),
            show_size(now.read_bytes),
            show_size(now.written_bytes),
            now.concurrent_requests.to_string(),
            now.requests_per_minute.to_string(),
            now.tokens_per_minute.to_string(),
        ];
        if has_gpu {
            row.push(now.gpu_memory_bytes.map_or_else(String::new, show_size));
        }
        row
    };
    context
        .out
        .table(&headings, instances.iter().map(row).collect())
}

fn details(context: &Context, view: &InstanceView) -> Result<()> {
    let (usage, now) = (&view.usage, &view.usage.now);
    let mut fields = vec![
        ("instance", view.instance.clone()),
        ("agent", view.agent.clone()),
        ("run", ps::runs(view)),
        ("pid", view.pid.to_string()),
        ("state", view.state.as_str().to_owned()),
        ("isolation", view.isolation.clone()),
        ("uptime", ps::uptime(view)),
        (
            "memory",
            format!(
                "{} resident, {} at most",
                show_size(now.rss_bytes),
                show_size(usage.peak_rss_bytes)
            ),
        ),
        (
            "processor",
            format!(
                "{} of a core, {:.1}s in all",
                percent(now),
                usage.cpu_seconds
            ),
        ),
        (
            "processes",
            format!(
                "{} besides the first, {} threads, {} open files",
                now.children, now.threads, now.open_files
            ),
        ),
        (
            "storage",
            format!(
                "{} read, {} written",
                show_size(now.read_bytes),
                show_size(now.written_bytes)
            ),
        ),
        (
            "runs",
            format!(
                "{} under way, {} in the last minute, {} in all",
                now.concurrent_requests, now.requests_per_minute, usage.requests
            ),
        ),
        (
            "tokens",
            format!(
                "{} in the last minute, {} in all",
                now.tokens_per_minute, usage.tokens
            ),
        ),
    ];
    if let Some(bytes) = now.gpu_memory_bytes {
        fields.push(("gpu memory", show_size(bytes)));
    }
    context.out.fields(&fields)?;
    context.out.line("")?;
    let skipped = view.history.len().saturating_sub(SHOWN);
    let rows = view.history.iter().skip(skipped).map(sample);
    let headings = ["TIME", "RSS", "CPU", "FILES", "THREADS", "RUNS"];
    context.out.table(&headings, rows.collect())
}

fn sample(sample: &Sample) -> Vec<String> {
    let time = sample.at.to_string();
    vec![
        format!("{}Z", time.get(..19).unwrap_or(&time)),
        show_size(sample.rss_bytes),
        percent(sample),
        sample.open_files.to_string(),
        sample.threads.to_string(),
        sample.concurrent_requests.to_string(),
    ]
}

fn percent(sample: &Sample) -> String {
    format!("{:.1}%", sample.cpu_percent)
}
