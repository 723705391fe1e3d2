//! Looking for damage: do the index and the counters say what the records say?

use super::core::QueueCore;

impl QueueCore {
    /// What is wrong with the queue, if anything is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.order.len() != self.runs.len() {
            return Some("the list of runs is not complete".to_owned());
        }
        if let Some(problem) = self.index.problem(self.runs.values().map(|e| &e.record)) {
            return Some(problem);
        }
        self.runs.values().find_map(|entry| {
            let id = entry.record.id;
            let ended = entry.record.state.is_terminal();
            if ended != entry.outcome.is_some() {
                return Some(format!("{id} has an outcome or an end, but not both"));
            }
            // One that runs without a lease is driven elsewhere.
            if entry.record.held.is_some() && entry.record.state != adjutant_core::RunState::Running
            {
                return Some(format!("{id} has a lease but does not run"));
            }
            entry.fan_outs.iter().find_map(|(key, fan_out)| {
                let open = fan_out.children.iter().filter(|child| {
                    let child = self.record(**child);
                    child.is_some_and(|child| !child.state.is_terminal())
                });
                let open = u64::try_from(open.count()).unwrap_or(u64::MAX);
                (open != fan_out.group.open)
                    .then(|| format!("fan-out `{key}` of {id} counts its children wrongly"))
            })
        })
    }
}
