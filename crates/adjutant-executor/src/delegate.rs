//! Child runs: spawned once, waited for without a worker, joined by policy.

use std::sync::Arc;

use adjutant_core::{
    AgentError, ChildOutcome, Delegate, ErrorInfo, EventType, FailurePolicy, Fingerprint, Json,
    Lineage, NewEvent, Outcome, Result, RunId, RunInput, RunState, StepKind, StepOutcome,
    StepRecord, Timestamp,
};
use adjutant_queue::{NewRun, ParentLink, RunView, WakeOn};
use adjutant_store::Op;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{host::Host, journal::Found, step::recorded};

/// What a fan-out remembers across attempts.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Memo {
    began: Timestamp,
    children: Vec<RunId>,
}

/// A fan-out's place in the journal.
struct Fan<'a> {
    host: &'a Host,
    key: String,
    input: Fingerprint,
    memo: Memo,
    policy: FailurePolicy,
}

impl Host {
    pub(crate) async fn run_children(
        &self,
        delegate: Delegate,
    ) -> Result<Vec<ChildOutcome>, AgentError> {
        let input = fingerprint(&delegate)?;
        let (key, found) = self.journal(|journal| {
            let key = journal.next_key(&delegate.name);
            let found = journal.find(&key, StepKind::Delegate, input);
            (key, found)
        });
        let (memo, is_new) = match found? {
            Found::Completed(outcomes) => return Ok(outcomes.to()?),
            Found::Failed(error) => return Err(error),
            Found::Begun(memo) => (memo.to::<Memo>()?, false),
            Found::Nothing => {
                let children = delegate.children.iter().map(|_| RunId::new()).collect();
                (
                    Memo {
                        began: self.now(),
                        children,
                    },
                    true,
                )
            }
        };
        let fan = Fan {
            host: self,
            key,
            input,
            memo,
            policy: delegate.policy,
        };
        if is_new {
            fan.spawn(delegate.children)?;
        } else if let Some(outcomes) = fan.joined().await? {
            return fan.join(outcomes).await;
        }
        if fan.memo.children.is_empty() {
            return fan.join(Vec::new()).await;
        }
        let fail_fast = fan.policy == FailurePolicy::FailFast;
        let group = Arc::from(fan.key.as_str());
        self.park(
            vec![WakeOn::Group {
                key: group,
                fail_fast,
            }],
            false,
        )
        .await?;
        Err(AgentError::permanent(
            "internal",
            "a suspended wait returned",
        ))
    }
}

impl Fan<'_> {
    /// Leaves the children's submits to the next commit, along with the record that names them.
    fn spawn(&self, children: Vec<(adjutant_core::AgentKey, RunInput)>) -> Result<(), AgentError> {
        let memo = Json::from_value(&self.memo)?;
        self.host.defer(self.record(StepOutcome::Started { memo }));
        let inherited = &self.host.claimed.payload.metadata;
        let metadata = Lineage::of(self.host.claimed.run.id, inherited).child_metadata(inherited);
        for (id, (agent, input)) in self.memo.children.iter().zip(children) {
            let mut run = NewRun::new(agent.clone(), &input)?;
            run.id = *id;
            run.priority = self.host.claimed.run.priority;
            run.metadata = metadata.clone();
            run.parent = Some(ParentLink {
                run: self.host.claimed.run.id,
                group: Arc::from(self.key.as_str()),
            });
            self.host.defer(Op::Spawn(Box::new(run)));
            let payload =
                json!({ "run_id": id, "agent_key": agent.as_str(), "step_name": self.key });
            self.host
                .defer(Op::Event(NewEvent::new(EventType::SubAgentStart, payload)));
        }
        Ok(())
    }

    /// The outcomes, once the policy has enough of them.
    async fn joined(&self) -> Result<Option<Vec<ChildOutcome>>, AgentError> {
        let mut outcomes = Vec::with_capacity(self.memo.children.len());
        for child in &self.memo.children {
            let view = self.host.shared.store.get(*child).await?;
            outcomes.push(outcome(*child, view));
        }
        let failed = outcomes.iter().any(|child| is_failure(child.status));
        let open = outcomes.iter().any(|child| !child.status.is_terminal());
        let enough = !open || (failed && self.policy == FailurePolicy::FailFast);
        Ok(enough.then_some(outcomes))
    }

    async fn join(&self, outcomes: Vec<ChildOutcome>) -> Result<Vec<ChildOutcome>, AgentError> {
        for child in outcomes.iter().filter(|child| child.status.is_terminal()) {
            let payload =
                json!({ "run_id": child.run_id, "status": child.status, "step_name": self.key });
            self.host
                .defer(Op::Event(NewEvent::new(EventType::SubAgentEnd, payload)));
        }
        let failed = outcomes.iter().find(|child| is_failure(child.status));
        let Some(failed) = failed.filter(|_| self.policy != FailurePolicy::Settle) else {
            let result = Json::from_value(&outcomes)?;
            self.host
                .commit(vec![self.record(StepOutcome::Completed { result })])
                .await?;
            return Ok(outcomes);
        };
        let why = failed
            .error
            .as_ref()
            .map_or_else(|| failed.status.to_string(), ToString::to_string);
        let error = ErrorInfo::permanent(
            "child_failed",
            format!("{} did not succeed: {why}", failed.run_id),
        )
        .with_details(Json::from_value(&outcomes)?);
        let mut ops = vec![self.record(recorded(&error))];
        if outcomes.iter().any(|child| !child.status.is_terminal()) {
            let group = Arc::from(self.key.as_str());
            ops.push(Op::CancelGroup {
                group,
                reason: "a sibling failed".to_owned(),
            });
        }
        self.host.commit(ops).await?;
        Err(AgentError::from(error))
    }

    fn record(&self, outcome: StepOutcome) -> Op {
        Op::Step(StepRecord {
            key: self.key.clone(),
            kind: StepKind::Delegate,
            input: self.input,
            outcome,
            attempts: 1,
            started_at: self.memo.began,
            recorded_at: self.host.now(),
        })
    }
}

fn fingerprint(delegate: &Delegate) -> Result<Fingerprint, AgentError> {
    let children: Vec<_> = delegate
        .children
        .iter()
        .map(|(agent, input)| (agent, input))
        .collect();
    Ok(Json::from_value(&children)?.fingerprint())
}

const fn is_failure(status: RunState) -> bool {
    status.is_terminal() && !matches!(status, RunState::Succeeded)
}

/// A child as its parent sees it. A child that has been forgotten counts as failed: its parent asked too late.
fn outcome(run_id: RunId, view: Option<RunView>) -> ChildOutcome {
    let Some(view) = view else {
        let error = ErrorInfo::permanent("child_lost", "the child run is no longer known");
        let (status, output) = (RunState::Failed, Json::null());
        return ChildOutcome {
            run_id,
            status,
            output,
            error: Some(error),
        };
    };
    let status = view.run.state;
    let (output, error) = match view.outcome {
        None => (Json::null(), None),
        Some(Outcome::Succeeded(result)) => (result.final_output, None),
        Some(Outcome::Failed { error }) => (Json::null(), Some(error)),
        Some(Outcome::Cancelled { reason }) => (
            Json::null(),
            Some(ErrorInfo::permanent("cancelled", reason)),
        ),
        Some(Outcome::TimedOut { timeout_seconds }) => {
            let message = format!("it took longer than {timeout_seconds} s");
            (
                Json::null(),
                Some(ErrorInfo::permanent("timed_out", message)),
            )
        }
    };
    ChildOutcome {
        run_id,
        status,
        output,
        error,
    }
}
