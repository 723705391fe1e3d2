//! An MCP server for tests: speaks every revision, and misbehaves when told to.
//!
//! `--count FILE` writes down each call; the other flags are in [`Flags`].

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, BufRead, Write},
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

const MODERN: &str = "2026-07-28";

/// What to do wrong, by name, with a value after `=`.
struct Flags(HashMap<String, String>);

impl Flags {
    fn read() -> Self {
        let flag = |text: String| {
            let text = text.trim_start_matches('-').to_owned();
            match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (text, String::new()),
            }
        };
        Self(std::env::args().skip(1).map(flag).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

struct Server {
    flags: Flags,
    out: Mutex<io::Stdout>,
    /// Answers to what we asked the client.
    asked: Mutex<HashMap<u64, mpsc::Sender<Value>>>,
    cancelled: Mutex<Vec<Value>>,
    /// An answer that is kept back until the next.
    held: Mutex<Option<Value>>,
    lists: Mutex<u32>,
    listening: Mutex<Option<Value>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> ExitCode {
    let flags = Flags::read();
    if let Some(file) = flags.get("starts") {
        note(file, "start");
    }
    if flags.has("die-at-start")
        || flags
            .get("die-unless")
            .is_some_and(|file| fs::metadata(file).is_err())
    {
        let _ = writeln!(io::stderr(), "I cannot go on");
        return ExitCode::from(3);
    }
    if let Some(mark) = flags.get("grandchild") {
        let _ = Command::new("setsid")
            .args(["sleep", &format!("600.{mark}")])
            .stdin(Stdio::null())
            .spawn();
    }
    if flags.has("flood-stderr") {
        let line = "x".repeat(1023);
        for number in 0..1024 {
            let _ = writeln!(io::stderr(), "{number:04}{line}");
        }
        let _ = writeln!(io::stderr(), "the last of it");
    }
    let ignore_end = flags.has("ignore-end");
    let server = Arc::new(Server {
        flags,
        out: Mutex::new(io::stdout()),
        asked: Mutex::default(),
        cancelled: Mutex::default(),
        held: Mutex::default(),
        lists: Mutex::default(),
        listening: Mutex::default(),
    });
    if let Some(Ok(pause)) = server.flags.get("slow-boot").map(str::parse) {
        thread::sleep(Duration::from_millis(pause));
    }
    if server.flags.has("garbage") {
        server.raw("Listening on nothing at all!\n{\"half\": \n[1,2]\n{\"x\":1}\n");
    }
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        if let Ok(message) = serde_json::from_str(&line) {
            Arc::clone(&server).hear(message);
        }
    }
    if ignore_end {
        // Longer than any test; and no longer than that.
        thread::sleep(Duration::from_secs(600));
    }
    ExitCode::SUCCESS
}

fn note(file: &str, what: &str) {
    let opened = OpenOptions::new().create(true).append(true).open(file);
    if let Ok(mut file) = opened {
        let _ = file.write_all(format!("{what}\n").as_bytes());
    }
}

impl Server {
    fn raw(&self, text: &str) {
        let mut out = locked(&self.out);
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    fn say(&self, message: &Value) {
        self.raw(&format!("{message}\n"));
    }

    fn answer(&self, id: &Value, result: &Value) {
        let message = json!({ "jsonrpc": "2.0", "id": id, "result": result });
        if self.flags.has("swap") && result["content"].is_array() {
            // The second answer goes out first.
            let held = locked(&self.held).take();
            match held {
                None => *locked(&self.held) = Some(message),
                Some(held) => {
                    self.say(&message);
                    self.say(&held);
                }
            }
            return;
        }
        self.say(&message);
        if self.flags.has("twice") {
            self.say(&message);
        }
    }

    fn refuse(&self, id: &Value, code: i32, why: &str) {
        let error = json!({ "code": code, "message": why });
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
    }

    fn hear(self: Arc<Self>, message: Value) {
        let Some(method) = message["method"].as_str().map(str::to_owned) else {
            if let Some(waiting) = locked(&self.asked).remove(&message["id"].as_u64().unwrap_or(0))
            {
                let _ = waiting.send(message);
            }
            return;
        };
        let (id, params) = (message["id"].clone(), message["params"].clone());
        match method.as_str() {
            "server/discover" => self.discover(&id),
            "initialize" => self.initialize(&id, &params),
            "ping" if self.flags.has("deaf") => {}
            "ping" => self.answer(&id, &json!({})),
            "tools/list" => self.list(&id, &params),
            // So that what is measured is not the start of threads.
            "tools/call" if params["name"] == "echo" => self.call(&id, &params),
            "tools/call" => {
                thread::spawn(move || self.call(&id, &params));
            }
            "resources/list" => {
                self.plain(
                    &id,
                    json!({ "resources": [{"uri": "test://one", "name": "one"}] }),
                );
            }
            "resources/templates/list" => {
                self.plain(
                    &id,
                    json!({ "resourceTemplates": [{"uriTemplate": "test://{x}", "name": "any"}] }),
                );
            }
            "resources/read" => {
                self.plain(
                    &id,
                    json!({ "contents": [{"uri": params["uri"], "text": "hello"}] }),
                );
            }
            "prompts/list" => self.plain(&id, json!({ "prompts": [{"name": "greet"}] })),
            "prompts/get" => {
                let text = format!(
                    "Hello, {}",
                    params["arguments"]["who"].as_str().unwrap_or("you")
                );
                let message = json!({ "role": "user", "content": {"type": "text", "text": text} });
                self.plain(&id, json!({ "messages": [message] }));
            }
            "subscriptions/listen" => {
                *locked(&self.listening) = Some(id.clone());
                let meta = json!({ "io.modelcontextprotocol/subscriptionId": id });
                let params = json!({ "_meta": meta, "notifications": params["notifications"] });
                self.say(&json!({
                    "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params,
                }));
            }
            "notifications/cancelled" => {
                locked(&self.cancelled).push(params["requestId"].clone());
                self.count("cancelled");
            }
            other if !other.starts_with("notifications/") => {
                self.refuse(&id, -32601, "no such method");
            }
            _ => {}
        }
    }

    fn is_modern(&self) -> bool {
        self.flags
            .get("revision")
            .is_none_or(|revision| revision == MODERN)
    }

    /// A result that the newest revision wants more from.
    fn plain(&self, id: &Value, mut result: Value) {
        if self.is_modern() {
            result["resultType"] = json!("complete");
            result["ttlMs"] = json!(3_600_000);
            result["cacheScope"] = json!("private");
        }
        self.answer(id, &result);
    }

    fn able() -> Value {
        json!({ "tools": {"listChanged": true}, "resources": {}, "prompts": {} })
    }

    fn discover(&self, id: &Value) {
        if self.flags.has("silent-probe") {
            return;
        }
        if self.flags.has("die-on-probe") {
            std::process::exit(4);
        }
        if !self.is_modern() {
            return self.refuse(id, -32601, "no such method");
        }
        self.plain(
            id,
            json!({ "supportedVersions": [MODERN], "capabilities": Self::able(),
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "fixture", "version": "1"}} }),
        );
    }

    fn initialize(&self, id: &Value, params: &Value) {
        if self.flags.has("slow-boot") {
            return self.refuse(id, -32022, "unsupported protocol version");
        }
        if self.flags.has("slow-start") {
            thread::sleep(Duration::from_secs(600));
        }
        let revision = match self.flags.get("revision") {
            Some(revision) => json!(revision),
            None => params["protocolVersion"].clone(),
        };
        self.answer(
            id,
            &json!({ "protocolVersion": revision, "capabilities": Self::able(),
                "serverInfo": {"name": "fixture", "version": "1"}, "instructions": "be kind" }),
        );
    }

    fn list(&self, id: &Value, params: &Value) {
        let tool = |name: &str, hints: Value| json!({ "name": name, "description": name, "inputSchema": {"type": "object"}, "annotations": hints });
        let looks = json!({ "readOnlyHint": true });
        let mut tools = vec![
            tool("echo", looks.clone()),
            tool("pid", looks.clone()),
            tool("blocks", looks.clone()),
            tool("sleep", looks.clone()),
            tool("hang", looks.clone()),
            tool("progress", looks.clone()),
            tool("fail", looks.clone()),
            tool("ask", looks.clone()),
            tool("input", looks.clone()),
            tool("long", looks.clone()),
            tool("late", looks),
            tool("die", json!({})),
            tool("die_once", json!({ "idempotentHint": true })),
            tool("change", json!({})),
        ];
        // A list is two pages; from the second list on there is one tool more.
        let mut pages = locked(&self.lists);
        *pages += 1;
        if *pages > 2 {
            tools.push(tool("new", json!({})));
        }
        drop(pages);
        if self.flags.has("duplicates") {
            tools.push(tool("echo", json!({})));
        }
        // Two pages, always.
        let page = if params["cursor"] == json!("2") {
            json!({ "tools": tools.split_off(7) })
        } else {
            tools.truncate(7);
            json!({ "tools": tools, "nextCursor": "2" })
        };
        self.plain(id, page);
    }

    fn count(&self, what: &str) {
        if let Some(file) = self.flags.get("count") {
            note(file, what);
        }
    }

    fn text(&self, id: &Value, text: &str) {
        let mut result = json!({ "content": [{"type": "text", "text": text}] });
        if self.is_modern() {
            result["resultType"] = json!("complete");
        }
        self.answer(id, &result);
    }

    fn ask(&self, method: &str, params: &Value) -> Value {
        let (tell, answer) = mpsc::channel();
        let mut asked = locked(&self.asked);
        let id = 1000 + asked.len() as u64;
        asked.insert(id, tell);
        drop(asked);
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        answer
            .recv_timeout(Duration::from_secs(20))
            .unwrap_or_default()
    }

    fn call(&self, id: &Value, params: &Value) {
        let name = params["name"].as_str().unwrap_or_default();
        let arguments = &params["arguments"];
        self.count(name);
        if self.flags.has("never") {
            return;
        }
        match name {
            "echo" => self.text(id, arguments["text"].as_str().unwrap_or_default()),
            "pid" => self.text(id, &std::process::id().to_string()),
            "blocks" => self.blocks(id),
            "sleep" => {
                thread::sleep(Duration::from_millis(arguments["ms"].as_u64().unwrap_or(0)));
                self.text(id, "slept");
            }
            "hang" => {}
            "progress" => self.progress(id, params),
            "fail" => {
                let content = json!([{ "type": "text", "text": "it went wrong" }]);
                self.answer(
                    id,
                    &json!({ "content": content, "isError": true, "resultType": "complete" }),
                );
            }
            "ask" => {
                let method = arguments["method"].as_str().unwrap_or("elicitation/create");
                let answer = self.ask(method, &arguments["params"]);
                self.text(id, &answer.to_string());
            }
            "input" => self.input(id, params),
            "long" => {
                let text = "x".repeat(16 * 1024 * 1024 + 1);
                self.text(id, &text);
            }
            "late" => {
                while !locked(&self.cancelled).contains(id) {
                    thread::sleep(Duration::from_millis(1));
                }
                self.text(id, "too late");
                self.count("answered late");
            }
            "die" => std::process::exit(7),
            "die_once" => {
                let mark = arguments["mark"].as_str().unwrap_or_default();
                if OpenOptions::new()
                    .create_new(true)
                    .write(true)
                    .open(mark)
                    .is_ok()
                {
                    std::process::exit(8);
                }
                self.text(id, "alive");
            }
            "change" => self.change(id),
            _ => self.refuse(id, -32602, "no such tool"),
        }
    }

    fn change(&self, id: &Value) {
        let mut params = json!({});
        if let Some(listening) = &*locked(&self.listening) {
            params["_meta"] = json!({ "io.modelcontextprotocol/subscriptionId": listening });
        }
        self.say(&json!({
            "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": params,
        }));
        self.text(id, "changed");
    }

    fn blocks(&self, id: &Value) {
        let content = json!([
            {"type": "text", "text": "t"},
            {"type": "image", "data": "aGk=", "mimeType": "image/png"},
            {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"},
            {"type": "resource_link", "uri": "test://one", "name": "one"},
            {"type": "resource", "resource": {"uri": "test://one", "text": "hello"}},
        ]);
        self.answer(
            id,
            &json!({
                "content": content, "structuredContent": {"n": 1}, "resultType": "complete",
            }),
        );
    }

    fn progress(&self, id: &Value, params: &Value) {
        let token = &params["_meta"]["progressToken"];
        let steps = params["arguments"]["steps"].as_u64().unwrap_or(3);
        let pause = params["arguments"]["ms"].as_u64().unwrap_or(0);
        for step in 1..=steps {
            let params = json!({ "progressToken": token, "progress": step, "total": steps, "message": "on it" });
            self.say(
                &json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }),
            );
            thread::sleep(Duration::from_millis(pause));
        }
        self.text(id, "done");
    }

    fn input(&self, id: &Value, params: &Value) {
        let given = &params["inputResponses"]["who"]["content"]["name"];
        if let (Some(name), Some("s-1")) = (given.as_str(), params["requestState"].as_str()) {
            return self.text(id, &format!("hello {name}"));
        }
        let schema = json!({ "type": "object", "properties": {"name": {"type": "string"}} });
        let question = json!({ "mode": "form", "message": "who?", "requestedSchema": schema });
        let requests = json!({ "who": {"method": "elicitation/create", "params": question} });
        self.answer(
            id,
            &json!({
                "resultType": "input_required", "inputRequests": requests, "requestState": "s-1",
            }),
        );
    }
}
