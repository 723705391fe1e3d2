//! OpenAI's chat completions.

use adjutant_core::FinishReason;
use serde_json::{Value, json};

use super::{Answer, Events, data, halves};

pub(super) fn events(answer: &Answer) -> Events {
    let mut body = vec![choice(&json!({"role": "assistant", "content": ""}), None)];
    if let Some((thoughts, _)) = &answer.thoughts {
        body.push(choice(&json!({"reasoning_content": thoughts}), None));
    }
    for piece in &answer.text {
        body.push(choice(&json!({"content": piece}), None));
    }
    // The calls begin one after the other and go on in turns, as they do when they are parallel.
    for (index, call) in answer.calls.iter().enumerate() {
        let function = json!({"name": call.name, "arguments": ""});
        let head = json!({"index": index, "id": call.id, "type": "function", "function": function});
        body.push(choice(&json!({"tool_calls": [head]}), None));
    }
    for half in 0..2 {
        for (index, call) in answer.calls.iter().enumerate() {
            let arguments = &halves(&call.arguments)[half];
            let piece = json!({"index": index, "function": {"arguments": arguments}});
            body.push(choice(&json!({"tool_calls": [piece]}), None));
        }
    }
    let usage = &answer.usage;
    let usage = json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens.unwrap_or(0)},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens.unwrap_or(0)},
    });
    let reason = match answer.stop {
        FinishReason::Other => "stop",
        stop => stop.as_str(),
    };
    let end = vec![
        choice(&json!({}), Some(reason)),
        chunk(&json!([]), &usage),
        "data: [DONE]\n\n".to_owned(),
    ];
    Events { body, end }
}

fn choice(delta: &Value, finish_reason: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    chunk(&json!([choice]), &Value::Null)
}

fn chunk(choices: &Value, usage: &Value) -> String {
    data(&json!({
        "id": "answer_1", "object": "chat.completion.chunk", "created": 1, "model": "m-1",
        "choices": choices, "usage": usage,
    }))
}
