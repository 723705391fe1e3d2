//! Watching a run that is worked on here: its news on the terminal, its questions put to whoever sits there.

use std::{
    collections::VecDeque,
    io::{BufRead, IsTerminal},
    sync::Arc,
};

use adjutant::core::{Decision, Event, EventType, Json, RunState};
use tokio::sync::mpsc;

use crate::{
    approvals::{self, Question, Questions},
    drive::{Drive, Ended, News},
    failure::Result,
    output::Paint,
    parked::{self, Lookout},
    patience::patiently,
    render::Renderer,
    tail::Tail,
};

/// The terminal's side: shows events, asks questions.
pub struct Watch<'a> {
    drive: &'a Drive<'a>,
    renderer: Renderer<'a>,
    tail: Tail,
    questions: Questions,
    /// Questions from before this command, which may have been answered since.
    old: Vec<Question>,
    /// Questions to put to the user here, in order.
    to_ask: VecDeque<Question>,
    lines: Option<mpsc::Receiver<String>>,
    /// Whether the cursor stands behind a question.
    asking: bool,
    /// Whether it has to be asked how the run stands.
    settled: bool,
}

impl<'a> Watch<'a> {
    pub fn new(drive: &'a Drive<'a>) -> Self {
        let verbose = matches!(
            drive.context.config.text("log.level"),
            "info" | "debug" | "trace"
        );
        Self {
            drive,
            renderer: Renderer::new(&drive.context.out, drive.run, verbose),
            tail: Tail::new(Arc::clone(&drive.store), drive.run, drive.after),
            questions: Questions::default(),
            old: Vec::new(),
            to_ask: VecDeque::new(),
            lines: None,
            asking: false,
            // It may have ended, or wait, before the first event is seen here.
            settled: true,
        }
    }

    pub async fn until_done(&mut self) -> Result<Ended> {
        self.open_questions().await?;
        let mut lookout = Lookout::default();
        let mut look = tokio::time::interval(parked::LOOK);
        loop {
            if let Some(ended) = self.settled().await? {
                return Ok(ended);
            }
            tokio::select! {
                events = self.tail.next() => self.show(&events?),
                Some(line) = next_line(&mut self.lines) => self.answer(&line).await?,
                _ = look.tick() => {
                    lookout.look(self.drive.context, &*self.drive.store, self.drive.run).await?;
                }
            }
        }
    }

    /// Questions from before this command that are still open. While the run does not wait for a person, one of them
    /// has an answer that it has not read yet; which one is known when it waits again.
    async fn open_questions(&mut self) -> Result<()> {
        if self.drive.after == 0 {
            return Ok(());
        }
        self.questions = Questions::of(&self.drive.store, self.drive.run).await?;
        self.old = self.questions.open().cloned().collect();
        let view = self.drive.store.get(self.drive.run).await?;
        if view.is_some_and(|view| view.run.state == RunState::InputRequired) {
            self.tell_old();
            self.ask();
        }
        Ok(())
    }

    fn tell_old(&mut self) {
        for question in std::mem::take(&mut self.old) {
            if self.questions.open().any(|open| open.key == question.key) {
                let told = self.renderer.question(&question);
                self.drive.context.out.note(&format!("  {told}"));
                self.to_ask.push_back(question);
            }
        }
    }

    pub async fn catch_up(&mut self) -> Result<()> {
        loop {
            let events = self.tail.now().await?;
            if events.is_empty() {
                return Ok(());
            }
            self.show(&events);
        }
    }

    fn show(&mut self, events: &[Event]) {
        if std::mem::take(&mut self.asking) {
            self.drive.context.out.note("");
        }
        match self.drive.news {
            News::Text => self.renderer.show(events),
            News::Jsonl => {
                for event in events {
                    let line = serde_json::to_string(event).unwrap_or_default();
                    self.drive.context.out.tell(&line);
                }
            }
            News::None => {}
        }
        for event in events {
            self.to_ask.extend(self.questions.observe(event));
            if event.event_type == EventType::RunWaiting {
                self.tell_old();
            }
            let stops = matches!(
                event.event_type,
                EventType::RunParked | EventType::RunWaiting | EventType::RunPaused
            );
            self.settled |= event.event_type.is_terminal() || stops;
        }
        let questions = &self.questions;
        self.to_ask
            .retain(|asked| questions.open().any(|open| open.key == asked.key));
        self.ask();
    }

    /// How it ended, if it has.
    pub async fn settled(&mut self) -> Result<Option<Ended>> {
        if !std::mem::take(&mut self.settled) {
            return Ok(None);
        }
        let found = patiently(|| self.drive.store.get(self.drive.run)).await?;
        let Some(view) = found else {
            return Err(adjutant::Error::RunNotFound(self.drive.run).into());
        };
        if view.run.state.is_settled() {
            self.catch_up().await?;
            return Ok(Some(Ended::Settled(Box::new(view))));
        }
        let leaves = match view.run.state {
            RunState::InputRequired => self.drive.until_input,
            RunState::Paused => true,
            _ => false,
        };
        Ok(leaves.then(|| Ended::Left(Box::new(view))))
    }

    /// Puts the next question to whoever sits at the terminal; without one, the commands were told.
    fn ask(&mut self) {
        let out = &self.drive.context.out;
        if self.to_ask.is_empty() || self.drive.until_input || !somebody_types() {
            return;
        }
        if self.lines.is_none() {
            self.lines = Some(read_lines());
        }
        out.ask(&out.paint(Paint::Bold, "  yes or no? [y/n] "));
        self.asking = true;
    }

    async fn answer(&mut self, line: &str) -> Result<()> {
        // The terminal has gone to the next line with the answer.
        self.asking = false;
        let approved = match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => true,
            "n" | "no" => false,
            _ => {
                self.ask();
                return Ok(());
            }
        };
        let Some(question) = self.to_ask.pop_front() else {
            return Ok(());
        };
        let decision = Decision {
            approved,
            by: approvals::user(),
            comment: None,
            data: Json::null(),
            expired: false,
        };
        approvals::answer(&*self.drive.store, self.drive.run, &question.key, &decision).await?;
        self.questions.answered(&question.key);
        self.ask();
        Ok(())
    }
}

/// Whether stdin is a terminal that is ours: a command in the background would be stopped for reading from it.
fn somebody_types() -> bool {
    let stdin = std::io::stdin();
    stdin.is_terminal()
        && rustix::termios::tcgetpgrp(&stdin)
            .is_ok_and(|foreground| foreground == rustix::process::getpgrp())
}

/// Lines from the terminal. The thread may stay behind in a read; it ends with the process.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

async fn next_line(lines: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match lines {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}
