//! The agent `conformance` in Rust; its modes are in the wire's reference.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use adjutant_agent::{
    AgentError, Run, RunResult, Server, Suspension,
    wire::{Child, FailurePolicy, RunInput, RunMessage},
};
use serde_json::{Map, Value, json};

fn main() -> ExitCode {
    let runs = std::env::args().nth(1).and_then(|runs| runs.parse().ok());
    Server::new("conformance")
        .max_concurrent_runs(runs.unwrap_or(1))
        .steerable()
        .serve(|run| {
            let data = run.data::<Value>()?;
            work(
                run,
                data.get("mode").and_then(Value::as_str).unwrap_or_default(),
                &data,
            )
        })
}

fn work(run: &mut Run, mode: &str, data: &Value) -> RunResult<Value> {
    let number = |name: &str| data.get(name).and_then(Value::as_u64).unwrap_or_default();
    match mode {
        "echo" => Ok(json!(run.prompt())),
        "state" => Ok(json!({"state": run.state::<Value>()?, "params": run.params::<Value>()?})),
        "large" => Ok(json!("x".repeat(usize::try_from(number("n"))?))),
        "crash" => Ok(json!(Vec::<u8>::new()[usize::from(run.attempt() > 0)])),
        "fail" => Err(AgentError::permanent("conformance_failure", "as told")
            .with_details(json!({"a": 1}))
            .into()),
        // Rust's stdout belongs to the protocol; code that prints there is at fault.
        "print" => Ok(Value::Null),
        "steps" => steps(run),
        "waits" => waits(run),
        "swallow" => {
            let _ = run.sleep("nap", Duration::from_secs(60));
            let _ = run.step("after", || Ok(1));
            Ok(json!("swallowed"))
        }
        "busy" => busy(run),
        "steered" => steered(run),
        "events" => events(run, number("n"), usize::try_from(number("pad"))?),
        "delegate" => delegate(run),
        "list" => Ok(run.tools()?.into_iter().map(|tool| tool.name).collect()),
        "tools" => Ok(json!([search(run)?, search(run)?])),
        "suspend" => suspend(run, data),
        "fan" => fan(run, number("n")),
        "environment" => {
            let name = data["name"].as_str().unwrap_or_default();
            Ok(json!(run.environment().get(name)))
        }
        "generate" | "stream" => generate(run, mode == "stream"),
        _ => Err(AgentError::permanent("bad_mode", "no such mode").into()),
    }
}

fn steps(run: &mut Run) -> RunResult<Value> {
    let first: u32 = run.step("a", || Ok(1))?;
    let second: u32 = run.step("a", || Ok(2))?;
    let sum: u32 = run.step_with("sum", &(first, second), |(a, b)| Ok(a + b))?;
    run.emit("conformance.event", &json!({"n": sum}))?;
    run.checkpoint(&json!({"n": sum}))?;
    Ok(json!({"sum": sum}))
}

fn waits(run: &mut Run) -> RunResult<Value> {
    run.step("before", || Ok(()))?;
    run.sleep("nap", Duration::from_secs(60))?;
    let signal = run.wait_for_signal("go", None)?;
    let approved = run.request_approval("ship", "May I?")?.approved;
    Ok(json!({"signal": signal, "approved": approved}))
}

fn busy(run: &mut Run) -> RunResult<Value> {
    run.emit("conformance.ready", &Value::Null)?;
    while !run.cancelled() {
        thread::sleep(Duration::from_millis(1));
    }
    run.checkpoint("tidied up")?;
    Ok(Value::Null)
}

fn steered(run: &mut Run) -> RunResult<Value> {
    run.emit("conformance.ready", &Value::Null)?;
    while !run.cancelled() {
        if let Some(message) = run.steering().first() {
            return Ok(json!(message.text()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(Value::Null)
}

fn events(run: &mut Run, count: u64, pad: usize) -> RunResult<Value> {
    for n in 1..=count {
        run.emit(
            "conformance.count",
            &json!({"n": n, "pad": "x".repeat(pad)}),
        )?;
    }
    Ok(json!(count))
}

fn delegate(run: &mut Run) -> RunResult<Value> {
    let child = Child {
        agent: "helper".into(),
        input: RunInput {
            messages: vec![RunMessage::new("user", "work")],
            data: None,
        },
        params: Value::Null,
    };
    let results = run.delegate("team", vec![child.clone(), child], FailurePolicy::Settle)?;
    Ok(results.into_iter().map(|child| child.run_id).collect())
}

fn search(run: &mut Run) -> RunResult<Value> {
    let answer = run.call_tool("search", Map::new())?;
    Ok(answer
        .content
        .first()
        .map(|block| block["text"].clone())
        .unwrap_or_default())
}

fn suspend(run: &Run, data: &Value) -> RunResult<Value> {
    let state = run.state::<Value>()?;
    if let Some(answer) = run.resume("ship") {
        return Ok(json!({"action": answer.action, "state": state}));
    }
    if state.is_some() {
        return Ok(json!({"state": state}));
    }
    let wait = match data["wakeAt"].as_str() {
        Some(wake_at) => Suspension::until(wake_at),
        None => Suspension::question("ship", "May I?"),
    };
    Err(run.suspend(wait.state(json!({"n": 1}))))
}

fn fan(run: &Run, count: u64) -> RunResult<Value> {
    let naps: Vec<_> = (0..count)
        .map(|n| {
            let run = run.handle();
            thread::spawn(move || run.sleep(&format!("nap {n}"), Duration::from_secs(1)))
        })
        .collect();
    for nap in naps {
        let died = |_| AgentError::permanent("panic", "a nap ended in a panic");
        nap.join().map_err(died)??;
    }
    Ok(json!(count))
}

fn generate(run: &mut Run, stream: bool) -> RunResult<Value> {
    let request = json!({"model": "m", "messages": []});
    let deltas = Arc::<AtomicU64>::default();
    let heard = deltas.clone();
    let answer = if stream {
        run.generate_streaming(request, move |_| {
            heard.fetch_add(1, Ordering::Relaxed);
        })?
    } else {
        run.generate(request)?
    };
    Ok(json!({"text": answer.message.content, "deltas": deltas.load(Ordering::Relaxed)}))
}
