//! What each dialect's requests and answers turn into.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "these are tests"
)]

mod common;

use adjutant_core::{
    Content, ContentPart, FinishReason, Message, ModelRequest, ResponseFormat, Role, ToolChoice,
};
use adjutant_endpoint::{Endpoint, EndpointOptions, Grant};
use common::{Host, events};
use serde_json::{Value, json};
use std::sync::Arc;

struct Desk {
    host: Arc<Host>,
    url: String,
    grant: Grant,
    _endpoint: Endpoint,
}

impl Desk {
    async fn new() -> Self {
        let host = Host::new();
        let endpoint = Endpoint::start(EndpointOptions::default()).await.unwrap();
        Self {
            grant: endpoint.grant(host.context()),
            url: format!("http://{}", endpoint.address()),
            host,
            _endpoint: endpoint,
        }
    }

    async fn text(&self, path: &str, body: &Value) -> String {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("{}{path}", self.url)).json(body);
        let response = request
            .bearer_auth(self.grant.token())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
        response.text().await.unwrap()
    }

    async fn ask(&self, path: &str, body: &Value) -> Value {
        serde_json::from_str(&self.text(path, body).await).unwrap()
    }

    async fn stream(&self, path: &str, body: &Value) -> Vec<(Option<String>, Value)> {
        let mut body = body.clone();
        body["stream"] = json!(true);
        events(&self.text(path, &body).await)
    }

    /// What the host is asked when the client sends this.
    async fn request(&self, path: &str, body: &Value) -> ModelRequest {
        self.ask(path, body).await;
        self.host.last_request()
    }
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

fn schema() -> Value {
    json!({ "type": "object", "properties": { "city": { "type": "string" } } })
}

/// One conversation in the words of each dialect.
fn conversation(path: &str) -> Value {
    match path {
        CHAT => json!({
            "model": "m", "max_tokens": 50, "temperature": 0.5,
            "tools": [{ "type": "function", "function": { "name": "weather", "description": "W", "parameters": schema() } }],
            "tool_choice": "required",
            "messages": [
                { "role": "system", "content": "be brief" },
                { "role": "user", "content": [
                    { "type": "text", "text": "look" },
                    { "type": "image_url", "image_url": { "url": "data:image/png;base64,AQID" } } ] },
                { "role": "assistant", "content": "ok", "tool_calls": [
                    { "id": "c1", "type": "function", "function": { "name": "weather", "arguments": "{\"city\": \"Paris\"}" } } ] },
                { "role": "tool", "tool_call_id": "c1", "content": "sunny" },
                { "role": "user", "content": "and now?" },
            ],
        }),
        RESPONSES => json!({
            "model": "m", "max_output_tokens": 50, "temperature": 0.5, "store": false,
            "instructions": "be brief",
            "tools": [{ "type": "function", "name": "weather", "description": "W", "parameters": schema() }],
            "tool_choice": "required",
            "input": [
                { "role": "user", "content": [
                    { "type": "input_text", "text": "look" },
                    { "type": "input_image", "image_url": "data:image/png;base64,AQID" } ] },
                { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "ok" }] },
                { "type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"city\":\"Paris\"}" },
                { "type": "function_call_output", "call_id": "c1", "output": "sunny" },
                { "role": "user", "content": "and now?" },
            ],
        }),
        _ => json!({
            "model": "m", "max_tokens": 50, "temperature": 0.5,
            "system": [{ "type": "text", "text": "be brief", "cache_control": { "type": "ephemeral" } }],
            "tools": [{ "name": "weather", "description": "W", "input_schema": schema() }],
            "tool_choice": { "type": "any" },
            "messages": [
                { "role": "user", "content": [
                    { "type": "text", "text": "look" },
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AQID" } } ] },
                { "role": "assistant", "content": [
                    { "type": "text", "text": "ok" },
                    { "type": "tool_use", "id": "c1", "name": "weather", "input": { "city": "Paris" } } ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "c1", "content": "sunny" },
                    { "type": "text", "text": "and now?" } ] },
            ],
        }),
    }
}

