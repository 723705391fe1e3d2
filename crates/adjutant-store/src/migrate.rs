//! Moving runs from one store to another while workers and clients still use the first one.
//!
//! A family of runs moves as a whole: it is paused, copied, cancelled at its old place, and resumed at the new
//! one. Each step can be done again, so a migration that dies is gone on with by starting it again. At no moment
//! could a run be claimed in both places.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use adjutant_core::{Error, EventType, Json, NewEvent, Result, RunId, RunState};
use adjutant_queue::{Command, RunFilter, RunRecord};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::time::Instant;

use crate::{Package, Store};

/// Runs read at a time.
const PAGE: usize = 500;

/// Families moved at a time.
const AT_ONCE: usize = 16;

/// Times the whole store is looked through, while there are new runs each time.
const PASSES: usize = 100;

/// How often to look at runs that are still busy, if nothing tells of them.
const LOOK: Duration = Duration::from_millis(500);

/// The event that says why a run was paused.
const MARK: &str = "run.moving";

/// A move of all runs.
#[derive(Clone)]
pub struct Migration {
    /// Where they are.
    pub from: Arc<dyn Store>,
    /// Where they go.
    pub to: Arc<dyn Store>,
    /// Whether finished runs are copied, too. They stay at their old place.
    pub finished: bool,
    /// How long to wait for an agent that is busy with a step.
    pub patience: Duration,
}

/// How far a migration is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// Runs that go on at the new place.
    pub moved: u64,
    /// Finished runs that were copied.
    pub copied: u64,
    /// Runs that are not at the new place, each with the reason.
    pub left: Vec<(RunId, String)>,
}

impl Migrated {
    fn add(&mut self, family: Family) {
        self.moved += family.moved;
        self.copied += family.copied;
        self.left.extend(family.left);
    }
}

/// What became of one family.
#[derive(Default)]
struct Family {
    moved: u64,
    copied: u64,
    left: Option<(RunId, String)>,
}

impl fmt::Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration")
            .field("from", &self.from.info().location)
            .field("to", &self.to.info().location)
            .finish_non_exhaustive()
    }
}

impl Migration {
    /// Moves all runs, and tells `progress` after each page of them.
    ///
    /// # Errors
    /// When a store cannot be read or written. What has moved by then has moved; start again for the rest.
    pub async fn run(&self, progress: &(dyn Fn(&Migrated) + Sync)) -> Result<Migrated> {
        let mut total = Migrated::default();
        for _ in 0..PASSES {
            total.left.clear();
            let before = (total.moved, total.copied);
            self.pass(&mut total, progress).await?;
            // Others may have submitted runs meanwhile.
            if (total.moved, total.copied) == before {
                break;
            }
        }
        Ok(total)
    }

