//! Agents that mean harm, or are broken beyond hope, under each isolation profile: each ends with the right reason,
//! the runtime stays as small as it was, and a neighbour gets its answer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at the first surprise and say where"
)]

mod support;

use std::{num::NonZeroU64, time::Duration};

use adjutant_core::RunResult;
use adjutant_process::{ByteSize, Isolation, LimitKind, Profile, Protocol};
use serde_json::{Value, json};
use support::{Case, is_alive};

/// What the runtime may grow by while it serves all of them.
const MAX_GROWTH: u64 = 32 << 20;

/// One kind of harm.
struct Harm {
    name: &'static str,
    agent: fn() -> Case,
    /// How it may end: `succeeded`, or a failure's kind.
    ends: fn(Profile) -> &'static str,
}

trait Impatient {
    /// Silence ends it soon.
    fn impatient(self) -> Self;
}

impl Impatient for Case {
    fn impatient(mut self) -> Self {
        self.manifest.heartbeat = Duration::from_millis(200);
        self
    }
}

/// An agent that takes any input and does this, without the wire.
fn plain(code: &str) -> Case {
    let mut case = Case::new(["python3", "agent.py"]);
    case.manifest.protocol = Protocol::Exec;
    case.write("agent.py", code);
    case
}

fn limited(mut case: Case, kind: LimitKind, limit: u64) -> Case {
    let limits = &mut case.manifest.limits;
    match kind {
        LimitKind::Memory => limits.memory = Some(ByteSize(usize::try_from(limit).unwrap())),
        LimitKind::Pids => limits.pids = NonZeroU64::new(limit),
        LimitKind::Files => limits.files = NonZeroU64::new(limit),
        LimitKind::Output => limits.output = Some(ByteSize(usize::try_from(limit).unwrap())),
        LimitKind::Duration => limits.duration = Some(Duration::from_millis(limit)),
        other => panic!("{other} is not used here"),
    }
    case
}

const HARMS: &[Harm] = &[
    Harm {
        name: "floods stdout with gigabytes",
        agent: || plain("import os\nwhile True: os.write(1, b'x' * 65536)"),
        ends: |_| "output_too_large",
    },
    Harm {
        name: "floods stdout over its limit",
        agent: || {
            let mut case = plain("import os\nwhile True: os.write(1, b'x' * 65536)");
            case.manifest.max_output_bytes = ByteSize(4 << 20);
            limited(case, LimitKind::Output, 1 << 20)
        },
        ends: |_| "limit_exceeded",
    },
    Harm {
        name: "floods stderr and then ends well",
        agent: || {
            plain(
                "import os\nfor _ in range(200): os.write(2, b'noise noise noise\\n' * 2000)\nprint('1')",
            )
        },
        ends: |_| "succeeded",
    },
    Harm {
        name: "sends one line without an end",
        agent: || Case::by_hand("while True: os.write(1, b'[' * 65536)"),
        ends: |_| "protocol_error",
    },
    Harm {
        name: "sends lines that are no messages",
        agent: || Case::by_hand("while True: print('hello, runtime', flush=True)"),
        ends: |_| "protocol_error",
    },
    Harm {
        name: "sends broken JSON",
        agent: || Case::by_hand("while True: print('{\"jsonrpc\": \"2.0\", \"id\": ', flush=True)"),
        ends: |_| "protocol_error",
    },
    Harm {
        name: "sends messages that are cut in pieces and mixed up",
        agent: || {
            Case::by_hand(
                "half = json.dumps(dict(jsonrpc='2.0', method='run/event', params=dict(scope, type='x', data={})))\n\
                 while True:\n    print(half[:20], end='', flush=True); print(half, flush=True)",
            )
        },
        ends: |_| "protocol_error",
    },
    Harm {
        name: "answers for a run that it does not have",
        agent: || {
            Case::by_hand(
                "scope['epoch'] = 999999\n\
                 for n in range(100, 300): send(id=n, method='checkpoint/put', params=dict(scope, state={}))\n\
                 while True: receive()",
            )
            .impatient()
        },
        ends: |_| "heartbeat_missed",
    },
    Harm {
        name: "answers twice",
        agent: || Case::by_hand("end(1)\nend(2)\nend(3)"),
        ends: |_| "succeeded",
    },
    Harm {
        name: "never greets",
        agent: || {
            let mut case = Case::new(["python3", "-c", "import time; time.sleep(600)"]);
            case.manifest.start_timeout = Duration::from_millis(500);
            case
        },
        ends: |_| "start_timeout",
    },
    Harm {
        name: "never answers",
        agent: || Case::by_hand("time.sleep(600)").impatient(),
        ends: |_| "heartbeat_missed",
    },
    Harm {
        name: "works for too long and ignores TERM",
        agent: || {
            let code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)";
            limited(plain(code), LimitKind::Duration, 500)
        },
        ends: |_| "limit_exceeded",
    },
    Harm {
        name: "leaves daemons behind",
        agent: || {
            plain(
                "import os, sys, time\n\
                 for _ in range(5):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0: time.sleep(600)\n        os._exit(0)\n\
                 print('1')",
            )
        },
        ends: |_| "succeeded",
    },
    Harm {
        name: "takes all memory",
        agent: || {
            let code = "hog = []\nfor _ in range(64): hog.append(bytearray(4 << 20))\nimport time; time.sleep(30)";
            limited(plain(code), LimitKind::Memory, 64 << 20)
        },
        ends: |_| "out_of_memory",
    },
    Harm {
        name: "has ever more processes",
        agent: || {
            let code = "import os, sys, time\n\
                 for _ in range(80):\n    try: pid = os.fork()\n    except OSError: sys.exit(9)\n    \
                 if pid == 0:\n        time.sleep(20)\n        os._exit(0)\nsys.exit(0)";
            limited(plain(code), LimitKind::Pids, 32)
        },
        ends: |_| "limit_exceeded",
    },
    Harm {
        name: "opens ever more files",
        agent: || {
            limited(
                plain("files = [open('/dev/null') for _ in range(5000)]"),
                LimitKind::Files,
                64,
            )
        },
        ends: |_| "exit_status",
    },
    Harm {
        name: "writes outside its folder",
        agent: || {
            plain("import os\nopen(os.environ['OUTSIDE'] + '/mine', 'w').close()\nprint('1')")
        },
        ends: |profile| match profile {
            Profile::Open => "succeeded",
            _ => "exit_status",
        },
    },
    Harm {
        name: "calls somebody on the network",
        agent: || {
            plain(
                "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n\
                 socket.create_connection(server.getsockname(), 5)\n\
                 open('/proc/net/route').read().splitlines()[1]\nprint('1')",
            )
        },
        // Alone in a network of its own there is nobody to call: not even a route.
        ends: |profile| match profile {
            Profile::Open | Profile::Workspace => "succeeded",
            _ => "exit_status",
        },
    },
];