#[tokio::test]
async fn the_same_conversation_is_the_same_request_in_every_dialect() {
    let desk = Desk::new().await;
    let request = desk.request(CHAT, &conversation(CHAT)).await;
    assert_eq!(request.messages[0].role, Role::System);
    let Content::Parts(parts) = &request.messages[1].content else {
        panic!("{request:?}");
    };
    let image = ContentPart::Image {
        data: "AQID".into(),
        mime_type: "image/png".into(),
    };
    assert_eq!(parts[1], image);
    assert_eq!(
        request.messages[2].tool_calls[0].arguments.as_str(),
        r#"{"city":"Paris"}"#
    );
    assert_eq!(request.messages[3].tool_call_id.as_deref(), Some("c1"));
    assert_eq!(request.messages[4], Message::user("and now?"));
    assert_eq!(request.tool_choice, ToolChoice::Required);
    assert_eq!(
        (request.max_output_tokens, request.temperature),
        (Some(50), Some(0.5))
    );
    assert_eq!(request.tools[0].name, "weather");
    assert!(request.extra.is_null());
    for path in [RESPONSES, MESSAGES] {
        assert_eq!(
            desk.request(path, &conversation(path)).await,
            request,
            "{path}"
        );
    }
    let keys: Vec<_> = desk
        .host
        .calls
        .lock()
        .unwrap()
        .iter()
        .map(|call| call.key.clone())
        .collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn structured_output_and_a_named_tool_are_asked_for() {
    let desk = Desk::new().await;
    let format = ResponseFormat::JsonSchema {
        name: "place".into(),
        schema: schema(),
    };
    let chat = json!({
        "model": "m", "messages": [{ "role": "user", "content": "x" }], "seed": 7, "stop": "END",
        "tool_choice": { "type": "function", "function": { "name": "t" } }, "user": "u",
        "response_format": { "type": "json_schema", "json_schema": { "name": "place", "schema": schema() } },
    });
    let request = desk.request(CHAT, &chat).await;
    assert_eq!(request.response_format, format);
    assert_eq!(request.tool_choice, ToolChoice::Tool("t".into()));
    assert_eq!(
        (request.seed, request.stop),
        (Some(7), vec!["END".to_owned()])
    );
    assert_eq!(request.extra.as_str(), r#"{"user":"u"}"#);
    let responses = json!({
        "model": "m", "input": "x", "reasoning": { "effort": "low" },
        "tool_choice": { "type": "function", "name": "t" },
        "text": { "format": { "type": "json_schema", "name": "place", "schema": schema() } },
    });
    let request = desk.request(RESPONSES, &responses).await;
    assert_eq!(request.response_format, format);
    assert_eq!(request.tool_choice, ToolChoice::Tool("t".into()));
    assert_eq!(request.reasoning_effort.as_deref(), Some("low"));
    let messages = json!({
        "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }], "top_k": 4,
        "tool_choice": { "type": "tool", "name": "t" },
        "output_config": { "format": { "type": "json_schema", "schema": schema() } },
    });
    let request = desk.request(MESSAGES, &messages).await;
    assert!(matches!(
        request.response_format,
        ResponseFormat::JsonSchema { .. }
    ));
    assert_eq!(request.tool_choice, ToolChoice::Tool("t".into()));
    assert_eq!(request.extra.as_str(), r#"{"top_k":4}"#);
}

fn asking(path: &str) -> Value {
    match path {
        RESPONSES => json!({ "model": "m", "input": "call weather" }),
        _ => {
            json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "call weather" }] })
        }
    }
}

/// Text and calls of a whole answer.
fn seen(path: &str, answer: &Value) -> (String, Vec<(String, Value)>) {
    let parse = |text: &Value| serde_json::from_str(text.as_str().unwrap()).unwrap();
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    let mut text = String::new();
    let mut calls = Vec::new();
    match path {
        CHAT => {
            let message = &answer["choices"][0]["message"];
            text.push_str(message["content"].as_str().unwrap());
            for call in message["tool_calls"].as_array().unwrap() {
                calls.push((id(&call["id"]), parse(&call["function"]["arguments"])));
            }
        }
        RESPONSES => {
            for item in answer["output"].as_array().unwrap() {
                match item["type"].as_str().unwrap() {
                    "message" => text.push_str(item["content"][0]["text"].as_str().unwrap()),
                    "function_call" => {
                        calls.push((id(&item["call_id"]), parse(&item["arguments"])));
                    }
                    other => assert_eq!(other, "reasoning"),
                }
            }
        }
        _ => {
            for block in answer["content"].as_array().unwrap() {
                match block["type"].as_str().unwrap() {
                    "text" => text.push_str(block["text"].as_str().unwrap()),
                    "tool_use" => calls.push((id(&block["id"]), block["input"].clone())),
                    other => assert!(other.ends_with("thinking")),
                }
            }
        }
    }
    (text, calls)
}

