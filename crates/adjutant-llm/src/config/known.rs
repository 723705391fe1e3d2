//! Providers that need no configuration beyond a key.

use genai::adapter::AdapterKind;
use serde::{Deserialize, Serialize};

/// What is spoken with a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    /// OpenAI's chat completions; what nearly every server speaks.
    Openai,
    /// OpenAI's responses.
    OpenaiResponses,
    /// Anthropic's messages.
    Anthropic,
    /// Google's `generateContent`.
    Gemini,
}

impl Wire {
    /// The stable text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::OpenaiResponses => "openai_responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    pub(crate) const fn adapter(self) -> AdapterKind {
        match self {
            Self::Openai => AdapterKind::OpenAI,
            Self::OpenaiResponses => AdapterKind::OpenAIResp,
            Self::Anthropic => AdapterKind::Anthropic,
            Self::Gemini => AdapterKind::Gemini,
        }
    }
}

/// A provider that is known by name.
pub(crate) struct Known {
    pub name: &'static str,
    pub wire: Wire,
    /// The library's adapter, which knows the provider's oddities.
    pub adapter: AdapterKind,
    pub base_url: &'static str,
    /// The usual variable with the key; none where no key is needed.
    pub key: Option<&'static str>,
}

pub(crate) fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

pub(crate) fn known_names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name)
}

const fn row(
    name: &'static str,
    wire: Wire,
    adapter: AdapterKind,
    base_url: &'static str,
    key: &'static str,
) -> Known {
    Known {
        name,
        wire,
        adapter,
        base_url,
        key: Some(key),
    }
}

const fn local(name: &'static str, base_url: &'static str) -> Known {
    Known {
        name,
        wire: Wire::Openai,
        adapter: AdapterKind::OpenAI,
        base_url,
        key: None,
    }
}

const KNOWN: &[Known] = &[
    row(
        "openai",
        Wire::Openai,
        AdapterKind::OpenAI,
        "https://api.openai.com/v1/",
        "OPENAI_API_KEY",
    ),
    row(
        "openai-responses",
        Wire::OpenaiResponses,
        AdapterKind::OpenAIResp,
        "https://api.openai.com/v1/",
        "OPENAI_API_KEY",
    ),
    row(
        "anthropic",
        Wire::Anthropic,
        AdapterKind::Anthropic,
        "https://api.anthropic.com/v1/",
        "ANTHROPIC_API_KEY",
    ),
    row(
        "gemini",
        Wire::Gemini,
        AdapterKind::Gemini,
        "https://generativelanguage.googleapis.com/v1beta/",
        "GEMINI_API_KEY",
    ),
    row(
        "openrouter",
        Wire::Openai,
        AdapterKind::OpenRouter,
        "https://openrouter.ai/api/v1/",
        "OPENROUTER_API_KEY",
    ),
    row(
        "groq",
        Wire::Openai,
        AdapterKind::Groq,
        "https://api.groq.com/openai/v1/",
        "GROQ_API_KEY",
    ),
    row(
        "mistral",
        Wire::Openai,
        AdapterKind::Mistral,
        "https://api.mistral.ai/v1/",
        "MISTRAL_API_KEY",
    ),
    row(
        "deepseek",
        Wire::Openai,
        AdapterKind::DeepSeek,
        "https://api.deepseek.com/v1/",
        "DEEPSEEK_API_KEY",
    ),
    row(
        "xai",
        Wire::Openai,
        AdapterKind::Xai,
        "https://api.x.ai/v1/",
        "XAI_API_KEY",
    ),
    row(
        "together",
        Wire::Openai,
        AdapterKind::Together,
        "https://api.together.xyz/v1/",
        "TOGETHER_API_KEY",
    ),
    row(
        "fireworks",
        Wire::Openai,
        AdapterKind::Fireworks,
        "https://api.fireworks.ai/inference/v1/",
        "FIREWORKS_API_KEY",
    ),
    local("ollama", "http://127.0.0.1:11434/v1/"),
    local("vllm", "http://127.0.0.1:8000/v1/"),
    local("llamacpp", "http://127.0.0.1:8080/v1/"),
    local("lmstudio", "http://127.0.0.1:1234/v1/"),
];
