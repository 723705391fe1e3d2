//! One supervised process, as the machine knows it.

use super::{event::Child, state::State};

#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) child: Child,
    /// Positions of those that have to serve before it starts.
    pub(super) after: Vec<usize>,
    pub(super) state: State,
    /// Counts its processes.
    pub(super) generation: u64,
    /// Whether it should be up.
    pub(super) wanted: bool,
    /// Whether it has to go down before it may be up.
    pub(super) bounce: bool,
    /// Whether it was stopped by hand.
    pub(super) stopped: bool,
    /// Restarts in a row.
    pub(super) restarts: u32,
}

impl Slot {
    pub(super) fn new(child: Child) -> Self {
        Self {
            stopped: child.stopped,
            child,
            after: Vec::new(),
            state: State::Stopped,
            generation: 0,
            wanted: false,
            bounce: false,
            restarts: 0,
        }
    }

    /// Its name, and whom it depends on.
    pub(super) fn name(&self) -> (&str, &[String]) {
        (&self.child.name, &self.child.depends_on)
    }

    pub(super) fn is_due_down(&self) -> bool {
        self.state.is_live() && (self.bounce || !self.wanted)
    }

    /// It should be up, whatever was before.
    pub(super) fn ask_up(&mut self) {
        (self.wanted, self.stopped, self.restarts) = (true, false, 0);
        if self.state.is_settled() || matches!(self.state, State::BackOff { .. }) {
            self.state = State::Waiting;
        } else if matches!(self.state, State::Stopping { .. }) {
            self.bounce = true;
        }
    }

    /// It should be down and stay down.
    pub(super) fn ask_down(&mut self) {
        (self.wanted, self.bounce) = (false, false);
    }
}
