//! A process on the wire, before, between and after its runs.

use std::sync::Arc;

use adjutant_core::AgentError;
use adjutant_wire as wire;
use adjutant_wire::{Call, Request, RequestId};

use super::link::Link;
use crate::{
    logs::Logs,
    pool::Name,
    port::{Process, Spawned},
};

/// A live process and what has been said to it.
pub(crate) struct Peer {
    /// The instance's name, such as `triage-01`.
    pub(crate) name: Arc<Name>,
    pub(crate) process: Box<dyn Process>,
    /// Runs that it has been given.
    pub(crate) runs: u32,
    pub(super) link: Link,
    pub(super) logs: Logs,
    greeting: Option<wire::Initialized>,
    last_id: i64,
}

impl Peer {
    /// A process that has just started and was not spoken to.
    pub(crate) fn new(name: Arc<Name>, spawned: Spawned) -> Self {
        Self {
            name,
            runs: 0,
            link: Link::new(spawned.stdin, spawned.stdout),
            logs: Logs::new(spawned.stderr).observed(spawned.process.observer()),
            process: spawned.process,
            greeting: None,
            last_id: 0,
        }
    }

    /// A part of a process that others have too, and that has been greeted.
    pub(super) fn seated(
        name: Arc<Name>,
        process: Box<dyn Process>,
        link: Link,
        logs: Logs,
        greeting: wire::Initialized,
        runs: u32,
    ) -> Self {
        let mut peer = Self {
            name,
            process,
            runs,
            link,
            logs,
            greeting: None,
            last_id: 0,
        };
        peer.greet(greeting);
        peer
    }

    /// What it answered to `initialize`, if it has.
    pub(super) const fn greeting(&self) -> Option<&wire::Initialized> {
        self.greeting.as_ref()
    }

    pub(super) fn greet(&mut self, greeting: wire::Initialized) {
        if let Some(limits) = greeting.limits {
            self.link.set_max_line_bytes(limits.max_line_bytes);
        }
        self.greeting = Some(greeting);
    }

    /// Leaves a request to be written, and returns its number.
    pub(super) fn call<C: Call>(&mut self, call: &C) -> Result<RequestId, AgentError> {
        self.last_id += 1;
        let id = RequestId::Number(self.last_id);
        if self.link.send(Request::call(id.clone(), call)?) {
            return Ok(id);
        }
        let why = format!(
            "`{}` is longer than the line that the agent takes",
            C::METHOD
        );
        Err(AgentError::permanent("input_too_large", why))
    }
}
