//! What a well-behaved provider is asked, and answers.

use adjutant_core::{
    Content, ContentPart, FinishReason, Message, ModelDelta, ModelRequest, ModelResponse,
    ResponseFormat, Role, TokenUsage, ToolChoice, ToolSpec,
};
use serde_json::{Value, json};

use super::{Answer, FakeProvider, Scene, Subject};
use crate::{Timeouts, Wire};

/// A small request.
pub(super) fn request() -> ModelRequest {
    ModelRequest {
        model: "m-1".to_owned(),
        messages: vec![
            Message::new(Role::System, "Be brief."),
            Message::user("Hello?"),
        ],
        ..ModelRequest::default()
    }
}

/// Asks a provider that answers so, and returns what came of it with what the provider heard.
async fn asked(
    subject: &dyn Subject,
    answer: Answer,
    request: &ModelRequest,
) -> (ModelResponse, Value) {
    let provider = FakeProvider::start(subject.wire(), [Scene::Answer(answer)]).await;
    let provider = provider.unwrap();
    let model = subject.connect(&provider.base_url(), Timeouts::default());
    let response = model.generate(request, None).await.unwrap();
    let heard = provider.heard().remove(0);
    (response, heard.body)
}

fn look() -> ToolSpec {
    let schema =
        json!({"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]});
    ToolSpec::new("look", "Looks at something.", schema)
}

pub async fn a_text_comes_whole(subject: &dyn Subject) {
    let (response, _) = asked(subject, Answer::text(&["Good ", "day."]), &request()).await;
    assert_eq!(response.message.text(), "Good day.");
    assert_eq!(response.finish_reason, FinishReason::Stop);
    assert_eq!(response.model, "m-1");
    assert_eq!(response.response_id.as_deref(), Some("answer_1"));
    assert!(response.message.tool_calls.is_empty());
    assert!(response.message.metadata.is_null());
}

pub async fn the_pieces_joined_are_the_text(subject: &dyn Subject) {
    let answer = Answer {
        thoughts: Some(("Hm.".into(), "sig".into())),
        ..Answer::text(&["Grüß ", "dich, ", "世界"])
    };
    let provider = FakeProvider::start(subject.wire(), [Scene::Answer(answer)]).await;
    let provider = provider.unwrap();
    let model = subject.connect(&provider.base_url(), Timeouts::default());
    let (mut text, mut reasoning, mut pieces) = (String::new(), String::new(), 0);
    let mut sink = |delta: ModelDelta| {
        pieces += 1;
        match delta {
            ModelDelta::Text { text: piece } => text.push_str(&piece),
            ModelDelta::Reasoning { text: piece } => reasoning.push_str(&piece),
            ModelDelta::ToolCall { .. } => panic!("nobody asked for tools"),
        }
    };
    let response = model.generate(&request(), Some(&mut sink)).await.unwrap();
    assert_eq!(response.message.text(), "Grüß dich, 世界");
    assert_eq!(text, response.message.text());
    assert_eq!(reasoning, "Hm.");
    assert!(pieces >= 3);
}

pub async fn usage_is_counted_with_its_parts(subject: &dyn Subject) {
    let usage = TokenUsage {
        input_tokens: 120,
        output_tokens: 45,
        cache_read_tokens: Some(100),
        cache_write_tokens: (subject.wire() == Wire::Anthropic).then_some(5),
        // Anthropic tells it only where it thinks adaptively.
        reasoning_tokens: (subject.wire() != Wire::Anthropic).then_some(30),
    };
    let answer = Answer {
        usage,
        ..Answer::text(&["ok"])
    };
    let (response, _) = asked(subject, answer, &request()).await;
    assert_eq!(response.usage, usage);
}

pub async fn tool_calls_come_with_name_and_arguments(subject: &dyn Subject) {
    let arguments = json!({"at": "the \"moon\"", "n": [1, 2]});
    let answer = Answer::calls(&[("call_a", "look", arguments.clone())]);
    let request = ModelRequest {
        tools: vec![look()],
        ..request()
    };
    let (response, _) = asked(subject, answer, &request).await;
    assert_eq!(response.finish_reason, FinishReason::ToolCalls);
    let call = &response.message.tool_calls[0];
    assert_eq!((&*call.id, &*call.name), ("call_a", "look"));
    assert_eq!(call.arguments.to::<Value>().unwrap(), arguments);
    assert_eq!(response.message.text(), "");
}

pub async fn parallel_calls_keep_their_order(subject: &dyn Subject) {
    let calls = [
        ("call_a", "look", json!({"at": "sun"})),
        ("call_b", "listen", json!({})),
        ("call_c", "look", json!({"at": "moon"})),
    ];
    let answer = Scene::Answer(Answer::calls(&calls));
    let provider = FakeProvider::start(subject.wire(), [answer]).await.unwrap();
    let model = subject.connect(&provider.base_url(), Timeouts::default());
    let mut seen = vec![(String::new(), String::new(), String::new()); 3];
    let mut sink = |delta: ModelDelta| {
        let ModelDelta::ToolCall {
            index,
            id,
            name,
            arguments,
        } = delta
        else {
            panic!("nobody said anything");
        };
        let seen = &mut seen[index as usize];
        seen.0.push_str(&id.unwrap_or_default());
        seen.1.push_str(&name.unwrap_or_default());
        seen.2.push_str(&arguments);
    };
    let response = model.generate(&request(), Some(&mut sink)).await.unwrap();
    let got = response.message.tool_calls.iter();
    let got = got.map(|call| (&*call.id, &*call.name, call.arguments.to().unwrap()));
    assert_eq!(got.collect::<Vec<_>>(), calls);
    let shown = seen.iter().map(|(id, name, arguments)| {
        let arguments = serde_json::from_str(arguments).unwrap();
        (&**id, &**name, arguments)
    });
    assert_eq!(shown.collect::<Vec<_>>(), calls);
}

pub async fn tools_and_their_answers_go_out(subject: &dyn Subject) {
    let mut called = Message::assistant("");
    called.tool_calls = ["call_a", "call_b"]
        .map(|id| adjutant_core::ToolCall {
            id: id.to_owned(),
            name: "look".to_owned(),
            arguments: json!({"at": id}).into(),
        })
        .to_vec();
    let answer = |id: &str, text: &str| Message {
        tool_call_id: Some(id.to_owned()),
        ..Message::new(Role::Tool, text)
    };
    let mut request = ModelRequest {
        tools: vec![look()],
        tool_choice: ToolChoice::Tool("look".to_owned()),
        ..request()
    };
    request
        .messages
        .extend([called, answer("call_a", "bright"), answer("call_b", "pale")]);
    let (_, body) = asked(subject, Answer::text(&["ok"]), &request).await;
    let (tool, choice, answers) = match subject.wire() {
        Wire::Openai => (
            "/tools/0/function/name",
            "/tool_choice/function/name",
            "/messages",
        ),
        Wire::OpenaiResponses => ("/tools/0/name", "/tool_choice/name", "/input"),
        Wire::Anthropic => ("/tools/0/name", "/tool_choice/name", "/messages"),
        Wire::Gemini => (
            "/tools/0/functionDeclarations/0/name",
            "/toolConfig/functionCallingConfig/allowedFunctionNames/0",
            "/contents",
        ),
    };
    assert_eq!(body.pointer(tool), Some(&json!("look")), "{body}");
    assert_eq!(body.pointer(choice), Some(&json!("look")), "{body}");
    let answers = body.pointer(answers).unwrap().to_string();
    for part in ["call_a", "call_b", "bright", "pale"] {
        assert!(answers.contains(part), "{part}: {answers}");
    }
    assert!(answers.find("bright") < answers.find("pale"));
}

pub async fn reasoning_is_kept_for_the_next_turn(subject: &dyn Subject) {
    let mut answer = Answer::calls(&[("call_a", "look", json!({"at": "x"}))]);
    answer.thoughts = Some(("Let me look.".into(), "c2lnbmF0dXJl".into()));
    let scenes = [Scene::Answer(answer), Scene::Answer(Answer::text(&["ok"]))];
    let provider = FakeProvider::start(subject.wire(), scenes).await.unwrap();
    let model = subject.connect(&provider.base_url(), Timeouts::default());
    let mut request = ModelRequest {
        model: reasoning_model(subject.wire()).to_owned(),
        tools: vec![look()],
        ..request()
    };
    let response = model.generate(&request, None).await.unwrap();
    let thinking: Value = response.message.metadata.to().unwrap();
    assert_eq!(thinking["thinking"]["text"], "Let me look.");
    // Through the journal and back.
    let stored = serde_json::to_string(&response.message).unwrap();
    request
        .messages
        .push(serde_json::from_str(&stored).unwrap());
    request.messages.push(Message {
        tool_call_id: Some("call_a".into()),
        ..Message::new(Role::Tool, "seen")
    });
    model.generate(&request, None).await.unwrap();
    let second = provider.heard()[1].body.to_string();
    // Chat completions have no signatures.
    assert_eq!(
        second.contains("c2lnbmF0dXJl"),
        subject.wire() != Wire::Openai,
        "{second}"
    );
    let times = second.matches("c2lnbmF0dXJl").count();
    assert!(times <= 1, "{second}");
}

const fn reasoning_model(wire: Wire) -> &'static str {
    match wire {
        Wire::Openai => "m-1",
        Wire::OpenaiResponses => "gpt-5",
        Wire::Anthropic => "claude-sonnet-4-5",
        Wire::Gemini => "gemini-2.5-pro",
    }
}

pub async fn a_long_answer_says_that_it_was_cut(subject: &dyn Subject) {
    for (stop, text) in [
        (FinishReason::Length, "It was a dark and"),
        (FinishReason::ContentFilter, "I "),
    ] {
        let answer = Answer {
            stop,
            ..Answer::text(&[text])
        };
        let (response, _) = asked(subject, answer, &request()).await;
        assert_eq!(response.finish_reason, stop);
        assert_eq!(response.message.text(), text);
    }
}

pub async fn structured_output_is_asked_for(subject: &dyn Subject) {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}},
        "required": ["city"], "additionalProperties": false});
    let request = ModelRequest {
        response_format: ResponseFormat::JsonSchema {
            name: "a place".to_owned(),
            schema,
        },
        ..request()
    };
    let answer = Answer::text(&["{\"city\":", "\"Oslo\"}"]);
    let (response, body) = asked(subject, answer, &request).await;
    assert_eq!(response.message.text(), "{\"city\":\"Oslo\"}");
    let place = match subject.wire() {
        Wire::Openai => "/response_format/json_schema/schema",
        Wire::OpenaiResponses => "/text/format/schema",
        Wire::Anthropic => "/output_config/format/schema",
        Wire::Gemini => "/generationConfig/responseJsonSchema",
    };
    let sent = body.pointer(place).unwrap_or_else(|| panic!("{body}"));
    assert_eq!(sent["properties"]["city"]["type"], "string");
}

