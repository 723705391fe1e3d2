//! OpenAI's responses.

use adjutant_core::FinishReason;
use serde_json::{Value, json};

use super::{Answer, Events, data, halves};

pub(super) fn events(answer: &Answer) -> Events {
    let mut body = vec![data(
        &json!({"type": "response.created", "sequence_number": 0,
            "response": response("in_progress", &json!([]), &Value::Null, &Value::Null)}),
    )];
    let mut output = Vec::new();
    if let Some((thoughts, signature)) = &answer.thoughts {
        let item = json!({"type": "reasoning", "id": "rs_1", "encrypted_content": signature,
            "summary": [{"type": "summary_text", "text": thoughts}]});
        body.push(item_event(
            "added",
            0,
            &json!({"type": "reasoning", "id": "rs_1", "summary": []}),
        ));
        body.push(data(
            &json!({"type": "response.reasoning_summary_text.delta", "item_id": "rs_1",
            "output_index": 0, "summary_index": 0, "delta": thoughts}),
        ));
        body.push(item_event("done", 0, &item));
        output.push(item);
    }
    if !answer.text.is_empty() {
        output.push(message(&mut body, output.len(), &answer.text));
    }
    let first = output.len();
    for (place, call) in answer.calls.iter().enumerate() {
        let index = first + place;
        let item = |arguments: &str| {
            json!({"type": "function_call", "id": format!("fc_{index}"), "call_id": call.id,
                "name": call.name, "arguments": arguments, "status": "completed"})
        };
        body.push(item_event("added", index, &item("")));
        for half in halves(&call.arguments) {
            body.push(data(
                &json!({"type": "response.function_call_arguments.delta",
                "item_id": format!("fc_{index}"), "output_index": index, "delta": half}),
            ));
        }
        let whole = item(&call.arguments.to_string());
        body.push(item_event("done", index, &whole));
        output.push(whole);
    }
    Events {
        body,
        end: vec![end(answer, &json!(output))],
    }
}

fn message(body: &mut Vec<String>, index: usize, text: &[String]) -> Value {
    let item = |content: &Value, status: &str| {
        json!({"type": "message", "id": "msg_1", "role": "assistant", "status": status,
            "content": content})
    };
    let whole = text.concat();
    let part = json!({"type": "output_text", "text": whole, "annotations": []});
    body.push(item_event("added", index, &item(&json!([]), "in_progress")));
    body.push(data(
        &json!({"type": "response.content_part.added", "item_id": "msg_1",
        "output_index": index, "content_index": 0,
        "part": {"type": "output_text", "text": "", "annotations": []}}),
    ));
    for piece in text {
        body.push(data(
            &json!({"type": "response.output_text.delta", "item_id": "msg_1",
            "output_index": index, "content_index": 0, "delta": piece}),
        ));
    }
    let whole = item(&json!([part]), "completed");
    body.push(item_event("done", index, &whole));
    whole
}

fn end(answer: &Answer, output: &Value) -> String {
    let usage = &answer.usage;
    let usage = json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens.unwrap_or(0)},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens.unwrap_or(0)},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    });
    let (status, reason) = match answer.stop {
        FinishReason::Length => ("incomplete", Some("max_output_tokens")),
        FinishReason::ContentFilter => ("incomplete", Some("content_filter")),
        _ => ("completed", None),
    };
    let details = reason.map_or(Value::Null, |reason| json!({"reason": reason}));
    data(
        &json!({"type": format!("response.{status}"), "sequence_number": 99,
        "response": response(status, output, &usage, &details)}),
    )
}

fn response(status: &str, output: &Value, usage: &Value, details: &Value) -> Value {
    json!({
        "id": "answer_1", "object": "response", "created_at": 1, "status": status, "model": "m-1",
        "error": null, "incomplete_details": details, "output": output, "usage": usage,
    })
}

fn item_event(what: &str, index: usize, item: &Value) -> String {
    let kind = format!("response.output_item.{what}");
    data(&json!({"type": kind, "output_index": index, "item": item}))
}
