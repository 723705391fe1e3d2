//! The tools of one caller.

use std::{collections::HashMap, sync::Arc, time::Duration};

use adjutant_core::{Effect, ToolSpec};
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    Caller, Invocation, RateLimit, Reply, Result, ToolError, ToolSource, output, registry::Shared,
};

/// One tool, where it comes from and what holds for it.
pub struct Entry {
    pub spec: ToolSpec,
    pub source: Arc<dyn ToolSource>,
    pub timeout: Option<Duration>,
    pub rate: Option<RateLimit>,
    pub max_output: usize,
}

/// The tools that one caller may use, as they were when it was opened.
pub struct ToolSet {
    caller: Caller,
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    problems: Vec<(String, ToolError)>,
    shared: Arc<Shared>,
}

/// What a source gets beyond the call's timeout to say itself that time is over: it knows whether the call was sent.
const OVERTIME: Duration = Duration::from_secs(1);

impl ToolSet {
    pub(crate) fn new(
        caller: Caller,
        entries: Vec<Entry>,
        problems: Vec<(String, ToolError)>,
        shared: Arc<Shared>,
    ) -> Self {
        let names = entries.iter().map(|entry| entry.spec.name.clone());
        Self {
            index: names.zip(0..).collect(),
            caller,
            entries,
            problems,
            shared,
        }
    }

    /// Who may use them.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How the tools are described, in the order of their sources.
    #[must_use]
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.entries
            .iter()
            .map(|entry| entry.spec.clone())
            .collect()
    }

    /// One tool.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&ToolSpec> {
        Some(&self.entries[*self.index.get(name)?].spec)
    }

    /// The name of the source that a tool comes from.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&str> {
        Some(self.entries[*self.index.get(name)?].source.name())
    }

    /// What calling the tool does to the world; of an unknown tool, the worst.
    #[must_use]
    pub fn effect(&self, name: &str) -> Effect {
        self.find(name).map_or(Effect::Unsafe, |spec| spec.effect)
    }

    /// The sources that could not be asked, and why.
    #[must_use]
    pub fn problems(&self) -> &[(String, ToolError)] {
        &self.problems
    }

    /// Calls a tool: with arguments that its schema allows, within its rate and time, and cuts what it answers to what a
    /// model can read.
    ///
    /// # Errors
    /// When there is no such tool, it may not be called now, or there is no answer of its own.
    pub async fn call(&self, call: Invocation<'_>) -> Result<Reply> {
        let began = Instant::now();
        let result = self.admit_and_call(call).await;
        let outcome = match &result {
            Ok(Reply::Answer(answer)) if answer.is_error => "failed",
            Ok(Reply::Answer(_)) => "answered",
            Ok(Reply::InputRequired { .. }) => "input_required",
            Err(error) => error.kind(self.effect(call.name)),
        };
        tracing::debug!(
            run_id = %self.caller.run,
            agent = %self.caller.agent,
            tool = call.name,
            outcome,
            milliseconds = began.elapsed().as_millis(),
            "tool called"
        );
        result
    }

    async fn admit_and_call(&self, call: Invocation<'_>) -> Result<Reply> {
        let place = self
            .index
            .get(call.name)
            .ok_or_else(|| ToolError::NotFound {
                tool: call.name.to_owned(),
            })?;
        let entry = &self.entries[*place];
        self.admit(entry, call)?;
        let timeout = entry
            .timeout
            .map_or(call.timeout, |own| own.min(call.timeout));
        let work = entry
            .source
            .call(&self.caller, Invocation { timeout, ..call });
        let reply = tokio::time::timeout(timeout + OVERTIME, work)
            .await
            .unwrap_or_else(|_| {
                Err(ToolError::Timeout {
                    tool: call.name.to_owned(),
                    after: timeout,
                    sent: true,
                })
            })?;
        Ok(self.cut(entry, reply).await)
    }

    /// Everything that can be known before the call is sent.
    fn admit(&self, entry: &Entry, call: Invocation<'_>) -> Result<()> {
        if let Some(problem) = &entry.spec.unavailable {
            return Err(ToolError::Unavailable {
                tool: call.name.to_owned(),
                problem: problem.clone(),
                sent: false,
                source: None,
            });
        }
        self.shared
            .schemas
            .check(call.name, &entry.spec.input_schema, call.arguments)?;
        match entry.rate {
            // A call that goes on with what it asked for has been counted.
            Some(rate) if call.resume.is_none() => self.shared.admit(call.name, rate),
            _ => Ok(()),
        }
    }

    async fn cut(&self, entry: &Entry, reply: Reply) -> Reply {
        let Reply::Answer(answer) = reply else {
            return reply;
        };
        let sink = self.shared.artifacts.as_deref();
        let name = &entry.spec.name;
        Reply::Answer(output::cap(answer, entry.max_output, name, &self.caller, sink).await)
    }

    /// Makes several calls, at most `at_once` at a time, and returns what they came to in the order of the calls.
    pub async fn call_all(&self, calls: &[Invocation<'_>], at_once: usize) -> Vec<Result<Reply>> {
        in_order(calls.iter().map(|call| self.call(*call)), at_once).await
    }
}

/// Drives futures, at most `at_once` (and at least one) at a time, and returns their results in the order of the futures.
pub async fn in_order<F: Future>(
    futures: impl IntoIterator<Item = F>,
    at_once: usize,
) -> Vec<F::Output> {
    stream::iter(futures)
        .buffered(at_once.max(1))
        .collect()
        .await
}
