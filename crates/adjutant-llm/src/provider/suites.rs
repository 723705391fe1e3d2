//! Every form that a provider can have, against the same suite.

use super::{Connection, Provider};
use crate::{LanguageModel, Secret, Timeouts, Wire, conformance::Subject};

struct Ours(Wire);

impl Subject for Ours {
    fn wire(&self) -> Wire {
        self.0
    }

    fn connect(&self, base_url: &str, timeouts: Timeouts) -> Box<dyn LanguageModel> {
        let provider = Provider::new(Connection {
            name: "fake".to_owned(),
            wire: self.0,
            base_url: base_url.to_owned(),
            key: Some(Secret::new("test-key")),
            headers: Vec::new(),
            proxy: None,
            timeouts,
            reasoning: None,
        });
        Box::new(provider.unwrap())
    }
}

crate::suite!(openai, Ours(Wire::Openai));
crate::suite!(openai_responses, Ours(Wire::OpenaiResponses));
crate::suite!(anthropic, Ours(Wire::Anthropic));
crate::suite!(gemini, Ours(Wire::Gemini));
