//! What the process says, sorted by the runs that it is about.

use adjutant_logs::Stream;
use adjutant_wire::{AgentNotice, Decoder, Frame, MAX_GARBAGE_LINES, Message, Method};
use serde_json::Map;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::Shared;
use crate::{
    convert,
    wire::link::{CHUNK_BYTES, Link},
};

/// The two pipes of a process.
pub(super) struct Lines {
    pub(super) reader: Reader,
    pub(super) stdin: Box<dyn AsyncWrite + Send + Unpin>,
}

pub(super) struct Reader {
    stdout: Box<dyn AsyncRead + Send + Unpin>,
    decoder: Decoder,
    garbage: u32,
}

impl Lines {
    pub(super) fn new(link: Link) -> Self {
        let (stdin, stdout, decoder) = link.into_parts();
        let reader = Reader {
            stdout,
            decoder,
            garbage: 0,
        };
        Self { reader, stdin }
    }
}

impl Reader {
    /// Passes on until the process closes its stdout, or breaks the wire's rules: then says how.
    pub(super) async fn pass_on(&mut self, shared: &Shared) -> Option<String> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            while let Some(frame) = self.decoder.next_frame() {
                if let Some(breach) = self.sort(shared, frame).await {
                    return Some(breach);
                }
            }
            match self.stdout.read(&mut chunk).await {
                Ok(count) if count > 0 => {
                    self.decoder.push(chunk.get(..count).unwrap_or_default());
                }
                _ => return None,
            }
        }
    }

    async fn sort(&mut self, shared: &Shared, frame: Frame) -> Option<String> {
        let message = match frame {
            Frame::Message(message) => message,
            Frame::Invalid(answer) => {
                shared.routes().write(&(*answer).into());
                shared.written.notify_one();
                return None;
            }
            Frame::TooLong { limit } => {
                return Some(format!(
                    "a line on stdout is longer than the limit of {limit} bytes; leave what is large in a file and name that"
                ));
            }
            Frame::Garbage { excerpt } => {
                self.garbage += 1;
                let observer = &shared.observer;
                observer.record(Stream::Stdout, "warn", &excerpt, Map::new());
                shared.routes().tell_log(&excerpt);
                let too_many = self.garbage >= MAX_GARBAGE_LINES;
                return too_many.then(|| {
                    format!("{MAX_GARBAGE_LINES} lines in a row on stdout were no messages of the agent wire")
                });
            }
        };
        self.garbage = 0;
        record(shared, &message);
        let receivers = shared.routes().sort(message);
        shared.written.notify_one();
        for (pipe, line) in receivers {
            pipe.write(line).await;
        }
        None
    }
}

/// Keeps what the agent logs on the wire with the process's other logs; conversations tell it as events only.
fn record(shared: &Shared, message: &Message) {
    if let Message::Notification(notice) = message
        && notice.method == Method::LOG
        && let Ok(AgentNotice::Log(log)) = AgentNotice::read(notice.clone())
    {
        let level = convert::value(&log.level);
        let level = level.as_str().unwrap_or("info");
        let observer = &shared.observer;
        observer.record(Stream::Wire, level, &log.message, log.fields);
    }
}