fn wanted() -> (String, Vec<(String, Value)>) {
    let calls = [("call_a", "Paris"), ("call_b", "Rome")];
    let calls = calls.map(|(id, city)| (id.to_owned(), json!({ "city": city })));
    ("one moment".to_owned(), calls.to_vec())
}

#[tokio::test]
async fn a_whole_answer_has_text_calls_and_figures() {
    let desk = Desk::new().await;
    for path in [CHAT, RESPONSES, MESSAGES] {
        let answer = desk.ask(path, &asking(path)).await;
        assert_eq!(seen(path, &answer), wanted(), "{answer}");
        let (figures, reason) = match path {
            CHAT => (
                json!([11, 7, 3]),
                answer["choices"][0]["finish_reason"].clone(),
            ),
            RESPONSES => (json!([11, 7, 3]), answer["status"].clone()),
            _ => (json!([8, 7, 3]), answer["stop_reason"].clone()),
        };
        let usage = &answer["usage"];
        let found = match path {
            CHAT => json!([
                usage["prompt_tokens"],
                usage["completion_tokens"],
                usage["prompt_tokens_details"]["cached_tokens"]
            ]),
            RESPONSES => json!([
                usage["input_tokens"],
                usage["output_tokens"],
                usage["input_tokens_details"]["cached_tokens"]
            ]),
            _ => json!([
                usage["input_tokens"],
                usage["output_tokens"],
                usage["cache_read_input_tokens"]
            ]),
        };
        assert_eq!(found, figures);
        assert!(["tool_calls", "completed", "tool_use"].contains(&reason.as_str().unwrap()));
    }
}

#[tokio::test]
async fn the_chunks_of_a_chat_add_up_to_the_answer() {
    let desk = Desk::new().await;
    let mut body = asking(CHAT);
    body["stream_options"] = json!({ "include_usage": true });
    let events = desk.stream(CHAT, &body).await;
    let (mut text, mut calls) = (String::new(), Vec::<(String, String)>::new());
    let mut reasons = Vec::new();
    let (done, chunks) = events.split_last().unwrap();
    let (last, chunks) = chunks.split_last().unwrap();
    for (_, chunk) in chunks {
        let choice = &chunk["choices"][0];
        text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        for call in choice["delta"]["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if let Some(id) = call["id"].as_str() {
                calls.push((id.to_owned(), String::new()));
            }
            calls[index]
                .1
                .push_str(call["function"]["arguments"].as_str().unwrap());
        }
        reasons.extend(choice["finish_reason"].as_str());
    }
    let calls = calls
        .into_iter()
        .map(|(id, text)| (id, serde_json::from_str(&text).unwrap()));
    assert_eq!((text, calls.collect()), wanted());
    assert_eq!(reasons, ["tool_calls"]);
    assert_eq!(
        (&last.1["choices"], &last.1["usage"]["total_tokens"]),
        (&json!([]), &json!(18))
    );
    assert_eq!(done.1, "[DONE]");
}

