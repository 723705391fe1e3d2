//! Anthropic's messages.

use adjutant_core::FinishReason;
use serde_json::{Value, json};

use super::{Answer, Events, halves, named};

pub(super) fn events(answer: &Answer) -> Events {
    let usage = &answer.usage;
    let cached = usage.cache_read_tokens.unwrap_or(0);
    let written = usage.cache_write_tokens.unwrap_or(0);
    let start = json!({"type": "message_start", "message": {
        "id": "answer_1", "type": "message", "role": "assistant", "model": "m-1", "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": {
            // Anthropic counts what came from its cache apart.
            "input_tokens": usage.input_tokens - cached - written,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": written,
            "output_tokens": 1,
        },
    }});
    let mut body = vec![
        named("message_start", &start),
        named("ping", &json!({"type": "ping"})),
    ];
    let mut index = 0;
    let mut block = |kind: &Value, deltas: &[Value]| {
        let start = json!({"type": "content_block_start", "index": index, "content_block": kind});
        body.push(named("content_block_start", &start));
        for delta in deltas {
            let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
            body.push(named("content_block_delta", &delta));
        }
        let stop = json!({"type": "content_block_stop", "index": index});
        body.push(named("content_block_stop", &stop));
        index += 1;
    };
    if let Some((thoughts, signature)) = &answer.thoughts {
        let deltas = [
            json!({"type": "thinking_delta", "thinking": thoughts}),
            json!({"type": "signature_delta", "signature": signature}),
        ];
        block(
            &json!({"type": "thinking", "thinking": "", "signature": ""}),
            &deltas,
        );
    }
    if !answer.text.is_empty() {
        let piece = |text| json!({"type": "text_delta", "text": text});
        let deltas: Vec<_> = answer.text.iter().map(piece).collect();
        block(&json!({"type": "text", "text": ""}), &deltas);
    }
    for call in &answer.calls {
        let piece = |half| json!({"type": "input_json_delta", "partial_json": half});
        let head = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
        block(&head, &halves(&call.arguments).map(piece));
    }
    let reason = match answer.stop {
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
        FinishReason::Stop | FinishReason::Other => "end_turn",
    };
    let mut total = json!({"output_tokens": usage.output_tokens});
    if let Some(reasoning) = usage.reasoning_tokens {
        total["output_tokens_details"] = json!({"thinking_tokens": reasoning});
    }
    let delta = json!({"stop_reason": reason, "stop_sequence": null});
    let end = vec![
        named(
            "message_delta",
            &json!({"type": "message_delta", "delta": delta, "usage": total}),
        ),
        named("message_stop", &json!({"type": "message_stop"})),
    ];
    Events { body, end }
}
