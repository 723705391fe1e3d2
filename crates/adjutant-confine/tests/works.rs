//! What confined programs can still do: their work.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod support;

use std::{
    env,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use adjutant_confine::{Confinement, Isolation, Network, Part, Places, Profile, Refused, Support};

use crate::support::World;

const PYTHON: &str = r#"
import multiprocessing, os, pathlib, ssl, subprocess, sys, tempfile, threading
work = pathlib.Path(sys.argv[1])
(work / "made").write_text("x")
(work / "made").rename(work / "moved")
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x")
thread = threading.Thread(target=print, args=("thread",))
thread.start(); thread.join()
with open(os.devnull, "w") as null:
    subprocess.run(["sh", "-c", "echo child; echo lost > /dev/null"], check=True, stdin=subprocess.DEVNULL, stderr=null)
lock = multiprocessing.Lock()
child = multiprocessing.Process(target=lock.acquire)
child.start(); child.join()
assert child.exitcode == 0, child.exitcode
assert len(os.urandom(8)) == 8
assert pathlib.Path("/proc/self/status").read_text()
ssl.create_default_context()
home = pathlib.Path.home()
if sys.argv[2] != "workspace":
    (home / "cache").write_text("x")
print("done")
"#;

const NODE: &str = r#"
const { execFileSync } = require("node:child_process");
const { Worker } = require("node:worker_threads");
const fs = require("node:fs"), os = require("node:os"), path = require("node:path");
const work = process.argv[1];
fs.writeFileSync(path.join(work, "made"), "x");
fs.renameSync(path.join(work, "made"), path.join(work, "moved"));
fs.mkdtempSync(path.join(os.tmpdir(), "probe-"));
console.log("cpus", os.cpus().length > 0);
console.log(execFileSync("sh", ["-c", "echo child"], { stdio: ["ignore", "pipe", "ignore"] }).toString().trim());
new Worker("require('node:worker_threads').parentPort.postMessage('thread')", { eval: true })
  .on("message", (text) => console.log(text))
  .on("exit", () => console.log("done"));
"#;

const SHELL: &str = r#"
set -e
echo made > "$1/made" && mv "$1/made" "$1/moved"
echo gone > /dev/null
(echo child | cat) 2> /dev/null
file=$(mktemp) && rm "$file"
ls / /proc/self > /dev/null
head -c 8 /dev/urandom | wc -c
ls "$(dirname "$1")/code" > /dev/null
echo done
"#;

/// A program that is visible in a system of its own.
fn find(name: &str, plan: &Confinement) -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).map(|folder| folder.join(name));
    let found: Option<PathBuf> = places
        .filter(|file| file.exists())
        .find(|file| plan.shows(file));
    let missing = || panic!("{name} is needed in a folder of the system: apt-get install {name}");
    found.unwrap_or_else(missing).to_string_lossy().into_owned()
}

fn works(program: &str, flag: &str, text: &str) {
    for world in [World::new(), World::of_nobody()] {
        for profile in Profile::ALL {
            let plan = world.plan(profile, None);
            let path = find(program, &world.plan(Profile::Isolated, None));
            let work = world.path("work");
            let rest = ["probe", work.to_str().unwrap(), profile.name()];
            let rest = if program == "sh" {
                &rest[..]
            } else {
                &rest[1..]
            };
            let mut command = vec![path.as_str(), flag, text];
            command.extend(rest);
            let output = world.launch(&plan, &command);
            let shown = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && shown.contains("done"),
                "{profile}: {output:?}"
            );
            assert!(world.path("work/moved").exists(), "{profile}");
        }
    }
}

#[test]
fn python_works() {
    works("python3", "-c", PYTHON);
}

#[test]
fn node_works() {
    works("node", "-e", NODE);
}

#[test]
fn shells_work() {
    works("sh", "-c", SHELL);
}

fn shell(world: &World, plan: &Confinement, script: &str) -> Output {
    world.launch(plan, &["/bin/sh", "-c", script])
}

#[test]
fn an_end_is_passed_on() {
    let world = World::new();
    for profile in Profile::ALL {
        let plan = world.plan(profile, None);
        assert_eq!(shell(&world, &plan, "exit 7").status.code(), Some(7));
    }
    // The probe tells of a signal as shells do.
    let plan = world.plan(Profile::Isolated, None);
    assert_eq!(
        shell(&world, &plan, "kill -TERM $$").status.code(),
        Some(128 + 15)
    );
}

#[test]
fn an_own_loopback_interface_leads_to_itself() {
    let world = World::new();
    let text = "import socket; server = socket.create_server(('127.0.0.1', 0)); \
                socket.create_connection(server.getsockname()); print('done')";
    for profile in [Profile::Isolated, Profile::Restricted] {
        let plan = world.plan(profile, Some(Network::Isolated));
        let output = world.launch(&plan, &[&find("python3", &plan), "-c", text]);
        assert!(output.status.success(), "{output:?}");
        let plan = world.plan(profile, None);
        assert!(
            !world
                .launch(&plan, &[&find("python3", &plan), "-c", text])
                .status
                .success()
        );
    }
}

