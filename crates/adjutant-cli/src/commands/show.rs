//! How runs, steps and checkpoints are shown.

use adjutant::{
    core::{ErrorInfo, Outcome, RunId, RunResult, StepOutcome, StepRecord, Usage},
    queue::{RunRecord, RunView, Wait, WakeOn},
    state::Checkpoint,
};

use crate::{
    context::Context,
    drive::Ended,
    exit::Exit,
    failure::Result,
    output::Paint,
    parked, recovery,
    units::{show_duration, show_size},
    view::{RunJson, clip, readable},
};

/// Shows how work on a run went: the result on stdout, the rest on stderr.
pub fn ended(context: &Context, run: RunId, ended: Ended) -> Result<Exit> {
    match ended {
        Ended::Settled(view) | Ended::Left(view) => outcome(context, &view),
        Ended::Interrupted => {
            context.out.tell(&format!(
                "{run} has not ended; go on with the same command, or: {}",
                context.out.command(&format!("runs resume {run}"))
            ));
            Ok(Exit::Interrupted)
        }
    }
}

/// Shows how a run stands, and what the process ends with.
pub fn outcome(context: &Context, view: &RunView) -> Result<Exit> {
    let out = &context.out;
    if out.is_structured() {
        out.value(&RunJson::whole(view))?;
    }
    let run = &view.run;
    let took = run
        .finished_at
        .map(|end| end.since(run.created_at))
        .unwrap_or_default();
    let took = show_duration(took);
    match &view.outcome {
        Some(Outcome::Succeeded(result)) => {
            let used = used(&result.usage);
            let used = used.map_or(String::new(), |used| format!(" with {used}"));
            out.note(&format!(
                "{} in {took}{}",
                out.paint(Paint::Green, "succeeded"),
                out.paint(Paint::Dim, &used)
            ));
            if !out.is_structured() {
                result_text(context, result)?;
            }
        }
        Some(Outcome::Failed { error }) => failed(context, view, error, &took),
        Some(Outcome::Cancelled { reason }) => {
            out.tell(&format!(
                "{} after {took}: {reason}",
                out.paint(Paint::Yellow, "cancelled")
            ));
        }
        Some(Outcome::TimedOut { timeout_seconds }) => {
            out.tell(&format!(
                "{} after {timeout_seconds} s of its own time",
                out.paint(Paint::Red, "timed out")
            ));
            out.tell("hint: give it more time with --timeout, or `timeout` in its agent.yaml");
        }
        None => standing(context, run),
    }
    Ok(Exit::of(run.state))
}

fn result_text(context: &Context, result: &RunResult) -> Result<()> {
    if !result.final_output.is_null() {
        let text = readable(&result.final_output);
        return context.out.line(text.trim_end_matches('\n'));
    }
    if let Some(message) = result.final_messages.last() {
        return context.out.line(&message.text());
    }
    Ok(())
}

fn failed(context: &Context, view: &RunView, error: &ErrorInfo, took: &str) {
    let out = &context.out;
    let label = out.paint(Paint::Red, "failed");
    let attempts = match view.run.attempt {
        1 => String::new(),
        many => format!(" and {many} attempts"),
    };
    out.tell(&format!(
        "{label} after {took}{attempts}: {}: {}",
        error.kind,
        error.message.trim_end()
    ));
    if !error.stack.is_empty() {
        out.note(&out.paint(Paint::Dim, error.stack.trim_end()));
    }
    let run = view.run.id;
    out.note(&format!(
        "hint: what happened: {}; once more: {}",
        out.command(&format!("runs events {run}")),
        out.command(&format!("runs retry {run}"))
    ));
}

