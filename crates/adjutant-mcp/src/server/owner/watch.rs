//! How the owner looks after a server that is up: is it there, is it well, has it other tools.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::time::timeout;

use super::{Done, Task, refused};
use crate::{
    catalog::Catalog,
    error::{Error, Result},
    machine::{Event, Life},
    metrics::count,
    peer::{Era, McpPeer, PeerError},
    server::blueprint::ask,
};

/// A server that does not answer a question after its health within this is not well.
const HEALTH: Duration = Duration::from_secs(3);

impl Task {
    pub(super) fn is_current(&self, peer: &Arc<dyn McpPeer>) -> bool {
        self.peer.as_ref().is_some_and(|one| Arc::ptr_eq(one, peer))
    }

    /// The server went away by itself.
    pub(super) fn gone(&mut self, peer: &Arc<dyn McpPeer>, why: String) {
        if !self.is_current(peer) {
            return;
        }
        if matches!(self.machine.life(), Life::Ready { .. }) {
            count(&self.server.counters.deaths);
            tracing::warn!(server = self.server.name, "MCP server is gone: {why}");
            self.server.set_live(None);
            // What is left of it ends beside whatever comes next.
            if let Some(peer) = self.peer.take() {
                self.push(async move { Done::Cleaned(peer.end().await) });
            }
        }
        self.apply(Event::Lost { why });
    }

    /// Asks for the tools again, if it is up; starts it if it never told them.
    pub(super) fn refresh(&mut self) {
        match self.machine.life() {
            Life::Ready { .. } => {
                let fresh = self.server.catalog();
                if fresh.is_some_and(|known| known.is_fresh(Instant::now())) {
                    self.refreshed(&Ok(()));
                } else {
                    self.list(Duration::ZERO);
                }
            }
            _ => self.apply(Event::Wanted),
        }
    }

    pub(super) fn refreshed(&mut self, result: &Result<()>) {
        for reply in self.refreshing.drain(..) {
            let _ = reply.send(result.clone());
        }
    }

    /// Asks for the tools; changes meanwhile are asked for afterwards.
    pub(super) fn list(&mut self, pause: Duration) {
        self.list_again = self.listing;
        let Some(peer) = self.peer.clone().filter(|_| !self.listing) else {
            return;
        };
        self.listing = true;
        let blueprint = self.blueprint.clone();
        self.push(async move {
            tokio::time::sleep(pause).await;
            let time = blueprint.config.start_timeout;
            let listed = timeout(time, blueprint.list(&*peer)).await;
            let slow = |_| PeerError::Nonsense(format!("no list of tools within {time:?}"));
            Done::Listed(peer, listed.map_err(slow).flatten())
        });
    }

    pub(super) fn listed(&mut self, peer: &Arc<dyn McpPeer>, listed: Result<Catalog, PeerError>) {
        self.listing = false;
        if std::mem::take(&mut self.list_again) {
            return self.list(Duration::ZERO);
        }
        if !self.is_current(peer) || listed.is_err() && peer.closed().is_cancelled() {
            // Whoever waits gets the list of the next one.
            return;
        }
        let result = match listed {
            Ok(catalog) => {
                self.server.publish(catalog, false);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(server = self.server.name, %error, "its tools could not be listed");
                Err(refused(&self.server.name, "tools/list", error))
            }
        };
        self.refreshed(&result);
    }

    /// Asks it whether it is well.
    pub(super) fn check(&mut self) {
        let Some(peer) = self.peer.clone().filter(|_| !self.checking) else {
            return;
        };
        self.checking = true;
        self.push(async move {
            let method = match peer.info().era {
                Era::Modern => "server/discover",
                Era::Legacy => "ping",
            };
            let since = Instant::now();
            let health = match timeout(HEALTH, ask(&*peer, method, json!({}))).await {
                // Whatever it says, it answers.
                Ok(Ok(_) | Err(PeerError::Refused { .. })) => Ok(since.elapsed()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer to `{method}` within {HEALTH:?}")),
            };
            Done::Checked(peer, health)
        });
    }

    pub(super) fn checked(&mut self, peer: &Arc<dyn McpPeer>, health: &Result<Duration, String>) {
        self.checking = false;
        let unwell = health.clone().err();
        let lost = |problem| Error::Lost {
            server: self.server.name.clone(),
            problem,
        };
        for reply in self.probing.drain(..) {
            let _ = reply.send(health.clone().map_err(lost));
        }
        self.server.timeouts_in_row.store(0, Ordering::Relaxed);
        if let Some(why) = unwell
            && self.is_current(peer)
        {
            // Its calls fail at once, as if it had died, because so it has for all that anybody can see.
            self.gone(&Arc::clone(peer), why);
        }
    }
}
