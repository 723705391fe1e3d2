//! Google's `generateContent`.

use adjutant_core::FinishReason;
use serde_json::{Value, json};

use super::{Answer, Events, data};

pub(super) fn events(answer: &Answer) -> Events {
    let mut body = Vec::new();
    let signature = answer.thoughts.as_ref().map(|(_, signature)| signature);
    if let Some((thoughts, _)) = &answer.thoughts {
        body.push(part(&json!({"text": thoughts, "thought": true})));
    }
    for piece in &answer.text {
        body.push(part(&json!({"text": piece})));
    }
    // Calls come whole, and the first one carries the signature.
    for (place, call) in answer.calls.iter().enumerate() {
        let mut whole =
            json!({"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}});
        if let (0, Some(signature)) = (place, signature) {
            whole["thoughtSignature"] = json!(signature);
        }
        body.push(part(&whole));
    }
    let usage = &answer.usage;
    let thoughts = usage.reasoning_tokens.unwrap_or(0);
    let mut counted = json!({
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - thoughts,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    });
    if thoughts > 0 {
        counted["thoughtsTokenCount"] = json!(thoughts);
    }
    if let Some(cached) = usage.cache_read_tokens {
        counted["cachedContentTokenCount"] = json!(cached);
    }
    let reason = match answer.stop {
        FinishReason::Length => "MAX_TOKENS",
        FinishReason::ContentFilter => "SAFETY",
        // A call of tools is an end like any other here.
        _ => "STOP",
    };
    let last = json!([{"content": {"role": "model", "parts": [{"text": ""}]},
        "finishReason": reason, "index": 0}]);
    let end = vec![frame(&last, &counted)];
    Events { body, end }
}

fn part(part: &Value) -> String {
    let candidates = json!([{"content": {"role": "model", "parts": [part]}, "index": 0}]);
    frame(
        &candidates,
        &json!({"promptTokenCount": 1, "totalTokenCount": 1}),
    )
}

fn frame(candidates: &Value, usage: &Value) -> String {
    data(&json!({"candidates": candidates, "usageMetadata": usage,
        "modelVersion": "m-1", "responseId": "answer_1"}))
}