fn standing(context: &Context, run: &RunRecord) {
    let out = &context.out;
    let id = run.id;
    let (what, next) = match run.state {
        adjutant::RunState::Parked => (
            format!(
                "parked: {}",
                run.reason
                    .as_deref()
                    .unwrap_or("its workers died too often")
            ),
            format!("once the cause is gone: agent runs redrive {id}"),
        ),
        adjutant::RunState::Paused => (
            "paused".to_owned(),
            format!("go on with: agent runs resume {id}"),
        ),
        adjutant::RunState::InputRequired => (
            "waits for an answer".to_owned(),
            format!("answer with: agent runs approve {id} (or deny), then: agent runs resume {id}"),
        ),
        state => (
            format!("{state}, has not ended"),
            format!("wait for it with: agent runs wait {id}"),
        ),
    };
    out.tell(&format!(
        "{} {what}",
        out.paint(Paint::Yellow, &id.to_string())
    ));
    out.tell(&format!("hint: {}", out.advice(&next)));
}

/// All there is to say of one run.
pub fn run(context: &Context, view: &RunView, parked_below: &[RunRecord]) -> Result<()> {
    if context.out.is_structured() {
        let mut shown = RunJson::whole(view);
        shown.parked_below = parked_below.iter().map(|run| run.id).collect();
        return context.out.value(&shown);
    }
    let run = &view.run;
    let now = recovery::now();
    let mut fields = vec![
        ("run", run.id.to_string()),
        ("agent", run.agent.to_string()),
        ("state", state(run)),
        (
            "attempt",
            format!("{} of {}", run.attempt, run.retry.max_attempts),
        ),
        (
            "created",
            format!(
                "{} ({} ago)",
                run.created_at,
                show_duration(now.since(run.created_at))
            ),
        ),
    ];
    let mut add = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
    add("started", run.started_at.map(|at| at.to_string()));
    add(
        "finished",
        run.finished_at
            .map(|at| format!("{at} (took {})", show_duration(at.since(run.created_at)))),
    );
    add("not before", run.not_before.map(|at| at.to_string()));
    add("waits", run.wait.as_ref().map(waits));
    for parked in parked_below {
        add("", Some(parked::describe(context, parked)));
    }
    add(
        "worker",
        run.held
            .map(|held| format!("{} until {}", held.worker, held.expires_at)),
    );
    add(
        "cancel",
        run.cancel
            .as_ref()
            .map(|reason| format!("asked for: {reason}")),
    );
    add(
        "parent",
        run.parent.as_ref().map(|parent| parent.run.to_string()),
    );
    add(
        "origin",
        run.origin.as_ref().map(|origin| match origin {
            adjutant::queue::Origin::RetryOf(run) => format!("retry of {run}"),
            adjutant::queue::Origin::ForkOf(run) => format!("fork of {run}"),
        }),
    );
    add("key", run.idempotency_key.clone());
    add(
        "deaths",
        (run.deaths > 0).then(|| format!("{} of {}", run.deaths, run.max_deaths)),
    );
    add(
        "recorded",
        Some(format!(
            "{} steps, {} events, checkpoint {}",
            run.steps, run.last_seq, run.checkpoint
        )),
    );
    add(
        "signals",
        (run.unread_signals > 0).then(|| format!("{} unread", run.unread_signals)),
    );
    add("input", Some(clip(view.payload.input.as_str(), 400)));
    add("metadata", Some(clip(view.payload.metadata.as_str(), 400)));
    add(
        "error",
        run.error
            .as_ref()
            .map(|error| clip(&error.to_string(), 400)),
    );
    if let Some(Outcome::Succeeded(result)) = &view.outcome {
        add("used", used(&result.usage));
        add("output", Some(readable(&result.final_output)));
    }
    context.out.fields(&fields)
}

