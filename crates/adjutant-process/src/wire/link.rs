//! The two pipes between host and agent, as messages.

use adjutant_wire::{
    DEFAULT_MAX_LINE_BYTES, Decoder, ErrorCode, Frame, MAX_GARBAGE_LINES, Message, Response,
    RpcError, encode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much is read at once.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// When this much waits to be written, nothing more is read: an agent that does not read its answers gets to ask no
/// more questions.
const MAX_UNWRITTEN_BYTES: usize = 4 * 1024 * 1024;

/// When this much waits to be written, the agent does not read as fast as it is told.
const BEHIND_BYTES: usize = 256 * 1024;

/// Something that came from the agent.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A message.
    Message(Message),
    /// Something that claims to be a message and is not; its answer.
    Invalid(Box<Response>),
    /// A line that is no message.
    Garbage(String),
    /// One such line too many.
    TooMuchGarbage,
    /// A line over the limit, in bytes.
    TooLong(usize),
    /// The agent has closed its stdout.
    End,
}

pub(super) struct Link {
    stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    stdout: Box<dyn AsyncRead + Send + Unpin>,
    chunk: Box<[u8]>,
    decoder: Decoder,
    unwritten: Vec<u8>,
    written: usize,
    garbage: u32,
    ended: bool,
    /// Longest line that the agent takes, newline not counted.
    max_line_bytes: usize,
}

impl Link {
    pub(super) fn new(
        stdin: Box<dyn AsyncWrite + Send + Unpin>,
        stdout: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Self {
        Self {
            stdin: Some(stdin),
            stdout,
            chunk: vec![0; CHUNK_BYTES].into_boxed_slice(),
            decoder: Decoder::default(),
            unwritten: Vec::new(),
            written: 0,
            garbage: 0,
            ended: false,
            max_line_bytes: DEFAULT_MAX_LINE_BYTES,
        }
    }

    /// The pipes, and what has been read and not yet taken. Nothing may be left to be written.
    pub(super) fn into_parts(
        self,
    ) -> (
        Box<dyn AsyncWrite + Send + Unpin>,
        Box<dyn AsyncRead + Send + Unpin>,
        Decoder,
    ) {
        let stdin = self.stdin.unwrap_or_else(|| Box::new(tokio::io::sink()));
        (stdin, self.stdout, self.decoder)
    }

    /// What the agent said that it takes.
    pub(super) const fn set_max_line_bytes(&mut self, bytes: usize) {
        self.max_line_bytes = bytes;
    }

    /// Leaves a message to be written by [`Link::next`]; false when the agent takes no line that long. An answer that is
    /// too long becomes the error that says so, because the agent waits for one.
    pub(super) fn send(&mut self, message: impl Into<Message>) -> bool {
        if self.stdin.is_none() {
            return true;
        }
        let message = message.into();
        let line = encode(&message);
        if line.len() <= self.max_line_bytes.saturating_add(1) {
            self.unwritten.extend(line.into_bytes());
            return true;
        }
        if let Message::Response(response) = message {
            let limit = self.max_line_bytes;
            let why = format!("an answer of {} bytes; the agent takes {limit}", line.len());
            let error = RpcError::new(ErrorCode::TooLarge, why);
            let refusal = encode(&Response::error(response.id, error).into());
            self.unwritten.extend(refusal.into_bytes());
        }
        false
    }

    /// Whether so much waits to be written that what is only for showing is better left out.
    pub(super) const fn is_behind(&self) -> bool {
        self.unwritten.len() - self.written > BEHIND_BYTES
    }

    /// Whether the agent has closed its stdout.
    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// Closes the agent's stdin.
    pub(super) fn hang_up(&mut self) {
        self.stdin = None;
        self.unwritten = Vec::new();
        self.written = 0;
    }

    /// Writes what is to be written and, if `may_read`, returns what comes. Dropping the future loses nothing.
    pub(super) async fn next(&mut self, may_read: bool) -> Incoming {
        loop {
            let unwritten = self.unwritten.len() - self.written;
            let may_read = may_read && unwritten < MAX_UNWRITTEN_BYTES;
            if may_read && let Some(frame) = self.decoder.next_frame() {
                return self.sort(frame);
            }
            let rest = self.unwritten.get(self.written..).unwrap_or_default();
            tokio::select! {
                read = self.stdout.read(&mut self.chunk), if may_read && !self.ended => match read {
                    Ok(count) if count > 0 => {
                        self.decoder.push(self.chunk.get(..count).unwrap_or_default());
                    }
                    _ => {
                        self.ended = true;
                        let last = self.decoder.finish();
                        return last.map_or(Incoming::End, |frame| self.sort(frame));
                    }
                },
                write = write_some(&mut self.stdin, rest), if !rest.is_empty() => match write {
                    Ok(count) => self.wrote(count),
                    // The agent may have said all it has to say before it closed its stdin, so read on.
                    Err(_) => self.hang_up(),
                },
                else => std::future::pending().await,
            }
        }
    }

    fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written == self.unwritten.len() {
            self.unwritten.clear();
            self.written = 0;
        }
    }

