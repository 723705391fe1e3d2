//! Conversations that grow too long.

use adjutant_core::{AgentError, Message, ModelCall, ModelRequest, Role};
use adjutant_llm::estimate_input_tokens;

use super::{Compaction, Conversation};

/// What the model is asked to do with the older half of a conversation.
const SUM_UP: &str = "Sum up the conversation so far for somebody who takes over: what was asked, what was found out and where, \
                      what was decided, and what is left to do. Keep names, numbers and paths exact. Leave nothing out that \
                      is still needed.";

impl Conversation<'_> {
    /// Shortens the conversation if it is too long.
    pub(super) async fn make_room(&mut self) -> Result<(), AgentError> {
        let limit = u64::from(self.spec.context.max_tokens.get());
        let tokens = estimate_input_tokens(&self.request(true));
        if tokens <= limit {
            return Ok(());
        }
        match self.spec.context.when_full {
            Compaction::Fail => Err(too_long(tokens, limit)),
            Compaction::DropOldest => self.drop_oldest(limit),
            Compaction::Summarize => self.summarize(tokens, limit).await,
        }
    }

    fn drop_oldest(&mut self, limit: u64) -> Result<(), AgentError> {
        loop {
            let tokens = estimate_input_tokens(&self.request(true));
            if tokens <= limit {
                return Ok(());
            }
            let turns = self.turns();
            let [first, next, ..] = turns.as_slice() else {
                return Err(too_long(tokens, limit));
            };
            self.messages.drain(*first..*next);
        }
    }

    async fn summarize(&mut self, tokens: u64, limit: u64) -> Result<(), AgentError> {
        let turns = self.turns();
        if turns.len() < 2 {
            return Err(too_long(tokens, limit));
        }
        let until = turns[turns.len() / 2];
        let mut messages = self.messages[..until].to_vec();
        messages.push(Message::user(SUM_UP));
        let call = ModelCall {
            key: "compact".to_owned(),
            request: ModelRequest {
                messages,
                response_format: adjutant_core::ResponseFormat::Text,
                ..self.spec.settings.clone()
            },
        };
        let summary = self.ctx.host().generate(call, None).await?;
        let text = format!("What was done so far:\n{}", summary.message.text());
        let replaced = self.given..until;
        self.messages.splice(replaced, [Message::user(text)]);
        // The newer half may be too long by itself.
        self.drop_oldest(limit)
    }

    /// Where turns begin, after what was given: each with an assistant's message, its tools' answers behind it, or with
    /// a message of the user's.
    fn turns(&self) -> Vec<usize> {
        let later = self.messages.iter().enumerate().skip(self.given);
        let begins = later.filter(|(_, message)| message.role != Role::Tool);
        begins.map(|(at, _)| at).collect()
    }
}

fn too_long(tokens: u64, limit: u64) -> AgentError {
    let message = format!(
        "the conversation has about {tokens} tokens and `context.max_tokens` is {limit}; raise it, or set `context.when_full`"
    );
    AgentError::permanent("context_too_long", message)
}
