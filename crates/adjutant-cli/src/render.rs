//! A run's events as lines for whoever watches.

use std::{
    cell::RefCell,
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use adjutant::core::{Event, EventType, RunId};
use serde_json::Value;

use crate::{
    approvals::Question,
    output::{Output, Paint},
    paste::quoted,
    streamed::Streamed,
    units::show_duration,
    view::clip,
};

/// Longest text within a line.
const WIDTH: usize = 100;
/// Longest name of a step whose line is replaced when it ends; longer ones may have wrapped.
const REPLACEABLE: usize = 60;
/// What an agent said that is remembered, in order not to show it again.
const REMEMBERED: usize = 10_000;

/// Turns events into lines on stderr.
pub struct Renderer<'a> {
    out: &'a Output,
    run: RunId,
    /// Also what concerns only those who look after the runtime.
    verbose: bool,
    /// The step whose beginning is the last line on the terminal.
    open: RefCell<Option<String>>,
    /// What the agent has said in this attempt: after a wait it says so again on its way to where it was.
    said: RefCell<HashSet<u64>>,
    streamed: RefCell<Streamed>,
}

impl<'a> Renderer<'a> {
    pub fn new(out: &'a Output, run: RunId, verbose: bool) -> Self {
        Self {
            out,
            run,
            verbose,
            open: RefCell::new(None),
            said: RefCell::default(),
            streamed: RefCell::default(),
        }
    }

    /// Shows events that were read together. A step that began and ended among them is one line.
    pub fn show(&self, events: &[Event]) {
        for (index, event) in events.iter().enumerate() {
            let superseded = event.event_type == EventType::StepStarted
                && ends_later(&events[index + 1..], &payload(event)["step_name"]);
            if superseded {
                continue;
            }
            if self.is_repeated(event) || self.is_streamed(event) {
                continue;
            }
            if let Some(line) = self.line(event) {
                self.put(event, &line);
            }
        }
    }

    /// Shows words as they come; whether nothing more is to be shown for this event.
    fn is_streamed(&self, event: &Event) -> bool {
        let mut streamed = self.streamed.borrow_mut();
        let data = payload(event);
        let step = data["step_name"].as_str().unwrap_or_default();
        if event.event_type != EventType::AssistantDelta {
            self.out.piece(&streamed.end());
            return event.event_type == EventType::AssistantMessage && streamed.was_shown(step);
        }
        if let Some(text) = data["text"].as_str() {
            self.open.replace(None);
            let margin = format!("  {} ", self.out.paint(Paint::Cyan, "│"));
            self.out.piece(&streamed.piece(step, text, &margin));
        }
        true
    }

