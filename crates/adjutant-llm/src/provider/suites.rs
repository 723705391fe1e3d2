//! Every form that a provider can have, and every adapter that a provider known by name has, against the same suite.

use genai::adapter::AdapterKind;

use super::{Adapter, Connection, Provider};
use crate::{LanguageModel, Secret, Timeouts, Wire, conformance::Subject};

struct Ours(Wire, AdapterKind);

impl Subject for Ours {
    fn wire(&self) -> Wire {
        self.0
    }

    fn connect(&self, base_url: &str, timeouts: Timeouts) -> Box<dyn LanguageModel> {
        let connection = Connection {
            name: "fake".to_owned(),
            wire: self.0,
            base_url: base_url.to_owned(),
            key: Some(Secret::new("test-key")),
            headers: Vec::new(),
            proxy: None,
            timeouts,
            reasoning: None,
        };
        Box::new(Provider::with_adapter(connection, Adapter::One(self.1)).unwrap())
    }
}

fn form(wire: Wire) -> Ours {
    Ours(wire, wire.adapter())
}

fn known(name: &str) -> Ours {
    let known = crate::config::known::known(name).unwrap();
    Ours(known.wire, known.adapter)
}

crate::suite!(openai, form(Wire::Openai));
crate::suite!(openai_responses, form(Wire::OpenaiResponses));
crate::suite!(anthropic, form(Wire::Anthropic));
crate::suite!(gemini, form(Wire::Gemini));

// The other known names differ from OpenAI's form in one case each, by design of their adapters: groq and xai count usage in a
// way of their own, fireworks and deepseek have rules of their own for the names of models.
crate::suite!(openrouter, known("openrouter"));
crate::suite!(mistral, known("mistral"));
crate::suite!(together, known("together"));
