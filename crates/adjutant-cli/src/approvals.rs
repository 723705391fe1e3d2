//! Questions to people: which are open, and how they are answered.

use std::{collections::BTreeMap, sync::Arc};

use adjutant::{
    Store,
    core::{Decision, Event, EventType, Json, RunId},
    queue::Command,
};
use serde::Deserialize;

use crate::{failure::Result, tail::Tail};

/// An open question.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Question {
    pub key: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub data: Json,
    #[serde(default)]
    pub expires_at: Option<String>,
}

/// The open questions of a run, oldest first by key.
#[derive(Debug, Clone, Default)]
pub struct Questions(BTreeMap<String, Question>);

#[derive(Deserialize)]
struct Keyed {
    key: String,
}

impl Questions {
    /// Takes note of an event; a new question is the answer.
    pub fn observe(&mut self, event: &Event) -> Option<Question> {
        match event.event_type {
            EventType::ApprovalRequested => {
                let question: Question = event.payload.to().ok()?;
                self.0.insert(question.key.clone(), question.clone());
                Some(question)
            }
            EventType::ApprovalDecided | EventType::ApprovalExpired => {
                let keyed: Keyed = event.payload.to().ok()?;
                self.0.remove(&keyed.key);
                None
            }
            _ => {
                if event.event_type.is_terminal() {
                    self.0.clear();
                }
                None
            }
        }
    }

    /// The questions that are open in a run's events so far.
    pub async fn of(store: &Arc<dyn Store>, run: RunId) -> Result<Self> {
        let mut questions = Self::default();
        let mut tail = Tail::new(Arc::clone(store), run, 0);
        loop {
            let events = tail.now().await?;
            if events.is_empty() {
                return Ok(questions);
            }
            for event in &events {
                questions.observe(event);
            }
        }
    }

    /// All open questions.
    pub fn open(&self) -> impl Iterator<Item = &Question> {
        self.0.values()
    }

    /// Forgets a question that has just been answered here.
    pub fn answered(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// Answers a question. The answer is kept until the run asks for it, also over restarts.
pub async fn answer(store: &dyn Store, run: RunId, key: &str, decision: &Decision) -> Result<()> {
    let command = Command::Signal {
        name: format!("approval:{key}"),
        payload: Json::from_value(decision).unwrap_or_default(),
    };
    store.control(run, command).await?;
    Ok(())
}

/// Who answers, as far as the environment tells.
pub fn user() -> Option<String> {
    let named = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let number = || format!("user {}", rustix::process::getuid().as_raw());
    Some(named.filter(|name| !name.is_empty()).unwrap_or_else(number))
}