/// Bytes of memory and open files of this process.
fn size() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (
        kib << 10,
        std::fs::read_dir("/proc/self/fd").unwrap().count(),
    )
}

/// The processes of this machine whose command line has this text.
fn left_over(mark: &str) -> Vec<String> {
    let pids = std::fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let ours = pids.filter(|pid| {
        let folder = std::fs::read_link(format!("/proc/{pid}/cwd"));
        folder.is_ok_and(|folder| folder.to_string_lossy().contains(mark)) && is_alive(pid)
    });
    ours.collect()
}

async fn suffer(harm: &Harm, profile: Profile) -> Result<(), String> {
    let mut case = (harm.agent)();
    let temp = tempfile::tempdir().unwrap();
    case.manifest
        .env
        .set("TMPDIR", temp.path().to_str().unwrap());
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().to_str().unwrap();
    case.manifest.env.set("OUTSIDE", path);
    case.manifest.isolation = Isolation::of(profile);
    let mut neighbour = Case::shell("cat > /dev/null; echo '\"fine\"'");
    neighbour.manifest.protocol = Protocol::Exec;
    let (end, answer) = tokio::join!(case.attempt(1), neighbour.attempt(1));
    let fine = |result: &RunResult| result.final_output.to::<Value>().unwrap() == json!("fine");
    if !answer.as_ref().is_ok_and(fine) {
        return Err(format!("{}: its neighbour got {answer:?}", harm.name));
    }
    let ended = end
        .as_ref()
        .map_or_else(|error| error.kind.as_str(), |_| "succeeded");
    if ended != (harm.ends)(profile) {
        return Err(format!("{} ended with {end:?}", harm.name));
    }
    let mark = case
        .dir
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    match left_over(&mark) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{} left {left:?}", harm.name)),
    }
}

/// All of them, one after another, in one runtime.
async fn suffer_all(profile: Profile) {
    let mut wrong = Vec::new();
    let mut sizes = Vec::new();
    for harm in HARMS {
        wrong.extend(suffer(harm, profile).await.err());
        sizes.push(size());
    }
    eprintln!("bytes of memory and open files after each: {sizes:?}");
    assert!(wrong.is_empty(), "under {profile}:\n{}", wrong.join("\n"));
    let (Some((first, files)), Some((last, files_then))) = (sizes.first(), sizes.last()) else {
        panic!("nothing was suffered");
    };
    assert!(*last < first + MAX_GROWTH, "{sizes:?}");
    assert!(*files_then <= files + 2, "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_agent_ends_with_the_right_reason_and_nobody_else_suffers() {
    suffer_all(Profile::Open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_in_its_workspace_ends_with_the_right_reason_and_nobody_else_suffers() {
    suffer_all(Profile::Workspace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_agent_ends_with_the_right_reason_and_nobody_else_suffers() {
    suffer_all(Profile::Isolated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_agent_ends_with_the_right_reason_and_nobody_else_suffers() {
    suffer_all(Profile::Restricted).await;
}