    fn put(&self, event: &Event, line: &str) {
        let step = payload(event)["step_name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let open = self.open.replace(None);
        let ends =
            event.event_type != EventType::StepStarted && open.is_some_and(|open| open == step);
        if ends {
            self.out.replace_last(&format!("  {line}"));
        } else {
            self.out.note(&format!("  {line}"));
        }
        if event.event_type == EventType::StepStarted && step.len() <= REPLACEABLE {
            *self.open.borrow_mut() = Some(step);
        }
    }

    fn is_repeated(&self, event: &Event) -> bool {
        let mut said = self.said.borrow_mut();
        match &event.event_type {
            EventType::RunRetrying => said.clear(),
            EventType::AssistantMessage | EventType::ProgressUpdate | EventType::Custom(_) => {
                let mut hasher = DefaultHasher::new();
                (event.event_type.as_str(), event.payload.as_str()).hash(&mut hasher);
                return said.len() < REMEMBERED && !said.insert(hasher.finish());
            }
            _ => {}
        }
        false
    }

    fn line(&self, event: &Event) -> Option<String> {
        let data = payload(event);
        let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        let step = || clip(&text("step_name"), WIDTH);
        let line = match &event.event_type {
            // Why it goes on was told by the event before.
            EventType::RunStarted if data["continued"] == true => return None,
            EventType::RunStarted => match data["attempt"].as_u64() {
                Some(attempt @ 2..) => self.dim(&format!("↻ attempt {attempt}")),
                _ => return None,
            },
            EventType::RunRetrying => {
                let when = text("retry_at");
                self.sign(
                    Paint::Yellow,
                    "↻",
                    &format!(
                        "attempt {} failed, the next begins {}: {}",
                        data["attempt"],
                        clock(&when),
                        error(&data["error"])
                    ),
                )
            }
            EventType::RunWaiting if data["input_required"] == true => return None,
            EventType::RunWaiting => self.dim(&format!("⏸ waiting {}", self.waiting(&data))),
            EventType::RunResumed => match text("reason").as_str() {
                "already there" => return None,
                reason => self.dim(&format!("▶ goes on ({reason})")),
            },
            EventType::RunPaused => self.sign(
                Paint::Yellow,
                "⏸",
                &format!("paused; go on with: {}", self.command("resume")),
            ),
            EventType::RunParked => {
                self.sign(Paint::Red, "■", &format!("parked: {}", text("reason")))
            }
            EventType::RunCancelRequested => self.sign(
                Paint::Yellow,
                "■",
                &format!("cancelling: {}", text("reason")),
            ),
            EventType::RunReleased => {
                self.dim(&format!("given back unfinished ({})", text("reason")))
            }
            EventType::LeaseLost => self.sign(
                Paint::Yellow,
                "!",
                "the worker that had the run fell silent, another one goes on",
            ),
            EventType::StepStarted => self.dim(&format!("… {}{}", step(), description(&data))),
            EventType::StepCompleted => {
                let took = data["duration_ms"].as_f64().unwrap_or_default() / 1000.0;
                let took = show_duration(Duration::try_from_secs_f64(took).unwrap_or_default());
                self.sign(
                    Paint::Green,
                    "✓",
                    &format!("{:<24} {}", step(), self.dim(&took)),
                )
            }
            EventType::StepSkipped => self.sign(
                Paint::Green,
                "✓",
                &format!("{:<24} {}", step(), self.dim("done before")),
            ),
            EventType::StepFailed => self.sign(
                Paint::Red,
                "✗",
                &format!("{}: {}", step(), error(&data["error"])),
            ),
            EventType::StepRetrying => {
                let delay =
                    Duration::try_from_secs_f64(data["retry_delay"].as_f64().unwrap_or_default());
                self.sign(
                    Paint::Yellow,
                    "↻",
                    &format!(
                        "{} failed, once more in {}: {}",
                        step(),
                        show_duration(delay.unwrap_or_default()),
                        error(&data["error"])
                    ),
                )
            }
            EventType::ApprovalRequested => self.question(&event.payload.to().ok()?),
            EventType::ApprovalDecided => self.decision(&data),
            EventType::ApprovalExpired => {
                self.sign(Paint::Red, "✗", "nobody answered in time: taken for a no")
            }
            EventType::AssistantMessage => self.message(&data),
            EventType::ProgressUpdate => self.dim(&format!(
                "{:>3.0}% {}",
                data["progress_percent"].as_f64().unwrap_or_default(),
                clip(&text("note"), WIDTH)
            )),
            EventType::ToolCall => self.dim(&format!(
                "→ {}({})",
                text("name"),
                clip(&data["arguments"].to_string(), 60)
            )),
            EventType::Error => self.sign(Paint::Red, "✗", &error(&data)),
            EventType::SubAgentStart => {
                self.dim(&format!("→ {} {}", text("agent_key"), text("run_id")))
            }
            EventType::SubAgentEnd => self.dim(&format!("← {} {}", text("status"), text("run_id"))),
            EventType::ProcessOom => {
                self.sign(Paint::Red, "!", "the agent's process ran out of memory")
            }
            EventType::BudgetWarning
            | EventType::BudgetExceeded
            | EventType::EffectIndeterminate => self.sign(Paint::Yellow, "!", &self.other(event)),
            EventType::Log => self.dim(&format!("· {}", clip(&text("message"), WIDTH))),
            EventType::Custom(_) => self.dim(&format!("· {}", self.other(event))),
            // The command itself tells how the run ended.
            kind if kind.is_terminal() => return None,
            _ if self.verbose => self.dim(&format!("· {}", self.other(event))),
            _ => return None,
        };
        Some(line)
    }

    /// A question and the commands that answer it.
    pub fn question(&self, question: &Question) -> String {
        let mut lines = vec![self.sign(
            Paint::Cyan,
            "?",
            &self.out.paint(Paint::Bold, &question.message),
        )];
        if !question.data.is_null() {
            lines.push(format!("    {}", clip(question.data.as_str(), 400)));
        }
        let key = quoted(&question.key);
        lines.push(format!("    yes: {} {key}", self.command("approve")));
        lines.push(format!("    no:  {} {key}", self.command("deny")));
        if let Some(until) = &question.expires_at {
            lines.push(format!("    {}", self.dim(&format!("until {until}"))));
        }
        lines.join("\n")
    }

    fn decision(&self, data: &Value) -> String {
        let by = data["by"]
            .as_str()
            .map(|by| format!(" by {by}"))
            .unwrap_or_default();
        let comment = data["comment"]
            .as_str()
            .map(|text| format!(": {}", clip(text, WIDTH)))
            .unwrap_or_default();
        if data["approved"] == true {
            self.sign(Paint::Green, "✓", &format!("approved{by}{comment}"))
        } else {
            self.sign(Paint::Red, "✗", &format!("denied{by}{comment}"))
        }
    }

    fn message(&self, data: &Value) -> String {
        let content = match &data["content"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let lines: Vec<&str> = content.lines().collect();
        format!(
            "{} {}",
            self.out.paint(Paint::Cyan, "│"),
            lines.join("\n  │ ")
        )
    }

    fn waiting(&self, data: &Value) -> String {
        let reasons = data["wake_on"].as_array().into_iter().flatten().map(|on| {
            if let Some(at) = on["at"].as_str() {
                return format!("until {}", clock(at).trim_start_matches("at "));
            }
            if let Some(name) = on["signal"].as_str() {
                return format!("for a signal: {} {}", self.command("signal"), quoted(name));
            }
            "for child runs".to_owned()
        });
        reasons.collect::<Vec<_>>().join(", or ")
    }

    fn other(&self, event: &Event) -> String {
        clip(&format!("{} {}", event.event_type, event.payload), WIDTH)
    }

    /// The command that does this to the run.
    fn command(&self, does: &str) -> String {
        self.out.command(&format!("runs {does} {}", self.run))
    }

    fn dim(&self, text: &str) -> String {
        self.out.paint(Paint::Dim, text)
    }

    fn sign(&self, paint: Paint, sign: &str, text: &str) -> String {
        format!("{} {text}", self.out.paint(paint, sign))
    }
}

fn payload(event: &Event) -> Value {
    event.payload.to().unwrap_or_default()
}

fn ends_later(later: &[Event], step: &Value) -> bool {
    later.iter().any(|event| {
        let ends = matches!(
            event.event_type,
            EventType::StepCompleted | EventType::StepFailed | EventType::StepRetrying
        );
        ends && payload(event)["step_name"] == *step
    })
}

fn description(data: &Value) -> String {
    let text = data["description"]
        .as_str()
        .map(|text| format!(": {}", clip(text, WIDTH)));
    let tries = data["attempt"].as_u64().filter(|tries| *tries > 1);
    let tries = tries
        .map(|tries| format!(" (try {tries})"))
        .unwrap_or_default();
    format!("{}{tries}", text.unwrap_or_default())
}

fn error(data: &Value) -> String {
    let kind = data["type"].as_str().unwrap_or("error");
    let message = data["message"].as_str().unwrap_or_default();
    clip(&format!("{kind}: {message}"), 2 * WIDTH)
}

/// `at 12:30:05` today in UTC is enough for somebody who watches.
fn clock(timestamp: &str) -> String {
    let time = timestamp.split('T').nth(1).and_then(|time| time.get(..8));
    time.map_or_else(|| timestamp.to_owned(), |time| format!("at {time} UTC"))
}