    async fn pass(
        &self,
        total: &mut Migrated,
        progress: &(dyn Fn(&Migrated) + Sync),
    ) -> Result<()> {
        let mut filter = RunFilter {
            limit: PAGE,
            ..RunFilter::default()
        };
        loop {
            let page = self.from.list(filter.clone()).await?;
            filter.before = page.last().map(|run| run.id);
            let is_last = page.len() < PAGE;
            let families = stream::iter(page).map(|run| self.family_of(run));
            let mut families = families.buffer_unordered(AT_ONCE);
            while let Some(family) = families.try_next().await? {
                total.add(family);
            }
            progress(total);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Moves the family that begins with this run. One that has a parent goes with it.
    async fn family_of(&self, run: RunRecord) -> Result<Family> {
        if let Some(parent) = &run.parent
            && self.from.get(parent.run).await?.is_some()
        {
            return Ok(Family::default());
        }
        let has_ended = run.state.is_terminal() && run.children == 0;
        if has_ended && !self.finished && !self.was_moved(&run) {
            return Ok(Family::default());
        }
        match self.move_family(run.id).await {
            // About this family; others may fare better.
            Err(
                error @ (Error::Conflict { .. } | Error::LeaseLost { .. } | Error::Invalid { .. }),
            ) => Ok(Family {
                left: Some((run.id, error.to_string())),
                ..Family::default()
            }),
            other => other,
        }
    }

    async fn move_family(&self, root: RunId) -> Result<Family> {
        let members = match self.to_rest(root).await? {
            Ok(members) => members,
            Err(busy) => {
                let why = format!("still busy with a step after {:?}", self.patience);
                let left = Some((busy, why));
                return Ok(Family {
                    left,
                    ..Family::default()
                });
            }
        };
        if members.iter().any(|run| self.was_moved(run)) {
            self.finish(&members).await?;
            return Ok(Family::default());
        }
        let live: Vec<&RunRecord> = live(&members).collect();
        if live.is_empty() && !self.finished {
            return Ok(Family::default());
        }
        let copied = match self.copy(&members, !live.is_empty()).await {
            Ok(copied) => copied,
            Err(error) => {
                self.put_back(&members).await?;
                return Err(error);
            }
        };
        let Some(copied) = copied else {
            return Ok(Family::default());
        };
        self.cancel(&members).await?;
        for run in copied.paused_by_us {
            self.resume(&*self.to, run).await?;
        }
        let moved = count(live.len());
        Ok(Family {
            moved,
            copied: copied.runs - moved,
            left: None,
        })
    }

    /// Pauses whatever of the family could change. The error is a run that is busy for too long; then the family is
    /// let go on.
    async fn to_rest(&self, root: RunId) -> Result<Result<Vec<RunRecord>, RunId>> {
        let until = Instant::now() + self.patience;
        let mut asked = HashSet::new();
        loop {
            let members = self.members(root).await?;
            let busy: Vec<_> = live(&members)
                .filter(|run| !matches!(run.state, RunState::Paused | RunState::Parked))
                .collect();
            let Some(first) = busy.first() else {
                return Ok(Ok(members));
            };
            for run in &busy {
                if asked.insert(run.id) && !run.pause {
                    self.pause(run.id).await?;
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                for run in asked {
                    self.resume(&*self.from, run).await?;
                }
                return Ok(Err(first.id));
            }
            // Workers that are gone do not let go of their runs, and perhaps nobody else sweeps any more.
            self.from.sweep(PAGE, Duration::ZERO).await?;
            let wait = left.min(LOOK);
            self.from.changed(first.id, first.last_seq, wait).await?;
        }
    }

    async fn pause(&self, run: RunId) -> Result<()> {
        let to = Json::from(self.to.info().location.as_str());
        self.from
            .append(run, vec![NewEvent::new(EventType::from(MARK), to)])
            .await?;
        match self.from.control(run, Command::Pause).await {
            // It has ended meanwhile.
            Err(Error::Illegal { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Lets a run go on, unless it does already.
    async fn resume(&self, at: &dyn Store, run: RunId) -> Result<()> {
        match at.control(run, Command::Resume).await {
            Err(Error::Illegal { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The reason for which runs are cancelled here.
    fn reason(&self) -> String {
        format!("moved to {}", self.to.info().location)
    }

    /// Whether this migration, or an earlier one to the same place, has cancelled the run here.
    fn was_moved(&self, run: &RunRecord) -> bool {
        run.state == RunState::Cancelled && run.reason.as_deref() == Some(&*self.reason())
    }

    /// A run and all below it, parents first.
    async fn members(&self, root: RunId) -> Result<Vec<RunRecord>> {
        let Some(root) = self.from.get(root).await? else {
            return Ok(Vec::new());
        };
        let mut members = vec![root.run];
        let mut next = 0;
        while let Some(parent) = members.get(next).map(|run| (run.id, run.children)) {
            next += 1;
            if parent.1 > 0 {
                let mut children = self.children(parent.0).await?;
                // In the order in which they were spawned.
                children.sort_unstable_by_key(|run| run.id);
                members.extend(children);
            }
        }
        Ok(members)
    }

    async fn children(&self, parent: RunId) -> Result<Vec<RunRecord>> {
        let mut filter = RunFilter {
            parent: Some(parent),
            limit: PAGE,
            ..RunFilter::default()
        };
        let mut children = Vec::new();
        loop {
            let page = self.from.list(filter.clone()).await?;
            filter.before = page.last().map(|run| run.id);
            let is_last = page.len() < PAGE;
            children.extend(page);
            if is_last {
                return Ok(children);
            }
        }
    }

    /// Copies a family at rest; `None` if it has ended and is there already.
    async fn copy(&self, members: &[RunRecord], live: bool) -> Result<Option<Copied>> {
        let mut copied = Copied::default();
        for (n, run) in members.iter().enumerate() {
            if !live && self.to.get(run.id).await?.is_some() {
                continue;
            }
            let Some(mut package) = self.from.export(run.id).await? else {
                continue;
            };
            if n == 0 {
                // If it has a parent, that is forgotten.
                package.run.parent = None;
            }
            if package.run.state == RunState::Paused && is_ours(&package) {
                copied.paused_by_us.push(run.id);
            }
            self.to.import(package).await?;
            copied.runs += 1;
        }
        Ok(Some(copied).filter(|copied| copied.runs > 0))
    }

    /// Ends the family here, since it goes on there. Children go first, so that each has its own reason.
    async fn cancel(&self, members: &[RunRecord]) -> Result<()> {
        for run in members.iter().rev().filter(|run| !run.state.is_terminal()) {
            let reason = self.reason();
            self.from
                .control(run.id, Command::Cancel { reason })
                .await?;
        }
        Ok(())
    }

    /// Lets a family go on that could not be copied, but for runs that somebody has resumed there.
    async fn put_back(&self, members: &[RunRecord]) -> Result<()> {
        for run in live(members).filter(|run| run.state == RunState::Paused) {
            let there = self.to.get(run.id).await?.map(|view| view.run.state);
            if there.is_some_and(|state| state != RunState::Paused && !state.is_terminal()) {
                continue;
            }
            if self.from.export(run.id).await?.is_some_and(|p| is_ours(&p)) {
                self.resume(&*self.from, run.id).await?;
            }
        }
        Ok(())
    }

    /// Goes on with a family that is cancelled here, in part at least, and perhaps not yet resumed there.
    async fn finish(&self, members: &[RunRecord]) -> Result<()> {
        self.cancel(members).await?;
        for run in members
            .iter()
            .filter(|run| !run.state.is_terminal() || self.was_moved(run))
        {
            let there = self.to.get(run.id).await?;
            if there.is_none_or(|view| view.run.state != RunState::Paused) {
                continue;
            }
            let package = self.to.export(run.id).await?;
            if package.is_some_and(|package| is_ours(&package)) {
                self.resume(&*self.to, run.id).await?;
            }
        }
        Ok(())
    }
}

/// What was copied of a family.
#[derive(Default)]
struct Copied {
    runs: u64,
    paused_by_us: Vec<RunId>,
}

fn live(members: &[RunRecord]) -> impl Iterator<Item = &RunRecord> {
    members.iter().filter(|run| !run.state.is_terminal())
}

/// Whether the paused run is to go on once it has moved: nobody but a migration has paused it.
fn is_ours(package: &Package) -> bool {
    paused_by_us(package.events.iter().map(|event| &event.event_type))
}

fn paused_by_us<'a>(history: impl Iterator<Item = &'a EventType>) -> bool {
    let (mut marked, mut paused) = (false, false);
    for event_type in history {
        match event_type {
            // One that was not paused was woken by what it waited for, before our pause.
            EventType::RunResumed if paused => (marked, paused) = (false, false),
            EventType::RunPaused => paused = true,
            other if other.as_str() == MARK => marked = true,
            _ => {}
        }
    }
    paused && marked
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_a_migration_paused_is_told_from_one_that_somebody_paused() {
        let ours = |history: &[&str]| {
            let history: Vec<EventType> =
                history.iter().map(|name| EventType::from(*name)).collect();
            paused_by_us(history.iter())
        };
        let (moving, paused, resumed) = (MARK, "run.paused", "run.resumed");
        assert!(ours(&[moving, paused]));
        assert!(!ours(&[paused]));
        assert!(!ours(&[paused, resumed, paused]));
        // Put back, and paused by somebody then.
        assert!(!ours(&[moving, paused, resumed, paused]));
        assert!(ours(&[moving, paused, resumed, moving, paused]));
        // Its timer was due between the two.
        assert!(ours(&["run.waiting", moving, resumed, paused]));
    }
}
