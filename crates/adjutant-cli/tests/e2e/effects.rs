//! An agent of models and tools, killed at every moment: what was finished is never done again, and what may have
//! happened is asked about.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Project, count, lines};

/// The tools that each turn of the model calls; then it answers. `put` is unsafe, `keep` idempotent.
const TURNS: [&[&str]; 4] = [
    &["put", "keep", "put"],
    &["keep", "put", "keep"],
    &["put", "keep"],
    &["keep", "put"],
];

/// All model calls of a run.
const MODEL_CALLS: usize = TURNS.len() + 1;

/// Words and restarts of one run are far fewer than this.
const MOST_STARTS: usize = 12;

/// A server that appends to a file what it is called with, before it takes its time and answers.
const TOOLS: &str = r#"
import json, sys, time
tools = [
    {"name": "put", "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}}}},
    {"name": "keep", "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}}},
     "annotations": {"idempotentHint": True, "destructiveHint": False}},
]
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked["method"] == "initialize":
        answer["result"] = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}},
                            "serverInfo": {"name": "counter", "version": "1"}}
    elif asked["method"] == "tools/list":
        answer["result"] = {"tools": tools}
    elif asked["method"] == "tools/call":
        with open(sys.argv[1], "a") as effects:
            effects.write(asked["params"]["arguments"]["id"] + "\n")
        time.sleep(0.02)
        answer["result"] = {"content": [{"type": "text", "text": "it is done"}]}
    elif asked["method"] == "ping":
        answer["result"] = {}
    else:
        answer["error"] = {"code": -32601, "message": "unknown"}
    print(json.dumps(answer), flush=True)
"#;

/// A model that counts how often each of its turns was asked for, as an OpenAI-compatible server.
pub struct Model {
    url: String,
    asked: Arc<Mutex<[usize; MODEL_CALLS]>>,
}

impl Model {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new([0; MODEL_CALLS]));
        let counts = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = Arc::clone(&counts);
                // One that goes away in the middle is no matter.
                thread::spawn(move || serve(stream, &counts));
            }
        });
        Self { url, asked }
    }

    /// The configuration that names it `local/counting`.
    pub fn config(&self) -> String {
        format!(
            "models:\n  providers:\n    local: {{base_url: {:?}}}\n",
            self.url
        )
    }

    /// How often each turn was asked for.
    pub fn counts(&self) -> [usize; MODEL_CALLS] {
        *self.asked.lock().unwrap()
    }
}

/// Answers one request.
fn serve(stream: TcpStream, counts: &Mutex<[usize; MODEL_CALLS]>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request: Value = serde_json::from_slice(&body).ok()?;
    let messages = request["messages"].as_array()?;
    let turn = messages
        .iter()
        .filter(|message| message["role"] == "assistant")
        .count();
    counts.lock().unwrap()[turn] += 1;
    thread::sleep(Duration::from_millis(20));
    let text: String = answer(turn)
        .iter()
        .map(|part| format!("data: {part}\n\n"))
        .collect();
    let mut stream = stream;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    write!(stream, "{head}{text}data: [DONE]\n\n").ok()
}

/// What the model streams in a turn.
fn answer(turn: usize) -> Vec<Value> {
    let part = |delta: Value, reason: Value| {
        json!({
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "counting",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }],
        })
    };
    let usage = json!({
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "counting", "choices": [],
        "usage": { "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 },
    });
    let Some(tools) = TURNS.get(turn) else {
        let text = json!({ "role": "assistant", "content": "finished" });
        return vec![
            part(text, Value::Null),
            part(json!({}), json!("stop")),
            usage,
        ];
    };
    let calls = tools.iter().enumerate().map(|(index, tool)| {
        let arguments = json!({ "id": id(turn, index, tool) }).to_string();
        json!({
            "index": index, "id": format!("call_{turn}_{index}"), "type": "function",
            "function": { "name": format!("counter__{tool}"), "arguments": arguments },
        })
    });
    let calls = json!({ "role": "assistant", "tool_calls": calls.collect::<Vec<_>>() });
    vec![
        part(calls, Value::Null),
        part(json!({}), json!("tool_calls")),
        usage,
    ]
}

/// What a call is known by in the file of effects.
fn id(turn: usize, index: usize, tool: &str) -> String {
    format!("{tool}-{turn}-{index}")
}

/// All calls of a run.
fn ids() -> Vec<String> {
    let turns = TURNS.iter().enumerate();
    turns
        .flat_map(|(turn, tools)| {
            let tools = tools.iter().enumerate();
            tools.map(move |(index, tool)| id(turn, index, tool))
        })
        .collect()
}

fn project(model: &Model) -> Project {
    let project = Project::new();
    let config = format!(
        "models:\n  providers:\n    local: {{base_url: {:?}}}\n",
        model.url
    );
    project.write("adjutant.yaml", &config);
    project.write("counts/tools.py", TOOLS);
    let server = json!({
        "command": "python3",
        "args": [project.path("counts/tools.py"), project.path("effects")],
    });
    let manifest = format!(
        "name: counts\nmodel: local/counting\ninstructions: Count.\nmcp_servers:\n  counter: {server}\n"
    );
    project.write("counts/agent.yaml", &manifest);
    project
}

