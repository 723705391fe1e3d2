//! What people say to a run at work.
//!
//! What was said before the attempt lies in the mailbox, where it stays, so that each attempt hears all of it; what is said
//! during the attempt stands in the run's events.

use std::time::Duration;

use adjutant_core::{Error, Event, EventType, Json, Message, Result, STEER_SIGNAL};
use adjutant_queue::Signal;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::shared::Shared;

/// Events read at once.
const PAGE: usize = 256;

/// How long one look at the events waits for more.
const WAIT: Duration = Duration::from_secs(60);

/// What has been said, and how far the events have been read.
#[derive(Debug)]
pub(crate) struct Steering(Mutex<Heard>);

#[derive(Debug)]
struct Heard {
    messages: Vec<Message>,
    last_seq: u64,
}

/// The part of `signal.received` that counts here.
#[derive(Deserialize)]
struct Received {
    name: String,
    #[serde(default)]
    payload: Json,
}

impl Steering {
    /// What the mailbox of a run holds whose last event was `last_seq` then.
    pub(crate) fn new(mailbox: &[Signal], last_seq: u64) -> Self {
        let said = mailbox.iter().filter(|signal| signal.name == STEER_SIGNAL);
        let messages = said.flat_map(|signal| messages(&signal.payload)).collect();
        Self(Mutex::new(Heard { messages, last_seq }))
    }

    /// The messages after the first `seen`, as soon as there are some.
    pub(crate) async fn after(
        &self,
        seen: usize,
        shared: &Shared,
        run: adjutant_core::RunId,
    ) -> Result<Vec<Message>> {
        let mut heard = self.0.lock().await;
        loop {
            if let Some(more) = heard.messages.get(seen..).filter(|more| !more.is_empty()) {
                return Ok(more.to_vec());
            }
            let events = match shared.store.read(run, heard.last_seq, PAGE).await {
                // What was forgotten unread cannot be told any more; what follows can.
                Err(Error::Pruned { first, .. }) => {
                    heard.last_seq = first.saturating_sub(1);
                    continue;
                }
                events => events?,
            };
            match events.last().map(|event| event.seq) {
                Some(last_seq) => {
                    heard.messages.extend(events.iter().flat_map(said));
                    heard.last_seq = last_seq;
                }
                None => shared.store.changed(run, heard.last_seq, WAIT).await?,
            }
        }
    }
}

fn said(event: &Event) -> Vec<Message> {
    if event.event_type != EventType::SignalReceived {
        return Vec::new();
    }
    match event.payload.to::<Received>() {
        Ok(received) if received.name == STEER_SIGNAL => messages(&received.payload),
        _ => Vec::new(),
    }
}

/// A list of messages, or anything else as the text of one.
fn messages(payload: &Json) -> Vec<Message> {
    let text = || {
        let text = payload.to::<String>();
        vec![Message::user(
            text.unwrap_or_else(|_| payload.as_str().to_owned()),
        )]
    };
    payload.to::<Vec<Message>>().unwrap_or_else(|_| text())
}
