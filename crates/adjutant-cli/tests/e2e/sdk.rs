//! An agent on the published OpenAI library, which nobody has told of us.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    effects::Model,
    support::{Project, eventually},
};

/// Asks five things one after the other. Between two of them it waits for a file, so that it can be killed there.
const AGENT: &str = r#"
import pathlib, sys, time
from openai import OpenAI

sys.stdin.read()
client = OpenAI()
messages = [{"role": "user", "content": "begin"}]
for number in range(5):
    answer = client.chat.completions.create(model="local/counting", messages=messages)
    words = answer.choices[0].message.content or f"answer {number}"
    messages += [{"role": "assistant", "content": words}, {"role": "user", "content": f"go on {number}"}]
    with open(sys.argv[1] + "/effects", "a") as effects:
        effects.write(f"answered {number}\n")
    while number == 2 and not pathlib.Path(sys.argv[1] + "/go").exists():
        time.sleep(0.01)
print("five answers")
"#;

/// The Python that has the library.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = target.join("peers/py/bin/python");
    assert!(
        python.exists(),
        "the library is not installed: cargo xtask servers"
    );
    python
}

/// A project with the agent, which may spend so many tokens.
fn project(model: &Model, tokens: u32) -> Project {
    let project = Project::new();
    project.write("adjutant.yaml", &model.config());
    project.write("paid/agent.py", AGENT);
    let manifest = format!(
        "name: paid\nprotocol: exec\ncommand: [{:?}, agent.py, {:?}]\nmodel: local/counting\nbudget: {{run: {{tokens: {tokens}}}}}\nretry: {{max_attempts: 3}}\n",
        python(),
        project.path(""),
    );
    project.write("paid/agent.yaml", &manifest);
    project
}

#[test]
fn an_agent_on_the_openai_library_pays_no_finished_call_twice() {
    let model = Model::start();
    let project = project(&model, 100_000);
    let running = project.start(&["run", "paid", "go"]);
    eventually("three calls are answered", || {
        project.read("effects").lines().count() == 3
    });
    let run = project.newest();
    running.signal("KILL");
    assert_eq!(running.ended().code, None);
    assert_eq!(model.counts(), [1, 1, 1, 0, 0]);

    project.write("go", "");
    let again = project.agent(&["run", "paid", "go"]);
    again.code_is(0).says(&format!("continuing {run}"));
    assert_eq!(again.stdout.trim(), "five answers");
    assert_eq!(model.counts(), [1; 5]);
    let account = format!("run:{run}");
    let shown = project.agent(&["budgets", "show", &account, "-o", "json"]);
    let shown = shown.code_is(0).json();
    // What the model's server has told of its five answers.
    assert_eq!(shown[0]["spent"]["tokens"], 5 * 15, "{shown}");
}

#[test]
fn an_agent_on_the_openai_library_is_stopped_by_its_budget() {
    let model = Model::start();
    let project = project(&model, 1);
    let ended = project.agent(&["run", "paid", "go"]);
    ended.code_is(1).says("openai.RateLimitError");
    assert_eq!(model.counts(), [0; 5]);
    let run = project.newest();
    let told = project.agent(&[
        "runs",
        "events",
        &run,
        "--types",
        "budget.exceeded",
        "-o",
        "json",
    ]);
    let told = told.code_is(0);
    let event: Value = serde_json::from_str(told.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(event["payload"]["refusal"]["what"], "tokens");
    // It is not the command that has failed, and nothing is tried again.
    let view = project.show(&run);
    assert_eq!(view["error"]["type"], "budget_exceeded", "{view}");
    assert_eq!(view["attempt"], 1);
}
