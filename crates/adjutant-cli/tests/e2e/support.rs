//! A project of its own for each test, agents in it, and the binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with agents and a store.
pub struct Project {
    dir: TempDir,
    /// The store's URL, if it is not the project's own file.
    store: Option<String>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Project {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Marks the project, so that nothing above the folder is taken for one.
        fs::write(dir.path().join("adjutant.yaml"), "").unwrap();
        Self { dir, store: None }
    }

    /// A project whose store is elsewhere.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub fn on(store: &str) -> Self {
        Self {
            store: Some(store.to_owned()),
            ..Self::new()
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A shell script that is an agent.
    pub fn shell_agent(&self, name: &str, script: &str) {
        let manifest = format!(
            "name: {name}\nprotocol: exec\ncommand: [./agent.sh]\nretry: {{max_attempts: 1}}\n"
        );
        self.write(&format!("{name}/agent.yaml"), &manifest);
        let script = self.write(
            &format!("{name}/agent.sh"),
            &format!("#!/bin/sh\nset -eu\n{script}\n"),
        );
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A Python program that is an agent; `body` is what its function does with `run`.
    pub fn python_agent(&self, name: &str, body: &str) {
        let manifest =
            format!("name: {name}\ncommand: [python3, agent.py]\nretry: {{max_attempts: 1}}\n");
        self.write(&format!("{name}/agent.yaml"), &manifest);
        let body: Vec<String> = body.lines().map(|line| format!("    {line}\n")).collect();
        let code = format!(
            "{PRELUDE}\n@agent(\"{name}\")\ndef work(run):\n    home = pathlib.Path((run.metadata or {{}}).get(\"cwd\", \".\"))\n{}\nserve()\n",
            body.concat()
        );
        self.write(&format!("{name}/agent.py"), &code);
        let helper = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../adjutant-agent/python/adjutant_agent.py"
        );
        fs::copy(helper, self.path(&format!("{name}/adjutant_agent.py"))).unwrap();
    }

    /// The binary with these arguments, in this project and in no other surroundings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .env("USER", "tester")
            // Short leases: tests that kill workers wait for them.
            .env("ADJUTANT_RUNNER__LEASE_TTL", "1500ms")
            .env("ADJUTANT_RUNNER__HEARTBEAT_INTERVAL", "200ms")
            .stdin(Stdio::null());
        if let Some(store) = &self.store {
            command.env("ADJUTANT_STORE", store);
        }
        command
    }

    pub fn agent(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().unwrap().into()
    }

    /// Gives a shell a command line that the binary has told.
    pub fn paste(&self, line: &str) -> Ended {
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_agent"));
        let mut path = binary.parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", path)
            .env("USER", "tester")
            .stdin(Stdio::null());
        shell.output().unwrap().into()
    }

    /// Starts the binary and does not wait for it.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(&mut self.command(arguments))
    }

    /// Starts a command of [`Project::command`] and does not wait for it.
    pub fn start_with(&self, command: &mut Command) -> Running {
        let (stdout, stderr) = (self.log("stdout"), self.log("stderr"));
        command
            .stdout(fs::File::create(&stdout).unwrap())
            .stderr(fs::File::create(&stderr).unwrap());
        Running {
            child: command.spawn().unwrap(),
            stdout,
            stderr,
        }
    }

    fn log(&self, stream: &str) -> PathBuf {
        let logs = self.path("logs");
        fs::create_dir_all(&logs).unwrap();
        let number = fs::read_dir(&logs).unwrap().count();
        logs.join(format!("{number}.{stream}"))
    }

    /// A run, as the binary shows it to programs.
    pub fn show(&self, run: &str) -> Value {
        self.agent(&["runs", "show", run, "-o", "json"]).json()
    }

    pub fn state(&self, run: &str) -> String {
        self.show(run)["state"].as_str().unwrap().to_owned()
    }

    /// Waits until the run is in this state.
    pub fn until_state(&self, run: &str, state: &str) {
        eventually(&format!("{run} is {state}"), || self.state(run) == state);
    }

    /// Queues a run and returns its id.
    pub fn submit(&self, arguments: &[&str]) -> String {
        let mut all = vec!["run", "--detach", "--quiet"];
        all.extend(arguments);
        let ended = self.agent(&all);
        ended.code_is(0);
        ended.stdout.trim().to_owned()
    }

    /// The newest run's id.
    pub fn newest(&self) -> String {
        let list = self
            .agent(&["runs", "list", "--limit", "1", "-o", "json"])
            .json();
        list[0]["run_id"].as_str().unwrap().to_owned()
    }

    /// Waits until there is a run, and returns it.
    pub fn until_newest(&self) -> String {
        eventually("there is a run", || {
            let listed = self.agent(&["runs", "list", "-o", "json"]);
            listed.code == Some(0)
                && listed
                    .json()
                    .as_array()
                    .is_some_and(|runs| !runs.is_empty())
        });
        self.newest()
    }
}

/// A started binary; ended with the test.
pub struct Running {
    pub child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// Waits until stderr has this text.
    pub fn until_stderr(&self, text: &str) {
        eventually(&format!("stderr has {text:?}"), || {
            self.stderr().contains(text)
        });
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Ended {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ended {
                    code: status.code(),
                    stdout: self.stdout(),
                    stderr: self.stderr(),
                };
            }
            assert!(
                start.elapsed() < PATIENCE,
                "still running\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    #[track_caller]
    pub fn code_is(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// A failure with this code, told in at most one line each for what, why and what to do.
    #[track_caller]
    pub fn refused(&self, exit: i32, code: &str) -> &Self {
        self.code_is(exit);
        assert!(self.stderr.contains(&format!("[{code}]")), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Waits for a condition.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The lines of a file that says what was done.
pub fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// How often an agent of the project has noted this.
pub fn count(project: &Project, effect: &str) -> usize {
    let effects = lines(&project.path("effects"));
    effects.iter().filter(|line| *line == effect).count()
}

const PRELUDE: &str = r#"
import pathlib, time
from adjutant_agent import agent, serve, Child

def note(home, text):
    with (home / "effects").open("a") as effects:
        effects.write(text + "\n")
    return text

def gate(home, name):
    note(home, f"at {name}")
    while not (home / name).exists():
        time.sleep(0.01)
"#;
