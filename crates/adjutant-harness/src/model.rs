//! A model call as a step.

use std::{pin::pin, time::Duration};

use adjutant_budget::Amount;
use adjutant_core::{
    AgentError, DeltaSink, EventType, HostStep, Json, ModelCall, ModelDelta, ModelRequest,
    ModelResponse, StepKind, Usage,
};
use adjutant_llm::{Cost, LanguageModel, estimate_tokens};
use adjutant_telemetry::Failure;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::{
    deltas::{GATHER, Gathered},
    host::EquippedHost,
    policy::OnExceeded,
    purse::Held,
};

/// Time for one model call, unless the equipment says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// What the keys of calls begin with that are named after their content, as the endpoint names them.
const BY_CONTENT: &str = "llm:";

/// What is reserved for an answer whose length the request does not bound, in tokens.
const ASSUMED_OUTPUT: u32 = 4096;

impl EquippedHost {
    pub async fn ask_model(
        &self,
        call: ModelCall,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse, AgentError> {
        let on_exceeded = self.equipment.budget.on_exceeded;
        self.ask_model_or(on_exceeded, call, deltas).await
    }

    /// Asks the model, with this policy for a lack of room.
    pub async fn ask_model_or(
        &self,
        on_exceeded: OnExceeded,
        call: ModelCall,
        mut deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse, AgentError> {
        let Some(model) = self.equipment.models.clone() else {
            return self.inner.generate(call, deltas).await;
        };
        let request = self.complete(call.request)?;
        let step = self.next_model_step(&call.key);
        self.check_time().await?;
        let mut held = None;
        if !self.inner.is_recorded(&step) {
            held = self.afford(on_exceeded, &step, self.most(&request)).await?;
        }
        let host_step = HostStep {
            input: Json::from_value(&request)?.fingerprint(),
            timeout: Some(self.equipment.model_timeout.unwrap_or(DEFAULT_TIMEOUT)),
            description: Some(request.model.clone()),
            ..HostStep::new(step.clone(), StepKind::Model)
        };
        let mut executed = false;
        let recorded = {
            let (request, step, held) = (&request, step.as_str(), held.as_ref());
            let (executed, deltas, model) = (&mut executed, &mut deltas, &*model);
            self.inner
                .step(host_step, &mut |_| {
                    *executed = true;
                    // Tried once, so the sink is there.
                    let deltas = deltas.take();
                    Box::pin(async move {
                        let response = self.execute(model, request, step, held, deltas).await?;
                        Ok(Json::from_value(&response)?)
                    })
                })
                .await
        };
        if let (false, Some(held), Some(purse)) = (executed, &held, &self.purse) {
            purse.settle(held, Amount::ZERO).await?;
        }
        let response: ModelResponse = recorded?.to()?;
        self.used(usage(&response));
        Ok(response)
    }

    /// The name of a call. Of those that are named after their content, a number may be missing, since its client went away
    /// before there was an answer: then the next one that has an answer is as good.
    fn next_model_step(&self, key: &str) -> String {
        let mut step = self.names.next(key);
        if !key.starts_with(BY_CONTENT) || self.inner.is_recorded(&step) {
            return step;
        }
        while self.inner.is_recorded(&self.names.peek(key)) {
            step = self.names.next(key);
        }
        step
    }

    /// The request with what the agent left to its equipment.
    fn complete(&self, mut request: ModelRequest) -> Result<ModelRequest, AgentError> {
        if request.model.is_empty() {
            request.model.clone_from(&self.equipment.model);
        }
        if request.model.is_empty() {
            return Err(AgentError::permanent(
                "model_unavailable",
                "no model is named; set `model` in the agent's manifest or in the request",
            ));
        }
        Ok(request)
    }

    async fn execute(
        &self,
        model: &dyn LanguageModel,
        request: &ModelRequest,
        step: &str,
        held: Option<&Held>,
        mut deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse, AgentError> {
        let mut span = self.scope.as_ref().map(|scope| scope.chat(request));
        let late;
        let held = match held {
            Some(held) => Some(held),
            // A person has it executed again.
            None => {
                late = self
                    .afford(OnExceeded::Fail, step, self.most(request))
                    .await?;
                late.as_ref()
            }
        };
        let result = {
            let mut watch = |delta: ModelDelta| {
                if let Some(span) = &mut span {
                    span.first_chunk();
                }
                if let Some(deltas) = &mut deltas {
                    deltas(delta);
                }
            };
            self.generate_and_tell(model, request, step, &mut watch)
                .await
        };
        if let Some(span) = span {
            match &result {
                Ok(response) => span.end(Ok(response)),
                Err(error) => span.end(Err(Failure {
                    kind: error.kind.failure_kind(),
                    message: &error.message,
                })),
            }
        }
        if let (Some(held), Some(purse)) = (held, &self.purse) {
            let actual = match &result {
                Ok(response) => spent(response),
                // What may have been charged stays reserved at its most: nobody knows better.
                Err(error) if error.may_be_charged => held.amount,
                Err(_) => Amount::ZERO,
            };
            for warning in purse.settle(held, actual).await? {
                self.note(EventType::BudgetWarning, json!(warning));
            }
        }
        let response = result.map_err(AgentError::from)?;
        let text = response.message.text();
        if !text.is_empty() {
            let payload = json!({ "role": "assistant", "content": text, "step_name": step });
            self.note(EventType::AssistantMessage, payload);
        }
        Ok(response)
    }

    /// Makes the call, and meanwhile tells the run's watchers what comes.
    async fn generate_and_tell(
        &self,
        model: &dyn LanguageModel,
        request: &ModelRequest,
        step: &str,
        deltas: &mut DeltaSink<'_>,
    ) -> adjutant_llm::Result<ModelResponse> {
        let gathered = std::sync::Mutex::new(Gathered::default());
        let next = || {
            let mut gathered = gathered
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            gathered.event(step)
        };
        let mut sink = |delta: ModelDelta| {
            let mut kept = gathered
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            kept.add(&delta);
            drop(kept);
            deltas(delta);
        };
        let mut answer = pin!(model.generate(request, Some(&mut sink)));
        let mut tick = tokio::time::interval(GATHER);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let result = loop {
            tokio::select! {
                biased;
                result = &mut answer => break result,
                _ = tick.tick() => {}
            }
            if let Some(event) = next() {
                // If it cannot be written, neither can the step, and that says so.
                let _told = self.inner.emit(event).await;
            }
        };
        while let Some(event) = next() {
            self.inner.note(event);
        }
        result
    }

    /// The most that this request can come to.
    fn most(&self, request: &ModelRequest) -> Amount {
        let output = request.max_output_tokens.unwrap_or(ASSUMED_OUTPUT);
        let bounded = ModelRequest {
            max_output_tokens: Some(output),
            ..request.clone()
        };
        let prices = self.equipment.prices.as_ref();
        Amount {
            tokens: estimate_tokens(&bounded),
            micro_usd: prices
                .and_then(|prices| prices.micro_usd(&bounded))
                .unwrap_or_default(),
            model_calls: 1,
            ..Amount::ZERO
        }
    }
}

fn spent(response: &ModelResponse) -> Amount {
    Amount {
        tokens: response.usage.input_tokens + response.usage.output_tokens,
        micro_usd: response
            .cost_usd
            .map_or(0, |usd| Cost::from_usd(usd).micro_usd()),
        model_calls: 1,
        ..Amount::ZERO
    }
}

fn usage(response: &ModelResponse) -> Usage {
    Usage {
        input_tokens: response.usage.input_tokens,
        output_tokens: response.usage.output_tokens,
        cached_tokens: response.usage.cache_read_tokens.unwrap_or_default(),
        model_calls: 1,
        cost_usd: response.cost_usd,
        ..Usage::default()
    }
}
