//! What a pool needs besides its configuration.

use std::{path::PathBuf, sync::Arc};

use adjutant_process::{Environment, ProcessManager};

use crate::{
    audit::{AuditSink, TraceAudit},
    locate::Lookup,
    oauth::{FileTokens, TokenStore},
};

/// What a pool needs besides its configuration.
#[derive(Clone)]
#[non_exhaustive]
pub struct PoolOptions {
    /// Starts the processes.
    pub processes: Arc<dyn ProcessManager>,
    /// What every process has in its environment; see [`Environment::inherited`]. Default: nothing.
    pub base: Environment,
    /// Where references to variables lead. Default: nowhere.
    pub lookup: Lookup,
    /// The folder that paths are relative to. Default: the root.
    pub dir: PathBuf,
    /// Who hears of every call.
    pub audit: Arc<dyn AuditSink>,
    /// Where tokens are kept that people have logged in for. Default: nowhere, so that nobody can log in.
    pub tokens: Option<Arc<dyn TokenStore>>,
    /// The name and version that servers are told.
    pub client: (String, String),
}

impl PoolOptions {
    /// Everything by default.
    #[must_use]
    pub fn new(processes: Arc<dyn ProcessManager>) -> Self {
        Self {
            processes,
            base: Environment::default(),
            lookup: Arc::new(|_| None),
            dir: PathBuf::from("/"),
            audit: Arc::new(TraceAudit),
            tokens: None,
            client: ("adjutant".into(), env!("CARGO_PKG_VERSION").into()),
        }
    }

    /// Gives every process these variables.
    #[must_use]
    pub fn base(mut self, base: Environment) -> Self {
        self.base = base;
        self
    }

    /// Lets references lead here.
    #[must_use]
    pub fn lookup(
        mut self,
        lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.lookup = Arc::new(lookup);
        self
    }

    /// Lets paths be relative to this folder.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = dir.into();
        self
    }

    /// Keeps tokens in files of this folder.
    #[must_use]
    pub fn token_dir(self, dir: impl Into<PathBuf>) -> Self {
        self.tokens(Arc::new(FileTokens::new(dir)))
    }

    /// Keeps tokens here.
    #[must_use]
    pub fn tokens(mut self, tokens: Arc<dyn TokenStore>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Tells this of every call.
    #[must_use]
    pub fn audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.audit = audit;
        self
    }
}
