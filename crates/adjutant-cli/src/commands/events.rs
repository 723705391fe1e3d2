//! Events on stdout: those of a run, and the list of all types.

use std::sync::Arc;

use adjutant::{
    Store,
    core::{Event, EventType, RunId, RunState, Visibility},
};
use clap::Subcommand;

use crate::{
    context::Context,
    exit::Exit,
    failure::Result,
    interrupt::Interrupts,
    output::Format,
    parked::{self, Lookout},
    tail::Tail,
    view::clip,
};

#[derive(Debug, Subcommand)]
pub enum EventTypes {
    /// List the event types that the runtime knows
    Types,
}

impl EventTypes {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let Self::Types = self;
        let types = EventType::KNOWN;
        if context.out.is_structured() {
            let list: Vec<_> = types
                .iter()
                .map(|kind| serde_json::json!({ "type": kind, "visibility": kind.visibility() }))
                .collect();
            context.out.value(&list)?;
            return Ok(Exit::Ok);
        }
        let rows = types
            .iter()
            .map(|kind| vec![kind.to_string(), visibility(kind.visibility()).to_owned()]);
        context.out.table(&["TYPE", "VISIBILITY"], rows.collect())?;
        context
            .out
            .note("agents may add types of their own; what each carries: docs/reference/events.md");
        Ok(Exit::Ok)
    }
}

/// Which events to print.
pub struct Filter {
    pub types: Vec<String>,
    pub at_least: Visibility,
}

impl Filter {
    fn takes(&self, event: &Event) -> bool {
        let named = self
            .types
            .iter()
            .any(|name| name == event.event_type.as_str());
        // Who asks for a type by name wants it, whoever it is meant for.
        named || (self.types.is_empty() && event.visibility >= self.at_least)
    }
}

/// Prints a run's events; following ends with the run, or when the user has seen enough.
pub async fn print(
    context: &Context,
    store: Arc<dyn Store>,
    run: RunId,
    after: u64,
    filter: &Filter,
    follow: bool,
) -> Result<Exit> {
    let mut tail = Tail::new(Arc::clone(&store), run, after);
    let mut has_ended = false;
    loop {
        let events = tail.now().await?;
        for event in &events {
            has_ended |= event.event_type.is_terminal();
            if filter.takes(event) {
                line(context, event)?;
            }
        }
        if events.is_empty() {
            break;
        }
    }
    if !follow || has_ended || stands_still(context, &store, run).await? {
        return Ok(Exit::Ok);
    }
    let mut interrupts = Interrupts::new()?;
    let mut lookout = Lookout::default();
    let mut look = tokio::time::interval(parked::LOOK);
    loop {
        let events = tokio::select! {
            events = tail.next() => events?,
            _ = interrupts.next() => {
                let after = tail.after;
                let again = format!("runs events {run} --follow --after {after}");
                context.out.note(&format!("go on with: {}", context.out.command(&again)));
                return Ok(Exit::Interrupted);
            }
            _ = look.tick() => {
                lookout.look(context, &*store, run).await?;
                continue;
            }
        };
        let mut is_over = false;
        for event in &events {
            if filter.takes(event) {
                line(context, event)?;
            }
            is_over |= event.event_type.is_terminal();
        }
        let was_parked = events
            .iter()
            .any(|event| event.event_type == EventType::RunParked);
        if is_over || (was_parked && stands_still(context, &store, run).await?) {
            return Ok(Exit::Ok);
        }
    }
}

/// Whether there is nothing to follow: it has ended, or is parked, which is told.
async fn stands_still(context: &Context, store: &Arc<dyn Store>, run: RunId) -> Result<bool> {
    let view = store
        .get(run)
        .await?
        .ok_or(adjutant::Error::RunNotFound(run))?;
    if view.run.state == RunState::Parked {
        context.out.tell(&parked::describe(context, &view.run));
    }
    Ok(view.run.state.is_settled())
}

fn line(context: &Context, event: &Event) -> Result<()> {
    if context.out.format != Format::Table {
        return context.out.json_line(event);
    }
    let time = event.timestamp.to_string();
    let time = time.get(..23).unwrap_or(&time);
    let payload = if event.payload.is_null() {
        ""
    } else {
        event.payload.as_str()
    };
    let kind = event.event_type.to_string();
    context.out.line(
        format!(
            "{:>5}  {time}Z  {kind:<20}  {}",
            event.seq,
            clip(payload, 200)
        )
        .trim_end(),
    )
}

const fn visibility(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Internal => "internal",
        Visibility::Debug => "debug",
        Visibility::User => "user",
    }
}
