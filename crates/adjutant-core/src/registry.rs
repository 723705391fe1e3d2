//! The agents that a process can run.

use std::{collections::BTreeMap, sync::Arc};

use crate::{Agent, AgentKey, Error, Result};

/// Agents by key. A plain value: build it, then give it to whoever runs agents.
#[derive(Clone, Default)]
pub struct AgentRegistry(BTreeMap<AgentKey, Arc<dyn Agent>>);

impl AgentRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an agent.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the key is taken; use [`AgentRegistry::replace`] to mean it.
    pub fn register(&mut self, agent: impl Agent + 'static) -> Result<()> {
        let key = agent.key();
        if self.0.contains_key(&key) {
            return Err(Error::Conflict {
                what: format!("agent key `{key}`"),
            });
        }
        self.0.insert(key, Arc::new(agent));
        Ok(())
    }

    /// Adds an agent, in place of the one with its key.
    pub fn replace(&mut self, agent: impl Agent + 'static) -> Option<Arc<dyn Agent>> {
        self.0.insert(agent.key(), Arc::new(agent))
    }

    /// Adds an agent and returns the registry, for building in one expression.
    #[must_use]
    pub fn with(mut self, agent: impl Agent + 'static) -> Self {
        self.replace(agent);
        self
    }

    /// The agent with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<dyn Agent>> {
        self.0.get(key)
    }

    /// Removes an agent.
    pub fn unregister(&mut self, key: &str) -> Option<Arc<dyn Agent>> {
        self.0.remove(key)
    }

    /// Removes all agents.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &AgentKey> {
        self.0.keys()
    }
}

impl std::fmt::Debug for AgentRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