    fn sort(&mut self, frame: Frame) -> Incoming {
        if !matches!(frame, Frame::Garbage { .. }) {
            self.garbage = 0;
        }
        match frame {
            Frame::Message(message) => Incoming::Message(message),
            Frame::Invalid(response) => Incoming::Invalid(response),
            Frame::TooLong { limit } => Incoming::TooLong(limit),
            Frame::Garbage { excerpt } => {
                self.garbage += 1;
                if self.garbage >= MAX_GARBAGE_LINES {
                    return Incoming::TooMuchGarbage;
                }
                Incoming::Garbage(excerpt)
            }
        }
    }

    /// Reads to the end without looking, so that an agent on its way out does not block on a full pipe.
    pub(super) async fn discard(&mut self) {
        while !self.ended {
            let read = self.stdout.read(&mut self.chunk).await;
            self.ended = !matches!(read, Ok(count) if count > 0);
        }
    }
}

async fn write_some(
    stdin: &mut Option<Box<dyn AsyncWrite + Send + Unpin>>,
    bytes: &[u8],
) -> std::io::Result<usize> {
    let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    match stdin.as_mut().ok_or_else(gone)?.write(bytes).await? {
        0 => Err(gone()),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use adjutant_wire::{HealthCheck, Request};
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn an_agent_that_never_reads_its_answers_is_read_no_further() {
        let (host_in, _agent_in) = duplex(16);
        let (host_out, mut agent_out) = duplex(1024);
        let mut link = Link::new(Box::new(host_in), Box::new(host_out));
        link.unwritten = vec![b' '; MAX_UNWRITTEN_BYTES + 64];
        let line = encode(&Request::call(1, &HealthCheck {}).unwrap().into());
        agent_out.write_all(line.as_bytes()).await.unwrap();
        assert!(futures::FutureExt::now_or_never(link.next(true)).is_none());
        link.hang_up();
        assert!(matches!(link.next(true).await, Incoming::Message(_)));
    }

    #[tokio::test]
    async fn no_line_is_longer_than_the_agent_takes() {
        let (stdin, mut agent) = duplex(4096);
        let mut link = Link::new(Box::new(stdin), Box::new(tokio::io::empty()));
        link.set_max_line_bytes(300);
        let long = serde_json::json!("x".repeat(500));
        let question = adjutant_wire::Notification {
            method: "m".into(),
            params: long.clone(),
        };
        assert!(!link.send(question));
        assert!(!link.send(Response::ok(7.into(), long)));
        assert!(link.send(Request::call(8, &HealthCheck {}).unwrap()));
        assert!(matches!(link.next(true).await, Incoming::End));
        assert!(futures::FutureExt::now_or_never(link.next(true)).is_none());
        let mut piece = [0; 4096];
        let count = agent.read(&mut piece).await.unwrap();
        let text = String::from_utf8_lossy(&piece[..count]).into_owned();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("-31011") && lines[0].contains("\"id\":7"));
        assert!(lines[1].contains("health/check"));
    }

    #[tokio::test]
    async fn garbage_is_counted_in_a_row() {
        let line = encode(&Request::call(1, &HealthCheck {}).unwrap().into());
        let junk = "junk\n".repeat(MAX_GARBAGE_LINES as usize - 1);
        let text = format!("{junk}{line}{junk}x\ny");
        let (stdin, _kept) = duplex(16);
        let stdout = std::io::Cursor::new(text.into_bytes());
        let mut link = Link::new(Box::new(stdin), Box::new(stdout));
        let mut seen = 0;
        while !matches!(link.next(true).await, Incoming::TooMuchGarbage) {
            seen += 1;
        }
        assert_eq!(seen, 2 * (MAX_GARBAGE_LINES - 1) + 1);
    }
}