#[tokio::test]
async fn the_events_of_a_response_add_up_to_the_answer_that_ends_them() {
    let desk = Desk::new().await;
    let events = desk.stream(RESPONSES, &asking(RESPONSES)).await;
    for (place, (name, event)) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], place);
        assert_eq!(name.as_deref(), event["type"].as_str());
    }
    let kinds: Vec<_> = events
        .iter()
        .map(|(name, _)| name.clone().unwrap())
        .collect();
    assert_eq!(kinds[..2], ["response.created", "response.in_progress"]);
    assert_eq!(kinds.last().unwrap(), "response.completed");
    let count = |kind: &str| kinds.iter().filter(|name| *name == kind).count();
    assert_eq!(
        count("response.output_item.added"),
        count("response.output_item.done")
    );
    assert_eq!(
        count("response.content_part.added"),
        count("response.content_part.done")
    );
    let joined = |kind: &str| -> String {
        let deltas = events
            .iter()
            .filter(|(name, _)| name.as_deref() == Some(kind));
        deltas
            .map(|(_, event)| event["delta"].as_str().unwrap())
            .collect()
    };
    assert_eq!(joined("response.output_text.delta"), "one moment");
    assert_eq!(
        joined("response.function_call_arguments.delta"),
        r#"{"city":"Paris"}{"city":"Rome"}"#
    );
    let answer = &events.last().unwrap().1["response"];
    assert_eq!(seen(RESPONSES, answer), wanted());
    let whole = desk.ask(RESPONSES, &asking(RESPONSES)).await;
    let shapes = |answer: &Value| -> Vec<Value> {
        let items = answer["output"].as_array().unwrap().iter();
        items
            .map(|item| json!([item["type"], item["status"]]))
            .collect()
    };
    assert_eq!(shapes(answer), shapes(&whole));
}

#[tokio::test]
async fn the_blocks_of_a_message_open_and_close_in_order_and_add_up() {
    let desk = Desk::new().await;
    let events = desk.stream(MESSAGES, &asking(MESSAGES)).await;
    let (mut blocks, mut open) = (Vec::<(Value, String)>::new(), None);
    for (name, event) in &events {
        assert_eq!(name.as_deref(), event["type"].as_str());
        let index = event["index"].as_u64();
        match name.as_deref().unwrap() {
            "content_block_start" => {
                assert_eq!((open, index), (None, Some(blocks.len() as u64)));
                open = index;
                blocks.push((event["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                assert_eq!(index, open);
                let delta = &event["delta"];
                let more = delta["text"].as_str().or(delta["partial_json"].as_str());
                blocks.last_mut().unwrap().1.push_str(more.unwrap());
            }
            "content_block_stop" => {
                assert_eq!(index, open);
                open = None;
            }
            _ => assert_eq!(open, None),
        }
    }
    let kinds: Vec<_> = blocks
        .iter()
        .map(|(block, _)| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["text", "tool_use", "tool_use", "redacted_thinking"]);
    assert_eq!(blocks[0].1, "one moment");
    assert_eq!(blocks[1].1, r#"{"city":"Paris"}"#);
    assert_eq!(blocks[2].0["id"], "call_b");
    let end = &events[events.len() - 2].1;
    assert_eq!(
        (&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]),
        (&json!("tool_use"), &json!(7))
    );
    assert_eq!(events.last().unwrap().0.as_deref(), Some("message_stop"));
}

#[tokio::test]
async fn signed_thoughts_come_back_with_the_conversation() {
    let desk = Desk::new().await;
    let thinking =
        desk.ask(CHAT, &asking(CHAT)).await["choices"][0]["message"]["reasoning_content"].clone();
    assert_eq!(thinking, "hm");

    let answer = desk.ask(MESSAGES, &asking(MESSAGES)).await;
    let mut next = asking(MESSAGES);
    let result = json!([{ "type": "tool_result", "tool_use_id": "call_a", "content": "sunny" }]);
    next["messages"] = json!([
        { "role": "user", "content": "call weather" },
        { "role": "assistant", "content": answer["content"] },
        { "role": "user", "content": result },
    ]);
    let request = desk.request(MESSAGES, &next).await;
    assert!(request.messages[1].metadata.as_str().contains("signature"));

    let answer = desk.ask(RESPONSES, &asking(RESPONSES)).await;
    let mut input = answer["output"].as_array().unwrap().clone();
    input.push(json!({ "type": "function_call_output", "call_id": "call_a", "output": "sunny" }));
    let back = desk
        .request(RESPONSES, &json!({ "model": "m", "input": input }))
        .await;
    assert_eq!(back.messages, request.messages[1..]);
    assert_eq!(FinishReason::ToolCalls.as_str(), "tool_calls");
}
