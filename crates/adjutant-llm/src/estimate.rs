//! How many tokens a call may take, before anybody has counted.

use adjutant_core::{Content, ContentPart, Message, ModelRequest};

/// Bytes of text that are about one token.
const BYTES_PER_TOKEN: usize = 4;

/// What one image is about.
const TOKENS_PER_IMAGE: usize = 1000;

/// Length of an answer whose request sets no limit.
const DEFAULT_OUTPUT: u64 = 1024;

/// About how many tokens a request and its answer take: four bytes are a token, an image is 1000, an answer without limit
/// 1024. For reservations that are corrected afterwards, not for accounts.
#[must_use]
pub fn estimate_tokens(request: &ModelRequest) -> u64 {
    estimate_input_tokens(request) + request.max_output_tokens.map_or(DEFAULT_OUTPUT, u64::from)
}

/// The part of [`estimate_tokens`] that is sent.
#[must_use]
pub fn estimate_input_tokens(request: &ModelRequest) -> u64 {
    let messages: usize = request.messages.iter().map(message).sum();
    let tools: usize = request
        .tools
        .iter()
        .map(|tool| tool.name.len() + tool.description.len() + tool.input_schema.len())
        .sum();
    (messages + tools.div_ceil(BYTES_PER_TOKEN)) as u64
}

fn message(message: &Message) -> usize {
    let calls: usize = message
        .tool_calls
        .iter()
        .map(|call| call.name.len() + call.arguments.len())
        .sum();
    let content = match &message.content {
        Content::Text(text) => text.len().div_ceil(BYTES_PER_TOKEN),
        Content::Parts(parts) => parts.iter().map(part).sum(),
    };
    content + calls.div_ceil(BYTES_PER_TOKEN)
}

fn part(part: &ContentPart) -> usize {
    match part {
        ContentPart::Text { text } => text.len().div_ceil(BYTES_PER_TOKEN),
        ContentPart::Image { .. } => TOKENS_PER_IMAGE,
        ContentPart::Data { data } => data.to_string().len().div_ceil(BYTES_PER_TOKEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_holds_text_and_the_longest_answer() {
        let request = ModelRequest {
            messages: vec![Message::user("x".repeat(400))],
            max_output_tokens: Some(50),
            ..ModelRequest::default()
        };
        assert_eq!(estimate_input_tokens(&request), 100);
        assert_eq!(estimate_tokens(&request), 150);
    }
}
