//! The way in for those who talk with a process.

use std::sync::Arc;

use adjutant_core::Usage;
use adjutant_logs::{Level, Stream};
use serde_json::{Map, Value};

use super::instances::Instance;

/// Hears what an instance says and does. Cheap to clone; the default one hears nothing.
#[derive(Clone, Default)]
pub struct Observer {
    instance: Option<Arc<Instance>>,
}

impl Observer {
    pub(super) const fn of(instance: Arc<Instance>) -> Self {
        Self {
            instance: Some(instance),
        }
    }

    /// The instance works on a run as long as the returned value lives.
    pub fn working_on(&self, run: &impl ToString) -> Working {
        let run = run.to_string();
        if let Some(instance) = &self.instance {
            instance.begin(&run);
        }
        Working {
            observer: self.clone(),
            run,
        }
    }

    /// The instance has started and can be used. Of agents that is known when they work on their first run.
    pub fn ready(&self) {
        if let Some(instance) = &self.instance {
            instance.ready();
        }
    }

    /// The instance wrote a line. Never waits.
    pub fn line(&self, stream: Stream, line: &[u8]) {
        if let Some(instance) = &self.instance {
            instance.log(|log, run| log.line(run, stream, line));
        }
    }

    /// The instance, or the runtime about it, says something with a level. Never waits.
    pub fn record(&self, stream: Stream, level: &str, message: &str, fields: Map<String, Value>) {
        if let Some(instance) = &self.instance {
            let level = Level::of_word(level).unwrap_or(Level::Info);
            instance.log(|log, run| log.record(run, stream, level, message, fields));
        }
    }
}

/// An instance works on a run until this is dropped.
#[must_use]
pub struct Working {
    observer: Observer,
    run: String,
}

impl Working {
    /// The instance has spent this.
    pub fn spent(&self, usage: &Usage) {
        if let Some(instance) = &self.observer.instance {
            instance.spend(usage.input_tokens + usage.output_tokens);
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(instance) = &self.observer.instance {
            instance.end(&self.run);
        }
    }
}
