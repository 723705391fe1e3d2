//! From what a person types to a run: the whole id, a unique part of it, or `last`.

use adjutant::{
    Store,
    core::{RunId, RunState},
    queue::{RunFilter, RunRecord},
};

use crate::failure::{Failure, RUN_ID_AMBIGUOUS, RUN_NOT_FOUND, Result};

/// Shorter parts match by accident.
const SHORTEST_PART: usize = 6;
/// Runs among which a part is looked for, newest first.
const SEARCHED: usize = 10_000;
/// Runs asked for at once.
const PAGE: usize = 500;
/// Matches that are listed.
const LISTED: usize = 5;

/// Finds the run that `text` names.
pub async fn resolve(store: &dyn Store, text: &str) -> Result<RunId> {
    if text == "last" {
        let filter = RunFilter {
            limit: 1,
            ..RunFilter::default()
        };
        let newest = store.list(filter).await?.into_iter().next();
        return newest.map(|run| run.id).ok_or_else(|| {
            Failure::usage(RUN_NOT_FOUND, "there are no runs in this store")
                .hint("start one with `agent run PATH`")
        });
    }
    if let Ok(run) = text.parse::<RunId>() {
        return match store.get(run).await? {
            Some(_) => Ok(run),
            None => Err(adjutant::Error::RunNotFound(run).into()),
        };
    }
    let part = text
        .strip_prefix("run_")
        .unwrap_or(text)
        .to_ascii_lowercase();
    if part.len() < SHORTEST_PART || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let message = format!("`{text}` is no run id");
        return Err(Failure::usage(RUN_NOT_FOUND, message).hint(format!(
            "give a whole id (run_…), its first or last {SHORTEST_PART} or more digits, or `last`; see `agent runs list`"
        )));
    }
    only(text, &find(store, &part).await?)
}

async fn find(store: &dyn Store, part: &str) -> Result<Vec<RunRecord>> {
    let mut matches = Vec::new();
    let mut before = None;
    for _ in 0..SEARCHED / PAGE {
        let filter = RunFilter {
            before,
            limit: PAGE,
            ..RunFilter::default()
        };
        let page = store.list(filter).await?;
        let is_last = page.len() < PAGE;
        before = page.last().map(|run| run.id);
        matches.extend(page.into_iter().filter(|run| is_part(part, run.id)));
        if is_last {
            break;
        }
    }
    Ok(matches)
}

fn is_part(part: &str, run: RunId) -> bool {
    let id = run.to_string();
    let hex = id.strip_prefix("run_").unwrap_or(&id);
    hex.starts_with(part) || hex.ends_with(part)
}

fn only(text: &str, matches: &[RunRecord]) -> Result<RunId> {
    match matches {
        [run] => Ok(run.id),
        [] => {
            let message = format!("no run's id begins or ends with `{text}`");
            Err(Failure::usage(RUN_NOT_FOUND, message).hint("see `agent runs list`"))
        }
        several => {
            let listed: Vec<String> = several.iter().take(LISTED).map(describe).collect();
            let more = several.len().saturating_sub(LISTED);
            let more = if more > 0 {
                format!(", and {more} more")
            } else {
                String::new()
            };
            let message = format!("`{text}` fits {} runs", several.len());
            Err(Failure::usage(RUN_ID_AMBIGUOUS, message)
                .because(format!("{}{more}", listed.join(", ")))
                .hint("give more digits; ids made close together differ at their end"))
        }
    }
}

fn describe(run: &RunRecord) -> String {
    let state: RunState = run.state;
    format!("{} ({}, {state})", run.id, run.agent)
}