#[test]
fn nobody_goes_on_when_the_agent_ends() {
    let world = World::new();
    let plan = world.plan(Profile::Isolated, None);
    // A marker that is found in the machine's list of processes.
    let marker = format!("{}", 100_000 + std::process::id());
    let script = format!("setsid sleep {marker} & (setsid sh -c 'sleep {marker} & ') & sleep 0.1");
    assert!(shell(&world, &plan, &script).status.success());
    assert_eq!(sleepers(&marker), 0);
}

#[test]
fn nobody_goes_on_when_the_launcher_is_killed() {
    let world = World::new();
    let plan = serde_json::to_string(&world.plan(Profile::Isolated, None)).unwrap();
    let marker = format!("{}", 200_000 + std::process::id());
    let script = format!("setsid sleep {marker} & sleep {marker}");
    let mut launcher = Command::new(world.path("code/probe"))
        .args(["launch", &plan, "/bin/sh", "-c", &script])
        .spawn()
        .unwrap();
    wait_until(|| sleepers(&marker) == 2);
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    wait_until(|| sleepers(&marker) == 0);
}

/// How many `sleep` processes there are with this argument.
fn sleepers(marker: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let command = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    let expected = format!("sleep\0{marker}\0");
    processes
        .filter_map(command)
        .filter(|found| *found == expected.as_bytes())
        .count()
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for 20 seconds");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_program_that_does_not_exist_is_an_error_with_a_step() {
    let world = World::new();
    let plan = world.plan(Profile::Restricted, None);
    let output = world.launch(&plan, &["/usr/bin/no-such-program"]);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(
        why.contains("failed to execute the program: No such file"),
        "{why}"
    );
}

#[test]
fn further_places_are_shown_as_asked() {
    let world = World::new();
    let (outside, home) = (world.path("outside"), world.path("home"));
    let isolation = Isolation {
        read: vec![outside.clone()],
        write: vec![home.clone()],
        ..Isolation::of(Profile::Isolated)
    };
    let plan = Confinement::plan(&isolation, &world.places(), &world.support(), false).unwrap();
    let (outside, home) = (outside.display(), home.display());
    let output = shell(
        &world,
        &plan,
        &format!("cat {outside}/secret && ! touch {outside}/x && touch {home}/x"),
    );
    assert!(output.status.success(), "{output:?}");
    assert!(world.path("home/x").exists() && !world.path("outside/x").exists());
}

#[test]
fn a_place_that_is_a_link_is_shown_under_both_names() {
    let world = World::new();
    let link = world.path("here");
    std::os::unix::fs::symlink(world.path("code"), &link).unwrap();
    let places = Places {
        code: link.clone(),
        ..world.places()
    };
    let isolation = Isolation::of(Profile::Isolated);
    let plan = Confinement::plan(&isolation, &places, &world.support(), false).unwrap();
    let script = format!(
        "test -f {}/probe && test -f {}/probe",
        link.display(),
        world.path("code").display()
    );
    assert!(shell(&world, &plan, &script).status.success());
}

fn refusal(isolation: &Isolation, places: &Places) -> String {
    let world_has_all = Support {
        missing: Vec::new(),
    };
    let refused: Refused = Confinement::plan(isolation, places, &world_has_all, false).unwrap_err();
    refused.to_string()
}

#[test]
fn places_that_would_undo_the_confinement_are_refused() {
    let world = World::new();
    let places = world.places();
    for profile in [Profile::Workspace, Profile::Isolated, Profile::Restricted] {
        let isolation = Isolation::of(profile);
        let above = Places {
            work: world.path(""),
            ..places.clone()
        };
        assert!(refusal(&isolation, &above).contains("could change how it is started"));
    }
    let temporary = Places {
        temp: world.path(""),
        ..places.clone()
    };
    assert!(refusal(&Isolation::of(Profile::Workspace), &temporary).contains("set TMPDIR"));
    for path in ["/", "/proc", "/dev/null"] {
        let isolation = Isolation {
            read: vec![path.into()],
            ..Isolation::of(Profile::Isolated)
        };
        assert!(refusal(&isolation, &places).contains(path));
    }
    let isolation = Isolation {
        write: vec!["/no/such".into()],
        ..Isolation::of(Profile::Restricted)
    };
    assert!(refusal(&isolation, &places).contains("/no/such"));
}

#[test]
fn what_is_missing_is_refused_or_left_out_and_told() {
    let world = World::new();
    let mut support = world.support();
    support.missing.extend(
        Support::none("tests took it away")
            .missing
            .into_iter()
            .filter(|missing| missing.part == Part::Namespaces),
    );
    let isolation = Isolation::of(Profile::Isolated);
    let refused = Confinement::plan(&isolation, &world.places(), &support, false)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("namespaces: tests took it away") && refused.contains("--allow-degraded")
    );
    let plan = Confinement::plan(&isolation, &world.places(), &support, true).unwrap();
    assert_eq!(plan.degraded(), [Part::Namespaces]);
    // What is left is enforced: no writing outside, no network.
    let attempts = [
        "write outside",
        "connect by TCP",
        "load a program into the kernel",
    ];
    assert_eq!(
        world.attempts(&plan, &attempts),
        [libc::EACCES, libc::EPERM, libc::EPERM]
    );
}
