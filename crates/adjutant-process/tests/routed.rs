//! Tools, models and what else a host gives an agent in a process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use adjutant_core::{BudgetLeft, ErrorInfo, ToolAnswer};
use adjutant_process::PoolConfig;
use serde_json::json;
use support::{Case, TOOLS};

fn with_tools(case: Case) -> Case {
    case.memory.lock().unwrap().tool_answer = Some(Ok(ToolAnswer::text("found")));
    case
}

fn with_model(case: Case, says: &[&str]) -> Case {
    let says = says.iter().map(|&text| text.to_owned()).collect();
    case.memory.lock().unwrap().model_says = Some(says);
    case
}

#[tokio::test]
async fn all_pages_of_the_tools_are_listed() {
    let case = with_tools(Case::python(
        "tools = run.tools()\nreturn [len(tools), tools[-1]['name'], tools[0]['annotations'], tools[0]['inputSchema']]",
    ));
    let last = format!("search{}", TOOLS - 1);
    let expected = json!([TOOLS, last, { "readOnlyHint": true }, { "type": "object" }]);
    assert_eq!(case.output().await, expected);
}

#[tokio::test]
async fn a_tool_is_called_once_across_attempts_and_each_call_has_its_place() {
    let case = with_tools(Case::python(
        "texts = [run.call_tool('search', {'q': n}, timeout=2)['content'][0]['text'] for n in range(2)]\n\
         if not os.path.exists('died'):\n  open('died', 'w'); os.kill(os.getpid(), 9)\n\
         return texts",
    ));
    assert_eq!(case.failure().await.kind, "process_exited");
    let result = case.attempt(2).await.unwrap();
    assert_eq!(result.final_output.as_str(), r#"["found","found"]"#);
    let memory = case.memory.lock().unwrap();
    let calls: Vec<_> = memory
        .tool_calls
        .iter()
        .map(|call| {
            (
                call.key.as_str(),
                call.call_id.as_str(),
                call.arguments.as_str(),
            )
        })
        .collect();
    assert_eq!(
        calls,
        [
            ("tool:search", "search", r#"{"q":0}"#),
            ("tool:search#2", "search#2", r#"{"q":1}"#)
        ]
    );
    assert_eq!(memory.tool_calls[0].timeout.unwrap().as_secs(), 2);
}

#[tokio::test]
async fn the_same_call_with_other_arguments_is_a_conflict() {
    let case = with_tools(Case::by_hand(
        r#"
def call(arguments):
    send(id=7, method="tools/call", params=dict(scope, callId="c", name="search", arguments=arguments))
    answer = receive()
    return answer["error"]["code"] if "error" in answer else answer["result"]["content"][0]["text"]
first = call(dict(attempt=scope["attempt"]))
end([first, call(dict(attempt=scope["attempt"]))])
"#,
    ));
    // Within an attempt an id is used once, across attempts for the same arguments.
    assert_eq!(case.output().await, json!(["found", -31012]));
    let second = case.attempt(2).await.unwrap();
    assert_eq!(second.final_output.as_str(), "[-31012,-31012]");
}

#[tokio::test]
async fn failures_of_calls_have_numbers_and_keep_their_kind_and_advice() {
    let cases = [
        ("budget_exceeded", false, -31003),
        ("tool_denied", false, -31008),
        ("tool_timeout", true, -31007),
        ("tool_unavailable", true, -31006),
        ("something_else", false, -31000),
    ];
    for (kind, retriable, code) in cases {
        let case = Case::by_hand(
            r#"
send(id=7, method="tools/call", params=dict(scope, callId="c", name="search"))
error = receive()["error"]
end([error["code"], error["data"]["type"], error["data"]["retryable"], error["data"]["details"]])
"#,
        );
        let info = if retriable {
            ErrorInfo::retriable(kind, "no")
        } else {
            ErrorInfo::permanent(kind, "no")
        };
        let info = info.with_details(json!({ "left": 0 }));
        case.memory.lock().unwrap().tool_answer = Some(Err(info));
        let expected = json!([code, kind, retriable, { "left": 0 }]);
        assert_eq!(case.output().await, expected, "{kind}");
    }
}

#[tokio::test]
async fn a_model_answers_whole_and_in_pieces() {
    let case = with_model(
        Case::python(
            "pieces = []\n\
             answer = run.generate({'model': 'm', 'messages': [{'role': 'user', 'content': 'hi'}]}, pieces.append)\n\
             texts = ''.join(piece['text'] for piece in pieces)\n\
             seqs = [piece['seq'] for piece in pieces]\n\
             return [answer['message']['content'], answer['usage']['inputTokens'], answer['cost'], texts, seqs == sorted(set(seqs))]",
        ),
        &["a", " b", " c"],
    );
    let expected = json!(["a b c", 3, 0.5, "a b c", true]);
    assert_eq!(case.output().await, expected);
    let memory = case.memory.lock().unwrap();
    assert_eq!(memory.model_calls[0].key, "model:generate");
    assert_eq!(memory.model_calls[0].request.messages[0].text(), "hi");
}

#[tokio::test]
async fn pieces_come_before_the_answer_and_only_when_asked_for() {
    let case = with_model(
        Case::by_hand(
            r#"
def ask(stream):
    send(id=stream, method="llm/generate", params=dict(scope, callId=stream, request=dict(messages=[]), stream=stream == "yes"))
    kinds = []
    while True:
        message = receive()
        kinds.append(message.get("method", "answer"))
        if kinds[-1] == "answer": return sorted(set(kinds), key=kinds.index)
end([ask("no"), ask("yes")])
"#,
        ),
        &["a", "b"],
    );
    let expected = json!([["answer"], ["llm/delta", "answer"]]);
    assert_eq!(case.output().await, expected);
}

#[tokio::test]
async fn an_agent_that_reads_no_pieces_gets_its_answer_all_the_same() {
    let pieces = vec!["x".repeat(4096); 4000];
    let case = Case::by_hand(
        r#"
send(id=1, method="llm/generate", params=dict(scope, callId="c", request=dict(messages=[]), stream=True))
time.sleep(1)
while True:
    message = receive()
    if "result" in message: break
end(len(message["result"]["message"]["content"]))
"#,
    );
    case.memory.lock().unwrap().model_says = Some(pieces);
    assert_eq!(case.output().await, json!(4096 * 4000));
}

#[tokio::test]
async fn an_attempt_is_told_its_deadline_and_budget() {
    let case = Case::python("return [run.deadline, run.budget]");
    case.memory.lock().unwrap().budget = BudgetLeft {
        tokens: Some(100),
        tool_calls: Some(3),
        ..BudgetLeft::default()
    };
    let expected = json!(["1970-01-01T00:01:00.000000Z", { "tokens": 100, "toolCalls": 3 }]);
    assert_eq!(case.output().await, expected);
}

const VARIABLES: &str = "print('leaked', run.environment['OPENAI_API_KEY'])\n\
     return [run.environment['OPENAI_BASE_URL'], os.environ.get('OPENAI_BASE_URL'), os.environ.get('MINE')]";

fn given(case: &Case, url: &str) {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    case.memory.lock().unwrap().variables = vec![
        pair("OPENAI_BASE_URL", url),
        pair("OPENAI_API_KEY", "token-of-the-attempt"),
    ];
}

#[tokio::test]
async fn an_attempts_variables_are_in_its_processs_environment_and_go_before_the_manifests() {
    let mut case = Case::python(VARIABLES);
    case.manifest.env.set("OPENAI_BASE_URL", "http://elsewhere");
    case.manifest.env.set("MINE", "1");
    given(&case, "http://127.0.0.1:1");
    let url = "http://127.0.0.1:1";
    assert_eq!(case.output().await, json!([url, url, "1"]));
    // Nobody who reads the log gets the key.
    let logs = format!("{:?}", case.events("log"));
    assert!(logs.contains("leaked ***"), "{logs}");
}

#[tokio::test]
async fn an_attempts_variables_reach_a_command_too() {
    let mut case = Case::shell("cat > /dev/null; echo \"$OPENAI_BASE_URL\"");
    case.manifest.protocol = adjutant_process::Protocol::Exec;
    given(&case, "http://127.0.0.1:2");
    assert_eq!(case.output().await, json!("http://127.0.0.1:2"));
}

#[tokio::test]
async fn each_run_of_a_pooled_process_gets_its_own_variables() {
    let mut case = Case::python(VARIABLES);
    case.manifest.pool = Some(PoolConfig {
        max: std::num::NonZeroU32::MIN,
        ..PoolConfig::default()
    });
    let agent = case.agent();
    for attempt in 1..3 {
        let url = format!("http://127.0.0.1:{attempt}");
        given(&case, &url);
        let result = case.attempt_of(&agent, attempt).await.unwrap();
        let expected = json!([url, null, null]);
        let output: serde_json::Value = result.final_output.to().unwrap();
        assert_eq!(output, expected);
    }
}
