//! Agents without code that use MCP servers nobody here wrote.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::support::{Project, eventually};

/// A program that `cargo xtask servers` installs.
#[track_caller]
fn peer(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let place = target.join("peers").join(name);
    assert!(
        place.exists(),
        "{} is not installed: cargo xtask servers",
        place.display()
    );
    place
}

/// Each server with its arguments.
fn servers(project: &Project) -> Vec<(&'static str, PathBuf, Vec<String>)> {
    let npm = |name: &str| peer(&format!("node_modules/.bin/mcp-server-{name}"));
    let pip = |name: &str| peer(&format!("py/bin/mcp-server-{name}"));
    let folder = project.path("").display().to_string();
    vec![
        ("everything", npm("everything"), Vec::new()),
        ("files", npm("filesystem"), vec![folder]),
        ("memory", npm("memory"), Vec::new()),
        ("thinking", npm("sequential-thinking"), Vec::new()),
        ("git", pip("git"), Vec::new()),
        ("time", pip("time"), Vec::new()),
        (
            "fetch",
            pip("fetch"),
            vec!["--ignore-robots-txt".into(), "--allow-private-ips".into()],
        ),
    ]
}

/// An agent with some of the servers, which does what the script says.
fn agent(project: &Project, wanted: &[&str], script: &Value) {
    let env = json!({
        "MEMORY_FILE_PATH": project.path("memory.jsonl"),
        "PEER_OF": project.path(""),
    });
    let servers = servers(project);
    let servers = servers
        .iter()
        .filter(|(name, ..)| wanted.is_empty() || wanted.contains(name));
    let servers: serde_json::Map<String, Value> = servers
        .map(|(name, command, args)| {
            let server = json!({ "command": command, "args": args, "env": env });
            ((*name).to_owned(), server)
        })
        .collect();
    let servers = Value::Object(servers);
    let manifest = format!(
        "name: tour\nmodel: scripted/script.yaml\ninstructions: Use them.\nmcp_servers: {servers}\ntools: {{sampling: true}}\n"
    );
    project.write("tour/agent.yaml", &manifest);
    project.write("tour/script.yaml", &script.to_string());
}

fn turn(calls: &[(&str, Value)]) -> Value {
    let calls = calls
        .iter()
        .map(|(name, arguments)| json!({ "name": name, "arguments": arguments }));
    json!({ "text": "so", "tool_calls": calls.collect::<Vec<_>>() })
}

/// What the run's events of a type say of a tool.
fn events(project: &Project, run: &str, kind: &str, tool: &str) -> Vec<Value> {
    let told = project.agent(&["runs", "events", run, "--types", kind, "-o", "json"]);
    let told = told.code_is(0).stdout.lines();
    let payloads = told.map(|line| serde_json::from_str::<Value>(line).unwrap()["payload"].clone());
    let of_it = |payload: &Value| payload["step_name"].as_str().unwrap().contains(tool);
    payloads.filter(of_it).collect()
}

/// The one result that a tool gave, which is no error.
#[track_caller]
fn result(project: &Project, run: &str, tool: &str) -> String {
    let results = events(project, run, "tool.result", tool);
    assert_eq!(results.len(), 1, "{tool}: {results:?}");
    assert_eq!(results[0]["is_error"], false, "{tool}: {results:?}");
    results[0]["result"].as_str().unwrap().to_owned()
}

/// Whether a process lives that was started as a server of this project.
fn lives(project: &Project) -> bool {
    let marker = format!("PEER_OF={}", project.path("").display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut surroundings =
        processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
    surroundings.any(|environ| {
        let environ = String::from_utf8_lossy(&environ);
        environ.split('\0').any(|variable| variable == marker)
    })
}

/// Serves one page for as long as the test lasts; returns its address.
fn page(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let length = text.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(format!("{head}{text}").as_bytes());
        }
    });
    format!("http://{address}/page.txt")
}

