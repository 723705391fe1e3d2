//! What a test says of a run before it begins.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use adjutant_core::{AgentKey, ConversationId, Decision, ErrorInfo, Json, Message, RunInput};

use super::{TestContext, host::MockHost};

/// Stands in for a child agent.
pub(super) type Child = Arc<dyn Fn(&RunInput) -> Result<Json, ErrorInfo> + Send + Sync>;

/// What comes to the run from outside.
#[derive(Default)]
pub(super) struct Script {
    pub signals: VecDeque<(String, Json)>,
    pub decisions: BTreeMap<String, VecDeque<Decision>>,
    pub children: BTreeMap<AgentKey, Child>,
}

/// Describes a [`TestContext`].
#[derive(Default)]
#[must_use = "a description does nothing until it is built"]
pub struct TestContextBuilder {
    input: RunInput,
    metadata: Json,
    state: Option<Json>,
    script: Script,
}

impl TestContextBuilder {
    /// The whole input, in place of what was said of it before.
    pub fn input(mut self, input: RunInput) -> Self {
        self.input = input;
        self
    }

    /// Adds a message to the input.
    pub fn message(mut self, message: Message) -> Self {
        self.input.messages.push(message);
        self
    }

    /// The input's data.
    pub fn data(mut self, data: impl Into<Json>) -> Self {
        self.input.data = data.into();
        self
    }

    /// The run's settings.
    pub fn params(mut self, params: impl Into<Json>) -> Self {
        self.input.params = params.into();
        self
    }

    /// The conversation that the run belongs to.
    pub fn conversation(mut self, id: ConversationId) -> Self {
        self.input.conversation_id = Some(id);
        self
    }

    /// What the submitter attached.
    pub fn metadata(mut self, metadata: impl Into<Json>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// A checkpoint that an earlier attempt has left.
    pub fn state(mut self, state: impl Into<Json>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// A signal that is there when it is waited for.
    pub fn signal(mut self, name: &str, payload: impl Into<Json>) -> Self {
        self.script
            .signals
            .push_back((name.to_owned(), payload.into()));
        self
    }

    /// The next answer to the approval request with this key.
    pub fn decision(mut self, key: &str, decision: Decision) -> Self {
        let answers = self.script.decisions.entry(key.to_owned()).or_default();
        answers.push_back(decision);
        self
    }

    /// Says yes to the approval request with this key.
    pub fn approve(self, key: &str) -> Self {
        self.decision(key, plain(true))
    }

    /// Says no to the approval request with this key.
    pub fn deny(self, key: &str) -> Self {
        self.decision(key, plain(false))
    }

    /// Stands in for the child runs of an agent.
    pub fn child<F>(mut self, agent: impl Into<AgentKey>, outcome: F) -> Self
    where
        F: Fn(&RunInput) -> Result<Json, ErrorInfo> + Send + Sync + 'static,
    {
        self.script.children.insert(agent.into(), Arc::new(outcome));
        self
    }

    /// The run, before its first attempt.
    #[must_use]
    pub fn build(self) -> TestContext {
        // An input of these types always has a JSON form.
        let input = Json::from_value(&self.input).unwrap_or_default();
        let conversation = self.input.conversation_id;
        let host = MockHost::new(input, conversation, self.metadata, self.state, self.script);
        TestContext {
            host: Arc::new(host),
        }
    }
}

fn plain(approved: bool) -> Decision {
    Decision {
        approved,
        by: None,
        comment: None,
        data: Json::null(),
        expired: false,
    }
}
