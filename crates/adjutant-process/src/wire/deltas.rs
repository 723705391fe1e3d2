//! Pieces of models' answers, on their way from the calls that make them to the line on which they are written.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use adjutant_wire::LlmDelta;
use tokio::sync::Notify;

/// More pieces than this do not wait; they are for showing, and the answer itself comes whole.
const MAX_WAITING: usize = 256;

/// A piece is not made longer than this by others that are added to it.
const MAX_PIECE_BYTES: usize = 16 * 1024;

#[derive(Default)]
pub(super) struct Deltas {
    waiting: Mutex<VecDeque<LlmDelta>>,
    come: Notify,
}

impl Deltas {
    fn lock(&self) -> MutexGuard<'_, VecDeque<LlmDelta>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a piece to be written. Text that continues what still waits is added to that.
    pub(super) fn push(&self, delta: LlmDelta) {
        let mut waiting = self.lock();
        if waiting.back_mut().is_some_and(|last| merge(last, &delta)) {
            return;
        }
        if waiting.len() < MAX_WAITING {
            waiting.push_back(delta);
            self.come.notify_one();
        }
    }

    /// What waits, in order.
    pub(super) fn take(&self) -> VecDeque<LlmDelta> {
        std::mem::take(&mut *self.lock())
    }

    /// Returns when something has come since this was last called.
    pub(super) async fn come(&self) {
        self.come.notified().await;
    }
}

/// Adds plain text to plain text of the same call, if there is room.
fn merge(last: &mut LlmDelta, next: &LlmDelta) -> bool {
    let plain = |delta: &LlmDelta| delta.reasoning.is_none() && delta.tool_call.is_none();
    let (true, true, true) = (last.call_id == next.call_id, plain(last), plain(next)) else {
        return false;
    };
    match (&mut last.text, &next.text) {
        (Some(text), Some(more)) if text.len() + more.len() <= MAX_PIECE_BYTES => {
            text.push_str(more);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(call_id: &str, seq: u64, text: &str) -> LlmDelta {
        LlmDelta {
            call_id: call_id.to_owned(),
            seq,
            text: Some(text.to_owned()),
            ..LlmDelta::default()
        }
    }

    #[test]
    fn pieces_of_one_call_are_merged_and_calls_kept_apart() {
        let deltas = Deltas::default();
        deltas.push(text("a", 1, "x"));
        deltas.push(text("a", 2, "y"));
        deltas.push(text("b", 1, "z"));
        assert_eq!(deltas.take(), [text("a", 1, "xy"), text("b", 1, "z")]);
        assert!(deltas.take().is_empty());
    }

    #[test]
    fn an_agent_that_does_not_read_costs_little() {
        let deltas = Deltas::default();
        let piece = "x".repeat(MAX_PIECE_BYTES);
        for seq in 1..=10_000 {
            deltas.push(text("a", seq, &piece));
        }
        assert_eq!(deltas.take().len(), MAX_WAITING);
    }
}