/// What the journal says is finished: the calls of tools, and how many of the model.
fn finished(project: &Project) -> (Vec<String>, usize) {
    let listed = project.agent(&["runs", "list", "-o", "json"]);
    if listed.code != Some(0) {
        return (Vec::new(), 0);
    }
    let runs = listed.json();
    let Some(run) = runs[0]["run_id"].as_str() else {
        return (Vec::new(), 0);
    };
    let told = project.agent(&["runs", "events", run, "-o", "json"]);
    let told: Vec<Value> = told
        .code_is(0)
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &'static str| {
        let told = told.iter().filter(move |event| event["type"] == kind);
        told.map(|event| &event["payload"])
    };
    // Not `tool.result`: that is told when the answer comes, which may be before it is written down.
    let steps: Vec<&str> = of("step.completed")
        .filter_map(|step| step["step_name"].as_str())
        .collect();
    let calls = of("tool.call").filter(|call| {
        let step = call["step_name"].as_str().unwrap();
        steps.contains(&step)
    });
    let calls = calls.map(|call| call["arguments"]["id"].as_str().unwrap().to_owned());
    let models = steps.iter().filter(|step| step.starts_with("model"));
    (calls.collect(), models.count())
}

/// Says of every call that may have happened what the server's file says of it; returns how many there were.
fn settle(project: &Project) -> usize {
    let listed = project.agent(&["effects", "--state", "indeterminate", "-o", "json"]);
    let open = listed.code_is(0).json();
    let open = open.as_array().unwrap();
    for call in open {
        let (run, step) = (
            call["run_id"].as_str().unwrap(),
            call["step"].as_str().unwrap(),
        );
        assert!(
            step.contains("put"),
            "only unsafe calls are asked about: {call}"
        );
        project
            .agent(&[
                "effects",
                "resolve",
                run,
                step,
                "--done",
                "seen by a person",
            ])
            .code_is(0);
    }
    open.len()
}

/// Kills the run when it has told so many lines, and starts the same command until it has ended. Returns whether it was
/// killed at all, and how many calls were asked about.
fn killed_after(told: usize) -> (bool, usize) {
    let model = Model::start();
    let project = project(&model);
    let command = ["run", "counts", "go", "--no-wait-input"];
    let mut running = project.start(&command);
    let since = Instant::now();
    let killed = loop {
        if running.stderr().lines().count() >= told {
            running.signal("KILL");
            break true;
        }
        if running.child.try_wait().unwrap().is_some() {
            break false;
        }
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "{}",
            running.stderr()
        );
        thread::sleep(Duration::from_millis(1));
    };
    let ended = running.ended();
    // The last lines are told when it is all over.
    if !killed || ended.code.is_some() || project.state(&project.newest()) == "succeeded" {
        return (false, 0);
    }
    let (calls, models) = finished(&project);
    let before: Vec<usize> = calls.iter().map(|call| count(&project, call)).collect();
    let asked = model.counts();

    let mut settled = 0;
    let mut starts = 0;
    loop {
        let again = project.agent(&command);
        match again.code {
            Some(0) => {
                assert_eq!(again.stdout, "finished\n");
                break;
            }
            Some(5) => settled += settle(&project),
            _ => panic!("killed after {told} lines: {again:#?}"),
        }
        starts += 1;
        assert!(
            starts < MOST_STARTS,
            "killed after {told} lines: {again:#?}"
        );
    }
    let said = format!(
        "killed after {told} lines; {:?}",
        lines(&project.path("effects"))
    );
    for (call, before) in calls.iter().zip(before) {
        assert_eq!(count(&project, call), before, "{call} was finished; {said}");
    }
    for (turn, before) in asked.iter().enumerate().take(models) {
        let after = model.counts()[turn];
        assert_eq!(after, *before, "turn {turn} was finished; {said}");
    }
    for call in ids() {
        let times = count(&project, &call);
        let most = if call.starts_with("put") { 1 } else { 2 };
        assert!(times <= most, "{call} was made {times} times; {said}");
    }
    assert!(
        model.counts().iter().all(|times| (1..=2).contains(times)),
        "{said}"
    );
    (true, settled)
}

#[test]
fn a_run_killed_at_any_moment_repeats_nothing_finished_and_asks_about_the_rest() {
    let next = AtomicUsize::new(1);
    let (kills, settled) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let work = || {
            loop {
                let told = next.fetch_add(1, Ordering::SeqCst);
                let (killed, asked) = killed_after(told);
                settled.fetch_add(asked, Ordering::SeqCst);
                if !killed {
                    return;
                }
                kills.fetch_add(1, Ordering::SeqCst);
            }
        };
        for _ in 0..3 {
            scope.spawn(work);
        }
    });
    let (kills, settled) = (kills.into_inner(), settled.into_inner());
    assert!(kills >= 30, "only {kills} kills");
    assert!(settled >= 1, "{kills} kills left no unsafe call open");
}
