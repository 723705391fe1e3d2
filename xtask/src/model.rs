//! `cargo xtask model`: a real language model, offline, drives an agent that calls a tool of an MCP server.
//!
//! Not part of `cargo xtask ci` unless asked for with `--with-model`: it fetches 100 MB and takes about a minute.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command as Process, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{
    command::{self, Command},
    peers::{self, Peers},
    shell,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "model",
    args: "",
    summary: "let a small real model drive an agent with an MCP server",
    help: "Brings the model and its server by pip into target/peers/model. What is checked is that the model calls the \
           tool and the run ends well, not what it says.",
    run: |workspace, args| {
        command::no_args(args)?;
        model(workspace)
    },
};

/// The longest that the run may take, in seconds.
const LIMIT: &str = "600";

/// Lets the model drive the agent.
pub fn model(workspace: &Workspace) -> Result<()> {
    peers::install(workspace)?;
    let home = Peers::of(workspace)?.model();
    let python = bring(&workspace.path("xtask/peers/model"), &home)?;
    shell::run(workspace.cargo().args(["build", "-p", "adjutant-cli"]))?;
    let agent = workspace.target_dir()?.join("debug/agent");
    let mut server = Process::new(&python);
    server
        .arg(home.join("serve.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = Server(server.spawn().context("failed to start the model")?);
    let address = server.address()?;
    let config = format!("models:\n  providers:\n    local: {{base_url: \"{address}/v1\"}}\n");
    fs::write(home.join("adjutant.yaml"), config)?;
    // Where the tool's server is.
    let python = Peers::of(workspace)?.python();
    let mut path = python.parent().context("no folder")?.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let in_project = |program: &Path| {
        let mut command = Process::new("timeout");
        command.args(["--kill-after=10", LIMIT]).arg(program);
        command.current_dir(&home).env("PATH", &path);
        command
    };
    let example = workspace.path("examples/agents/offline");
    let question = ["What time is it in Tokyo?", "--new"];
    shell::run(in_project(&agent).arg("run").arg(example).args(question))?;
    let newest = ["runs", "list", "--limit", "1", "--quiet", "-o", "json"];
    let listed: serde_json::Value =
        serde_json::from_str(&shell::read(in_project(&agent).args(newest))?)?;
    let run = listed[0]["run_id"].as_str().context("there is no run")?;
    let results = [
        "runs",
        "events",
        run,
        "--types",
        "tool.result",
        "-o",
        "json",
    ];
    let results = shell::read(in_project(&agent).args(results))?;
    ensure!(
        results.contains("\"is_error\":false"),
        "the model called no tool with success:\n{results}"
    );
    Ok(())
}

/// Installs the model, unless it is there; returns the Python that has it.
fn bring(pins: &Path, home: &Path) -> Result<std::path::PathBuf> {
    fs::create_dir_all(home)?;
    fs::copy(pins.join("serve.py"), home.join("serve.py"))?;
    let python = home.join("py/bin/python");
    let wanted = fs::read_to_string(pins.join("requirements.txt"))?;
    let installed = home.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    let pins = pins.join("requirements.txt");
    peers::python(&home.join("py"), &pins, &["--no-deps"])?;
    fs::write(installed, wanted)?;
    Ok(python)
}

/// The model's server; ends with this.
struct Server(Child);

impl Server {
    fn address(&mut self) -> Result<String> {
        let stdout = self.0.stdout.take().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.starts_with("http"), "the model did not start");
        Ok(line.trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