/// What models and tools of a run took, if they took anything.
fn used(usage: &Usage) -> Option<String> {
    let mut parts = Vec::new();
    if usage.model_calls > 0 {
        let (input, output) = (usage.input_tokens, usage.output_tokens);
        let calls = count(usage.model_calls, "model call");
        parts.push(format!("{calls} ({input} tokens in, {output} out)"));
    }
    if usage.tool_calls > 0 {
        parts.push(count(usage.tool_calls, "tool call"));
    }
    parts.extend(usage.cost_usd.map(|cost| format!("${cost:.4}")));
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn state(run: &RunRecord) -> String {
    match &run.reason {
        Some(reason) => format!("{} ({reason})", run.state),
        None => run.state.to_string(),
    }
}

/// Why it stands where it stands; a running run without a live lease runs no more.
fn reason(run: &RunRecord) -> &str {
    let is_silent = run
        .held
        .is_some_and(|held| held.expires_at < recovery::now());
    if is_silent {
        "its worker is silent"
    } else {
        run.reason.as_deref().unwrap_or_default()
    }
}

fn waits(wait: &Wait) -> String {
    let parts = wait.wake_on.iter().map(|on| match on {
        WakeOn::At(at) => format!("until {at}"),
        WakeOn::Signal(name) => format!("for signal {name}"),
        WakeOn::Group { key, .. } => format!("for child runs ({key})"),
    });
    parts.collect::<Vec<_>>().join(", or ")
}

/// Runs below each other.
pub fn runs(context: &Context, runs: &[RunRecord]) -> Result<()> {
    if context.out.is_structured() {
        let list: Vec<RunJson<'_>> = runs.iter().map(RunJson::record).collect();
        return context.out.value(&list);
    }
    if runs.is_empty() {
        context.out.note("no runs");
        return Ok(());
    }
    let now = recovery::now();
    let rows = runs.iter().map(|run| {
        let took = match (run.started_at, run.finished_at) {
            (Some(start), Some(end)) => show_duration(end.since(start)),
            (Some(start), None) => show_duration(now.since(start)),
            _ => "-".to_owned(),
        };
        vec![
            run.id.to_string(),
            run.agent.to_string(),
            run.state.to_string(),
            run.attempt.to_string(),
            run.steps.to_string(),
            show_duration(now.since(run.created_at)),
            took,
            clip(reason(run), 40),
        ]
    });
    context.out.table(
        &[
            "RUN", "AGENT", "STATE", "ATTEMPT", "STEPS", "AGE", "TOOK", "REASON",
        ],
        rows.collect(),
    )
}

/// A journal.
pub fn steps(context: &Context, journal: &[StepRecord]) -> Result<()> {
    if context.out.is_structured() {
        return context.out.value(&journal);
    }
    if journal.is_empty() {
        context.out.note("no steps are recorded");
        return Ok(());
    }
    let rows = journal.iter().map(|step| {
        let (state, result) = match &step.outcome {
            StepOutcome::Started { memo } => ("started", memo.as_str().to_owned()),
            StepOutcome::Completed { result } => ("completed", result.as_str().to_owned()),
            StepOutcome::Failed { error } => ("failed", error.to_string()),
        };
        vec![
            clip(&step.key, 40),
            step.kind.as_str().to_owned(),
            state.to_owned(),
            step.attempts.to_string(),
            show_duration(step.recorded_at.since(step.started_at)),
            clip(&result, 60),
        ]
    });
    context.out.table(
        &["STEP", "KIND", "STATE", "TRIES", "TOOK", "RESULT"],
        rows.collect(),
    )
}

/// Saved states, newest first.
pub fn checkpoints(context: &Context, checkpoints: &[Checkpoint]) -> Result<()> {
    if context.out.is_structured() {
        return context.out.value(&checkpoints);
    }
    if checkpoints.is_empty() {
        context.out.note("no checkpoints are kept");
        return Ok(());
    }
    let rows = checkpoints.iter().map(|checkpoint| {
        vec![
            checkpoint.seq.to_string(),
            checkpoint.saved_at.to_string(),
            show_size(checkpoint.state.len() as u64),
            clip(checkpoint.state.as_str(), 60),
        ]
    });
    context
        .out
        .table(&["NUMBER", "SAVED", "SIZE", "STATE"], rows.collect())
}