#[test]
fn one_run_uses_seven_published_servers_and_leaves_none_behind() {
    let project = Project::new();
    let git = |arguments: &[&str]| {
        let mut command = project.paste(&format!("git -C repository {}", arguments.join(" ")));
        command.code_is(0);
        std::mem::take(&mut command.stdout)
    };
    project.write("repository/words.txt", "words");
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["-c user.name=Ada -c user.email=ada@example.org commit --quiet -m beginning"]);
    let calls = [
        ("everything__get-tiny-image", json!({})),
        ("everything__get-sum", json!({ "a": 20, "b": 22 })),
        (
            "files__read_text_file",
            json!({ "path": project.path("repository/words.txt") }),
        ),
        (
            "memory__create_entities",
            json!({ "entities": [{ "name": "Ada", "entityType": "person", "observations": ["counts"] }] }),
        ),
        (
            "thinking__sequentialthinking",
            json!({ "thought": "why", "thoughtNumber": 1, "totalThoughts": 1, "nextThoughtNeeded": false }),
        ),
        (
            "git__git_log",
            json!({ "repo_path": project.path("repository") }),
        ),
        (
            "time__convert_time",
            json!({ "source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo" }),
        ),
        ("fetch__fetch", json!({ "url": page("a page of words") })),
        (
            "everything__trigger-long-running-operation",
            json!({ "duration": 1, "steps": 4 }),
        ),
    ];
    agent(
        &project,
        &[],
        &json!([turn(&calls), { "text": "all used" }]),
    );

    let ended = project.agent(&["run", "tour", "go"]);
    assert_eq!(ended.code_is(0).stdout, "all used\n");
    eventually("no server lives", || !lives(&project));
    let run = project.newest();
    for (tool, expected) in [
        ("get-tiny-image", "image"),
        ("get-sum", "42"),
        ("read_text_file", "words"),
        ("create_entities", "Ada"),
        ("sequentialthinking", "thoughtHistoryLength"),
        ("git_log", "beginning"),
        ("convert_time", "T21:00:00+09:00"),
        ("fetch__fetch", "a page of words"),
        ("long-running", "completed"),
    ] {
        let result = result(&project, &run, tool);
        assert!(result.contains(expected), "{tool}: {result}");
    }
    assert!(project.read("memory.jsonl").contains("Ada"));
    let progress = events(&project, &run, "tool.progress", "long-running");
    let steps: Vec<_> = progress.iter().map(|one| &one["progress"]).collect();
    assert_eq!(steps, [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn every_tool_of_seven_published_servers_is_listed_with_its_effect() {
    let project = Project::new();
    agent(&project, &[], &json!([]));
    let listed = project.agent(&["mcp", "tools", "tour", "-o", "json"]);
    let listed = listed.code_is(0).json();
    let tools: Vec<(&str, &Value)> = listed
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|server| server["items"].as_array().unwrap())
        .map(|tool| (tool["name"].as_str().unwrap(), &tool["effect"]))
        .collect();
    for (server, least) in [
        ("everything", 13),
        ("files", 14),
        ("memory", 9),
        ("thinking", 1),
        ("git", 12),
        ("time", 2),
        ("fetch", 1),
    ] {
        let start = format!("{server}__");
        let count = tools
            .iter()
            .filter(|(name, _)| name.starts_with(&start))
            .count();
        assert!(count >= least, "{server} has {count} tools: {tools:?}");
    }
    for (name, effect) in [
        ("everything__echo", "read_only"),
        ("files__read_text_file", "read_only"),
        ("files__write_file", "idempotent"),
        ("files__edit_file", "unsafe"),
        ("memory__create_entities", "unsafe"),
        ("memory__delete_entities", "idempotent"),
        ("thinking__sequentialthinking", "read_only"),
        ("git__git_status", "read_only"),
        ("git__git_commit", "unsafe"),
        ("time__get_current_time", "read_only"),
        ("fetch__fetch", "read_only"),
    ] {
        let found = tools.iter().find(|(one, _)| *one == name);
        assert_eq!(
            found.map(|(_, effect)| effect.as_str().unwrap()),
            Some(effect),
            "{name}"
        );
    }
    eventually("no server lives", || !lives(&project));
}

#[test]
fn a_servers_questions_go_to_a_person_and_to_the_model() {
    let project = Project::new();
    let script = json!([
        turn(&[("everything__trigger-elicitation-request", json!({}))]),
        turn(&[(
            "everything__trigger-sampling-request",
            json!({ "prompt": "a word", "maxTokens": 10 })
        )]),
        { "text": "answered" },
    ]);
    agent(&project, &["everything"], &script);
    let left = project.agent(&["run", "tour", "go", "--no-wait-input"]);
    left.code_is(5).says("agent runs approve");
    eventually("no server waits with it", || !lives(&project));

    let run = project.newest();
    let data = r#"{"name": "Ada", "check": true}"#;
    project
        .agent(&["runs", "approve", &run, "--data", data])
        .code_is(0);
    let ended = project.agent(&["run", "tour", "go"]);
    ended.code_is(0).says(&format!("continuing {run}"));
    assert_eq!(ended.stdout, "answered\n");
    let told = result(&project, &run, "trigger-elicitation-request");
    assert!(told.contains("Name: Ada"), "{told}");
    let told = result(&project, &run, "trigger-sampling-request");
    assert!(told.contains("LLM sampling result"), "{told}");
    eventually("no server lives", || !lives(&project));
}
