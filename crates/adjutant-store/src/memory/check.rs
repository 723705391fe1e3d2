//! Looking for damage: do queue, journals and events say the same?

use super::Inner;

impl Inner {
    /// The first run whose record disagrees with its event log or journal.
    pub(super) fn log_problem(&self) -> Option<String> {
        self.queue.ids().into_iter().find_map(|run| {
            let record = self.queue.record(run)?;
            let last = self.logs.events.last(run);
            let written = self.logs.journals.written(run);
            if record.last_seq != last {
                let counted = record.last_seq;
                return Some(format!("{run} counts {counted} events, its log has {last}"));
            }
            if (record.steps, record.checkpoint) != (written.steps, written.checkpoint) {
                return Some(format!("{run} and its journal count differently"));
            }
            None
        })
    }
}