pub async fn images_go_out(subject: &dyn Subject) {
    let mut message = Message::user("");
    message.content = Content::Parts(vec![
        ContentPart::Text {
            text: "What is this?".to_owned(),
        },
        ContentPart::Image {
            data: "aGVsbG8=".to_owned(),
            mime_type: "image/png".to_owned(),
        },
    ]);
    let request = ModelRequest {
        messages: vec![message],
        ..request()
    };
    let (_, body) = asked(subject, Answer::text(&["A cat."]), &request).await;
    let place = match subject.wire() {
        Wire::Openai => "/messages/0/content/1/image_url/url",
        Wire::OpenaiResponses => "/input/0/content/1/image_url",
        Wire::Anthropic => "/messages/0/content/1/source/data",
        Wire::Gemini => "/contents/0/parts/1/inline_data/data",
    };
    let sent = body.pointer(place).and_then(Value::as_str);
    let sent = sent.unwrap_or_else(|| panic!("{body}"));
    assert!(sent.ends_with("aGVsbG8="));
}

pub async fn settings_go_out(subject: &dyn Subject) {
    let request = ModelRequest {
        // The end of the name means something to no one here.
        model: "qwen::m-max".to_owned(),
        temperature: Some(0.25),
        max_output_tokens: Some(77),
        stop: vec!["END".to_owned()],
        extra: json!({"only_here": {"x": 1}}).into(),
        ..request()
    };
    let scene = Scene::Answer(Answer::text(&["ok"]));
    let provider = FakeProvider::start(subject.wire(), [scene]).await.unwrap();
    let model = subject.connect(&provider.base_url(), Timeouts::default());
    model.generate(&request, None).await.unwrap();
    let heard = provider.heard().remove(0);
    let body = heard.body;
    let (temperature, longest, instructions) = match subject.wire() {
        Wire::Openai => ("/temperature", "/max_tokens", "/messages/0/content"),
        Wire::OpenaiResponses => ("/temperature", "/max_output_tokens", "/instructions"),
        Wire::Anthropic => ("/temperature", "/max_tokens", "/system"),
        Wire::Gemini => (
            "/generationConfig/temperature",
            "/generationConfig/maxOutputTokens",
            "/systemInstruction/parts/0/text",
        ),
    };
    assert_eq!(body.pointer(temperature), Some(&json!(0.25)), "{body}");
    assert_eq!(body.pointer(longest), Some(&json!(77)), "{body}");
    assert_eq!(
        body.pointer(instructions),
        Some(&json!("Be brief.")),
        "{body}"
    );
    assert!(body.to_string().contains("END"), "{body}");
    assert_eq!(body["only_here"]["x"], 1);
    if matches!(subject.wire(), Wire::Openai | Wire::OpenaiResponses) {
        assert_eq!(body["model"], "qwen::m-max");
        assert_eq!(body.get("reasoning_effort"), None);
    }
}

pub async fn the_key_goes_where_the_provider_looks(subject: &dyn Subject) {
    let scene = Scene::Answer(Answer::text(&["ok"]));
    let provider = FakeProvider::start(subject.wire(), [scene]).await.unwrap();
    let model = subject.connect(&provider.base_url(), Timeouts::default());
    model.generate(&request(), None).await.unwrap();
    let heard = provider.heard().remove(0);
    let (header, value, path) = match subject.wire() {
        Wire::Openai => ("authorization", "Bearer test-key", "/v1/chat/completions"),
        Wire::OpenaiResponses => ("authorization", "Bearer test-key", "/v1/responses"),
        Wire::Anthropic => ("x-api-key", "test-key", "/v1/messages"),
        Wire::Gemini => (
            "x-goog-api-key",
            "test-key",
            "/v1/models/m-1:streamGenerateContent?alt=sse",
        ),
    };
    assert_eq!(heard.headers[header], value);
    assert_eq!(heard.path, path);
}
