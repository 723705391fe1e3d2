//! Secrets reach the agent and nobody else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use adjutant_process::{AgentOptions, PoolConfig, Protocol, Secrets, Variable};
use serde_json::json;
use support::{Case, eventually};

const FROM_ENV: &str = "canary-e5a1 \"quoted\" \\ back";
const FROM_FILE: &str = "canary-f7c2";

/// Says its secrets in every way there is, then does what the input says.
const LEAKY: &str = "\
env, file = os.environ['KEY'], os.environ['TOKEN']
open('seen', 'w').write(env + '\\n' + file + '\\n')
print(env, file, file=sys.stderr, flush=True)
os.write(1, ('stray ' + file + '\\n').encode())
run.emit('leak', {'env': env, 'nested': [{'file': file}]})
run.step(env, lambda: {'file': file})
run.checkpoint({'file': file})
while run.data.get('do') == 'wait': time.sleep(0.01)
if run.data.get('do') == 'fail': raise AgentError('bad', 'no ' + env, retriable=False, details={'file': file})
if run.data.get('do') == 'crash': raise ValueError(file)
return {'env': env, 'file': file}";

/// Everything that is logged, at every level.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn case() -> (Case, AgentOptions) {
    let mut case = Case::python(LEAKY);
    case.write("token", &format!("{FROM_FILE}\n"));
    let env = &mut case.manifest.env;
    env.refer("KEY", Variable::FromEnv("THE_KEY".to_owned()));
    env.refer("TOKEN", Variable::FromFile("token".to_owned()));
    let secrets = Secrets::new([("THE_KEY".to_owned(), FROM_ENV.to_owned())]);
    (case, AgentOptions::default().secrets(secrets))
}

fn command_lines() -> String {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let line = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    let lines: Vec<u8> = all.filter_map(line).flatten().collect();
    String::from_utf8_lossy(&lines).into_owned()
}

#[tokio::test]
async fn no_log_event_error_result_or_command_line_has_a_secret_in_it() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut told = String::new();
    for pool in [None, Some(PoolConfig::default())] {
        for what in ["end", "fail", "crash", "wait"] {
            let (mut case, options) = case();
            case.manifest.pool = pool;
            case.input.data = json!({ "do": what }).into();
            let agent = case.agent_with(options);
            {
                let mut attempt = std::pin::pin!(case.attempt_of(&agent, 1));
                let waits = eventually("waits", || {
                    what == "wait" && !case.memory.lock().unwrap().checkpoints.is_empty()
                });
                tokio::select! {
                    end = &mut attempt => told.push_str(&format!("{end:?}\n")),
                    () = waits => told.push_str(&command_lines()),
                }
            }
            assert_eq!(
                case.lines("seen"),
                [FROM_ENV, FROM_FILE],
                "the agent has them"
            );
            let memory = case.memory.lock().unwrap();
            told.push_str(&format!("{:?}\n", memory.events));
            told.push_str(&format!("{:?} {:?}\n", memory.journal, memory.checkpoints));
            told.push_str(&format!("{:?}\n", case.manifest));
            told.push_str(&serde_json::to_string(&case.manifest).unwrap());
        }
    }
    let logged = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("***"), "logs are written at all: {logged}");
    assert!(told.contains("***") && told.contains("leak") && told.contains("agent.py"));
    for (what, text) in [("logs", logged), ("outputs", told)] {
        let at = text.find("canary-");
        let around = at.map(|at| text.get(at.saturating_sub(200)..at).unwrap_or_default());
        assert_eq!(around, None, "{what}");
    }
}

#[tokio::test]
async fn a_command_that_prints_its_secret_prints_stars() {
    let (mut case, options) = case();
    case.manifest.protocol = Protocol::Exec;
    case.manifest.command = ["/bin/sh", "-c", "echo \"$TOKEN\"; echo \"$TOKEN\" >&2"]
        .map(str::to_owned)
        .to_vec();
    let result = case.attempt_of(&case.agent_with(options), 1).await;
    assert_eq!(result.unwrap().final_output.to::<String>().unwrap(), "***");
    assert_eq!(case.events("log")[0]["message"], json!("***"));
}

#[tokio::test]
async fn a_secret_that_is_not_there_fails_the_run_for_good_and_is_named() {
    let (case, _) = case();
    let failure = case.failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("secret_not_found", false)
    );
    assert!(failure.message.contains("`env.KEY`") && failure.message.contains("THE_KEY"));
}
