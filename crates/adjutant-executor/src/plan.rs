//! Plans: named steps, in order or by dependency, within one run.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use adjutant_core::{AgentError, Json, Result, RetryPolicy, RunContext};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};

/// What a planned step does: it gets the results of the steps before it and returns its own.
type Body =
    Arc<dyn Fn(RunContext, Results) -> BoxFuture<'static, Result<Json, AgentError>> + Send + Sync>;

/// Results of completed steps by name. A snapshot: a failed try cannot change what the next one sees.
pub type Results = BTreeMap<String, Json>;

/// How far a planned step came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Under way.
    Running,
    /// Done.
    Completed,
    /// Failed after its last try.
    Failed,
    /// Not begun because a step before it failed.
    Skipped,
    /// Not begun or broken off because the run is cancelled.
    Cancelled,
}

/// One step of a plan.
#[derive(Clone)]
pub struct PlannedStep {
    name: String,
    after: Option<Vec<String>>,
    retry: RetryPolicy,
    timeout: Option<Duration>,
    description: Option<String>,
    checkpoint: bool,
    body: Body,
}

impl PlannedStep {
    /// A step that follows the one before it, is tried once and leaves a checkpoint.
    pub fn new<F, Fut>(name: impl Into<String>, body: F) -> Self
    where
        F: Fn(RunContext, Results) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Json, AgentError>> + Send + 'static,
    {
        Self {
            name: name.into(),
            after: None,
            retry: RetryPolicy::never(),
            timeout: None,
            description: None,
            checkpoint: true,
            body: Arc::new(move |ctx, results| body(ctx, results).boxed()),
        }
    }

    /// Begins as soon as these steps are done; with none, at once.
    #[must_use]
    pub fn after<const N: usize>(mut self, names: [&str; N]) -> Self {
        self.after = Some(names.map(str::to_owned).to_vec());
        self
    }

    /// Tries within one attempt of the run.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Longest time for one try.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// For people who watch.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Whether the results so far are saved as the run's checkpoint after this step. Default true. The
    /// step itself is recorded in any case.
    #[must_use]
    pub fn checkpoint(mut self, save: bool) -> Self {
        self.checkpoint = save;
        self
    }
}

/// Steps to be done in one run.
#[derive(Clone)]
pub struct StepPlan {
    name: String,
    steps: Vec<PlannedStep>,
    concurrency: NonZeroUsize,
}

/// What a plan has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanReport {
    /// Results of completed steps.
    pub results: Results,
    /// How far each step came.
    pub statuses: BTreeMap<String, StepStatus>,
}

