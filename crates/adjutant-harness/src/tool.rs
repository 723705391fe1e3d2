//! A tool call as a step, or as several when the tool asks for input on the way.

mod port;
mod round;

use std::sync::Arc;

use adjutant_budget::Amount;
use adjutant_core::{
    AgentError, ChildOutcome, Delegate, Effect, FailurePolicy, HostStep, Json, RunInput, StepKind,
    ToolAnswer, ToolSpec, ToolUse, Usage,
};
use adjutant_tools::{InputResume, ToolRegistry, ToolSet};
use serde_json::{Map, Value, json};

use self::round::Round;
use crate::{ask::Answered, host::EquippedHost, recorded::Recorded};

/// Most times that a tool may ask for input before it answers.
const MAX_ROUNDS: u32 = 8;

/// What the names of agents as tools begin with.
pub(crate) const AGENT_PREFIX: &str = "agent__";

impl EquippedHost {
    /// The tools that the run has. They are recorded when they are first asked for: what a model was told in the first
    /// attempt must be what it is told in the second.
    pub async fn pinned_tools(&self) -> Result<&[ToolSpec], AgentError> {
        let list = || async {
            let step = HostStep::new(self.names.next("tools"), StepKind::Code);
            let recorded = self
                .inner
                .step(step, &mut |_| {
                    Box::pin(async move { Ok(Json::from_value(&self.list_tools().await?)?) })
                })
                .await?;
            Ok::<Vec<ToolSpec>, AgentError>(recorded.to()?)
        };
        if self.equipment.tools.is_none() && self.equipment.agents.is_empty() {
            return Ok(&[]);
        }
        self.tools.get_or_try_init(list).await.map(Vec::as_slice)
    }

    async fn list_tools(&self) -> Result<Vec<ToolSpec>, AgentError> {
        let mut specs = Vec::new();
        if let Some(registry) = &self.equipment.tools {
            let set = self.toolset(registry).await?;
            if let Some((source, problem)) = set.problems().first() {
                // What is recorded now is all that the run will ever have: better to try again than to go without.
                let message = format!("the tools of `{source}` cannot be listed: {problem}");
                return Err(AgentError::retriable("tool_unavailable", message));
            }
            specs = set.specs();
        }
        specs.extend(
            self.equipment
                .agents
                .iter()
                .map(|(name, does)| agent_tool(name, does)),
        );
        Ok(specs)
    }

    /// The tools as they are now. Kept for the attempt once all sources have told theirs.
    pub async fn toolset(&self, registry: &Arc<ToolRegistry>) -> Result<Arc<ToolSet>, AgentError> {
        let mut kept = self.toolset.lock().await;
        if let Some(set) = &*kept {
            return Ok(Arc::clone(set));
        }
        let filter = self.equipment.tool_policy.filter();
        let set = registry.open(self.caller.clone(), &filter).await;
        let set = Arc::new(set.map_err(|error| error.into_agent_error(Effect::ReadOnly))?);
        if set.problems().is_empty() {
            *kept = Some(Arc::clone(&set));
        }
        Ok(set)
    }

    /// Calls a tool, with all that belongs to it.
    pub async fn use_tool(&self, call: ToolUse) -> Result<ToolAnswer, AgentError> {
        if let Some(agent) = call.name.strip_prefix(AGENT_PREFIX)
            && self.equipment.agents.iter().any(|(name, _)| name == agent)
        {
            return self.call_agent(agent, &call).await;
        }
        let Some(registry) = self.equipment.tools.clone() else {
            return self.inner.call_tool(call).await;
        };
        let step = self.names.next(&call.key);
        self.check_time().await?;
        let spec = self
            .pinned_tools()
            .await?
            .iter()
            .find(|spec| spec.name == call.name);
        let Some(spec) = spec else {
            return Ok(ToolAnswer::failed(format!(
                "there is no tool `{}`",
                call.name
            )));
        };
        let mut call = call;
        if self.equipment.tool_policy.asks(&call.name) {
            match self.ask_before(&step, &call.name, &call.arguments).await? {
                Answered::Yes(arguments) => call.arguments = arguments,
                Answered::No(why) => {
                    return Ok(ToolAnswer::failed(format!("the call was declined: {why}")));
                }
            }
        }
        let answer = self.rounds(&registry, spec, &step, &call).await?;
        self.used(Usage {
            tool_calls: 1,
            ..Usage::default()
        });
        let budget = &self.equipment.budget;
        self.guard
            .answered(budget, &call.name, &call.arguments, &answer)?;
        Ok(answer)
    }

    /// Makes the call as often as the tool asks for input, with what it asked for.
    async fn rounds(
        &self,
        registry: &Arc<ToolRegistry>,
        spec: &ToolSpec,
        step: &str,
        call: &ToolUse,
    ) -> Result<ToolAnswer, AgentError> {
        let mut resume: Option<InputResume> = None;
        for number in 1..=MAX_ROUNDS {
            let name = match number {
                1 => step.to_owned(),
                number => format!("{step}/{number}"),
            };
            let round = Round {
                host: self,
                registry,
                spec,
                call,
                step: &name,
                resume: resume.as_ref(),
            };
            let (requests, state) = match round.run().await? {
                Recorded::Answer(answer) => return Ok(answer),
                Recorded::InputRequired { requests, state } => (requests, state),
            };
            let responses = self.responses(&name, &requests).await?;
            // A server that asks while it works is asked anew, and gets all the answers that there are.
            let mut all = resume.map(|resume| resume.responses).unwrap_or_default();
            all.extend(responses);
            resume = Some(InputResume {
                responses: all,
                state,
            });
        }
        Ok(ToolAnswer::failed(format!(
            "the tool asked for input {MAX_ROUNDS} times and did not answer"
        )))
    }

    async fn responses(
        &self,
        step: &str,
        requests: &Map<String, Value>,
    ) -> Result<Map<String, Value>, AgentError> {
        let mut responses = Map::new();
        for (key, request) in requests {
            let params = request.get("params").cloned().unwrap_or_default();
            let response = match request["method"].as_str().unwrap_or_default() {
                "elicitation/create" => self.elicit(step, key, &params).await?,
                "sampling/createMessage" => {
                    let on_exceeded = self.equipment.budget.on_exceeded;
                    match self
                        .sample(on_exceeded, &format!("{step}/{key}"), &params)
                        .await
                    {
                        Ok(response) => response,
                        Err(error) => return Err(error),
                    }
                }
                "roots/list" => json!({ "roots": [] }),
                other => {
                    let message =
                        format!("the tool asks for `{other}`, which nobody here can answer");
                    return Err(AgentError::permanent("tool_unavailable", message));
                }
            };
            responses.insert(key.clone(), response);
        }
        Ok(responses)
    }

    /// Runs another agent, as a tool.
    async fn call_agent(&self, agent: &str, call: &ToolUse) -> Result<ToolAnswer, AgentError> {
        let arguments: Map<String, Value> = call.arguments.to().unwrap_or_default();
        let text = arguments.get("input").and_then(Value::as_str);
        let Some(text) = text else {
            let message = "invalid arguments: `input` must be a text that says what to do";
            return Ok(ToolAnswer::failed(message));
        };
        let mut input = RunInput::text(text);
        if let Some(data) = arguments.get("data") {
            input.data = Json::from(data.clone());
        }
        let delegate = Delegate::new(call.key.clone())
            .policy(FailurePolicy::Settle)
            .child(agent, input);
        let outcomes = self.delegate_within_bounds(delegate).await?;
        Ok(outcomes.first().map(agent_answer).unwrap_or_default())
    }

    /// Begins children, if depth, breadth and budgets allow it.
    pub async fn delegate_within_bounds(
        &self,
        delegate: Delegate,
    ) -> Result<Vec<ChildOutcome>, AgentError> {
        let lineage = adjutant_core::Lineage::of(self.caller.run, self.inner.metadata());
        let children = delegate.children.len();
        self.guard
            .children(&self.equipment.budget, lineage, children)?;
        if !self.inner.is_recorded(&delegate.name) {
            let amount = Amount {
                runs: children as u64,
                ..Amount::ZERO
            };
            let step = format!("children:{}", self.names.next(&delegate.name));
            let held = self
                .afford(self.equipment.budget.on_exceeded, &step, amount)
                .await?;
            if let (Some(held), Some(purse)) = (held, &self.purse) {
                purse.settle(&held, amount).await?;
            }
        }
        self.inner.delegate(delegate).await
    }
}

/// An agent as models see it.
fn agent_tool(name: &str, does: &str) -> ToolSpec {
    let schema = json!({
        "type": "object",
        "properties": {
            "input": { "type": "string", "description": "What to do, with all that it needs to know." },
            "data": { "description": "Structured input, if there is any." },
        },
        "required": ["input"],
    });
    // Children are begun once, whatever happens.
    ToolSpec::new(format!("{AGENT_PREFIX}{name}"), does, schema).effect(Effect::Keyed)
}

fn agent_answer(outcome: &ChildOutcome) -> ToolAnswer {
    if let Some(error) = &outcome.error {
        return ToolAnswer::failed(error.to_string());
    }
    match outcome.output.to::<Value>() {
        Ok(Value::String(text)) => ToolAnswer::text(text),
        Ok(data) => ToolAnswer::data(data),
        Err(_) => ToolAnswer::default(),
    }
}