impl StepPlan {
    /// An empty plan; at most four of its steps run at a time.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let concurrency = NonZeroUsize::MIN.saturating_add(3);
        Self {
            name: name.into(),
            steps: Vec::new(),
            concurrency,
        }
    }

    /// Adds a step.
    #[must_use]
    pub fn step(mut self, step: PlannedStep) -> Self {
        self.steps.push(step);
        self
    }

    /// Sets how many steps run at a time.
    #[must_use]
    pub fn concurrency(mut self, limit: NonZeroUsize) -> Self {
        self.concurrency = limit;
        self
    }

    /// Does all steps; those that are recorded from an earlier attempt are not done again.
    ///
    /// # Errors
    /// `invalid_plan` before anything runs; `plan_changed` when the run began with another plan; a
    /// step's own error after its last try.
    pub async fn run(&self, ctx: &RunContext) -> Result<PlanReport, AgentError> {
        let dependencies = self.dependencies()?;
        self.pin_down(ctx, &dependencies).await?;
        let mut report = PlanReport::default();
        for step in &self.steps {
            report
                .statuses
                .insert(step.name.clone(), StepStatus::Pending);
        }
        let mut running = FuturesUnordered::new();
        loop {
            for (step, after) in self.steps.iter().zip(&dependencies) {
                let ready = report.statuses[&step.name] == StepStatus::Pending
                    && after.iter().all(|name| report.results.contains_key(name));
                if ready && running.len() < self.concurrency.get() {
                    report
                        .statuses
                        .insert(step.name.clone(), StepStatus::Running);
                    running.push(execute(ctx, step, report.results.clone()));
                }
            }
            let Some((step, outcome)) = running.next().await else {
                return Ok(report);
            };
            match outcome {
                Ok(result) => self.done(ctx, step, result, &mut report).await?,
                Err(error) => return Err(self.broken(step, error, report)),
            }
        }
    }

    /// For each step, what it comes after.
    fn dependencies(&self) -> Result<Vec<Vec<String>>, AgentError> {
        let invalid = |problem: String| Err(AgentError::permanent("invalid_plan", problem));
        let mut known = BTreeSet::new();
        let mut dependencies = Vec::with_capacity(self.steps.len());
        let mut previous: Option<&str> = None;
        for step in &self.steps {
            if step.name.is_empty() {
                return invalid(format!("plan `{}` has a step without a name", self.name));
            }
            let implied = || previous.iter().map(|name| (*name).to_owned()).collect();
            let after: Vec<String> = step.after.clone().unwrap_or_else(implied);
            // Steps may only come after steps listed before them, which rules out cycles.
            if let Some(unknown) = after.iter().find(|name| !known.contains(name.as_str())) {
                let name = &step.name;
                return invalid(format!(
                    "step `{name}` comes after `{unknown}`, which is not listed before it"
                ));
            }
            if !known.insert(step.name.as_str()) {
                return invalid(format!(
                    "plan `{}` has two steps named `{}`",
                    self.name, step.name
                ));
            }
            previous = Some(&step.name);
            dependencies.push(after);
        }
        Ok(dependencies)
    }

    /// Records the plan's shape with the run, so that a later attempt cannot run another one.
    async fn pin_down(
        &self,
        ctx: &RunContext,
        dependencies: &[Vec<String>],
    ) -> Result<(), AgentError> {
        let names: Vec<_> = self
            .steps
            .iter()
            .map(|step| &step.name)
            .zip(dependencies)
            .collect();
        let pinned = ctx
            .step_builder(&format!("plan:{}", self.name))
            .input(&names)?;
        pinned.run(|| async { Ok(()) }).await.map_err(|error| {
            if error.info().kind != "step_changed" {
                return error;
            }
            let message = format!(
                "plan `{}` is not the one that the run began with",
                self.name
            );
            AgentError::permanent("plan_changed", message)
        })
    }

    async fn done(
        &self,
        ctx: &RunContext,
        step: &PlannedStep,
        result: Json,
        report: &mut PlanReport,
    ) -> Result<(), AgentError> {
        report.results.insert(step.name.clone(), result);
        report
            .statuses
            .insert(step.name.clone(), StepStatus::Completed);
        if step.checkpoint {
            ctx.checkpoint(&report.results).await?;
        }
        #[expect(clippy::cast_precision_loss, reason = "plans have few steps")]
        let percent = report.results.len() as f64 / self.steps.len() as f64 * 100.0;
        ctx.progress(percent, &step.name).await?;
        Ok(())
    }

    fn broken(&self, step: &PlannedStep, error: AgentError, mut report: PlanReport) -> AgentError {
        let cancelled = error.info().kind == "cancelled";
        let rest = if cancelled {
            StepStatus::Cancelled
        } else {
            StepStatus::Skipped
        };
        for status in report.statuses.values_mut() {
            if matches!(status, StepStatus::Pending | StepStatus::Running) {
                *status = rest;
            }
        }
        let own = if cancelled {
            StepStatus::Cancelled
        } else {
            StepStatus::Failed
        };
        report.statuses.insert(step.name.clone(), own);
        let mut info = error.into_info();
        if info.details.is_null() {
            info.details = Json::from_value(&report.statuses).unwrap_or_default();
        }
        AgentError::from(info)
    }
}

async fn execute<'a>(
    ctx: &RunContext,
    step: &'a PlannedStep,
    results: Results,
) -> (&'a PlannedStep, Result<Json, AgentError>) {
    let mut builder = ctx.step_builder(&step.name).retry(step.retry.clone());
    if let Some(timeout) = step.timeout {
        builder = builder.timeout(timeout);
    }
    if let Some(description) = &step.description {
        builder = builder.description(description);
    }
    let outcome = builder
        .run(|| (step.body)(ctx.clone(), results.clone()))
        .await;
    (step, outcome)
}
