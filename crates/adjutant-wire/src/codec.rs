//! Lines to messages and back.

use serde_json::Value;

use crate::envelope::{Message, Response};

/// Longest line either side accepts unless `initialize` agreed on another limit: 16 MiB, newline not counted.
pub const DEFAULT_MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// This many lines in a row that are no messages mean that the peer does not speak this wire.
pub const MAX_GARBAGE_LINES: u32 = 100;

/// How much of a bad line is kept for the log.
const EXCERPT_CHARS: usize = 400;

/// One line, newline included.
#[must_use]
pub fn encode(message: &Message) -> String {
    let mut line = message.clone().into_json().to_string();
    // JSON text holds no raw newline, so this one ends the message.
    line.push('\n');
    line
}

/// What a line turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A message.
    Message(Message),
    /// An object that says `jsonrpc` but is no message; send the response back.
    Invalid(Box<Response>),
    /// Not a message at all, for example a stray print. Log it and count it: [`MAX_GARBAGE_LINES`].
    Garbage {
        /// The start of the line, for the log.
        excerpt: String,
    },
    /// A line over the limit; it was skipped up to its newline. An agent answers with -31011 and a null id, a host ends
    /// the attempt.
    TooLong {
        /// The limit it broke, in bytes.
        limit: usize,
    },
}

/// Cuts a byte stream into frames, whatever pieces it arrives in. Holds at most one line and the last piece pushed.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Start of the line that is being looked at.
    start: usize,
    /// Up to here `buffer` is known to hold no newline after `start`.
    scanned: usize,
    max_line_bytes: usize,
    /// Inside an over-long line, throwing bytes away until its newline.
    skipping: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_LINE_BYTES)
    }
}

impl Decoder {
    /// A decoder with a line limit in bytes.
    #[must_use]
    pub const fn new(max_line_bytes: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            max_line_bytes,
            skipping: false,
        }
    }

    /// Another limit from here on, as agreed in `initialize`.
    pub const fn set_max_line_bytes(&mut self, max_line_bytes: usize) {
        self.max_line_bytes = max_line_bytes;
    }

    /// Takes in bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, or `None` until more bytes come.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let rest = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(offset) = rest.iter().position(|byte| *byte == b'\n') else {
                self.scanned = self.buffer.len();
                return self.give_up_on_long_line();
            };
            let (from, end) = (self.start, self.scanned + offset);
            self.start = end + 1;
            self.scanned = self.start;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if end - from > self.max_line_bytes {
                return Some(Frame::TooLong {
                    limit: self.max_line_bytes,
                });
            }
            if let Some(frame) = read_line(self.buffer.get(from..end).unwrap_or_default()) {
                return Some(frame);
            }
        }
    }

    /// The last line at the end of the stream, if it came without its newline.
    pub fn finish(&mut self) -> Option<Frame> {
        let line = self.buffer.split_off(self.start);
        let skipping = self.skipping;
        *self = Self::new(self.max_line_bytes);
        if skipping { None } else { read_line(&line) }
    }

    fn give_up_on_long_line(&mut self) -> Option<Frame> {
        let too_long = self.buffer.len() - self.start > self.max_line_bytes;
        if self.skipping || too_long {
            self.buffer.clear();
            self.start = 0;
            self.scanned = 0;
        }
        (too_long && !std::mem::replace(&mut self.skipping, true)).then_some(Frame::TooLong {
            limit: self.max_line_bytes,
        })
    }
}

fn read_line(line: &[u8]) -> Option<Frame> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return None;
    }
    Some(match serde_json::from_slice(line) {
        // A printed dictionary is JSON too; only what says `jsonrpc` deserves an answer.
        Ok(Value::Object(object)) if object.contains_key("jsonrpc") => {
            match Message::from_object(object) {
                Ok(message) => Frame::Message(message),
                Err(refusal) => Frame::Invalid(refusal),
            }
        }
        _ => Frame::Garbage {
            excerpt: String::from_utf8_lossy(line)
                .chars()
                .take(EXCERPT_CHARS)
                .collect(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Notification;
    use serde_json::json;

    fn notification(n: usize) -> Message {
        Notification {
            method: format!("m{n}"),
            params: json!({"text": "line\nbreak é 🦀"}),
        }
        .into()
    }

    fn frames(decoder: &mut Decoder, pieces: &[&[u8]]) -> Vec<Frame> {
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            frames.extend(std::iter::from_fn(|| decoder.next_frame()));
        }
        frames.extend(decoder.finish());
        frames
    }

    #[test]
    fn an_encoded_message_is_exactly_one_line() {
        let line = encode(&notification(1));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.ends_with('\n'));
    }

    #[test]
    fn frames_do_not_depend_on_how_the_bytes_are_cut() {
        let text: String = (0..5)
            .map(|n| encode(&notification(n)) + "print\n\n\r\n")
            .collect();
        let whole = frames(&mut Decoder::default(), &[text.as_bytes()]);
        assert_eq!(whole.len(), 10);
        for size in 1..=text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(
                frames(&mut Decoder::default(), &pieces),
                whole,
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn a_long_line_is_reported_once_and_the_next_line_is_read() {
        let text = format!("{}\n{}", "x".repeat(300), encode(&notification(1)));
        for size in [1, 7, 99, 100, 101, 102, 250, 300, 301, 500] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let expected = vec![
                Frame::TooLong { limit: 100 },
                Frame::Message(notification(1)),
            ];
            assert_eq!(
                frames(&mut Decoder::new(100), &pieces),
                expected,
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_read() {
        let line = encode(&notification(1));
        let got = frames(&mut Decoder::new(line.len() - 1), &[line.as_bytes()]);
        assert_eq!(got, [Frame::Message(notification(1))]);
    }

    #[test]
    fn memory_stays_bounded_while_a_long_line_is_skipped() {
        let mut decoder = Decoder::new(100);
        for _ in 0..1000 {
            decoder.push(&[b'x'; 50]);
            let _ = decoder.next_frame();
            assert!(decoder.buffer.len() <= 150);
        }
    }

    #[test]
    fn the_last_line_needs_no_newline() {
        let line = encode(&notification(1));
        let got = frames(&mut Decoder::default(), &[line.trim_end().as_bytes()]);
        assert_eq!(got, [Frame::Message(notification(1))]);
    }

    #[test]
    fn nothing_that_comes_in_a_line_panics_or_passes_for_a_message() {
        let deep = "[".repeat(100_000);
        let lines: &[&[u8]] = &[
            b"Traceback (most recent call last):",
            b"42",
            b"null",
            b"[]",
            b"{}",
            b"\"jsonrpc\"",
            b"{\"a\":1}",
            b"{\"jsonrpc\":\"2.0\"",
            b"[{\"jsonrpc\":\"2.0\",\"method\":\"a\"}]",
            b"\xff\xfe",
            b"\0",
            deep.as_bytes(),
        ];
        for line in lines {
            let got = frames(&mut Decoder::default(), &[line, b"\n"]);
            assert!(matches!(got.as_slice(), [Frame::Garbage { .. }]), "{got:?}");
        }
    }

    #[test]
    fn every_truncation_and_every_broken_byte_of_a_message_is_survived() {
        let line = encode(&notification(1));
        for at in 0..line.len() {
            frames(&mut Decoder::default(), &[&line.as_bytes()[..at]]);
            for byte in [0, b'"', b'{', b'\\', b'\n', 0xff] {
                let mut broken = line.clone().into_bytes();
                broken[at] = byte;
                frames(&mut Decoder::default(), &[&broken]);
            }
        }
    }

    #[test]
    fn a_broken_message_is_refused_rather_than_ignored() {
        let got = frames(
            &mut Decoder::default(),
            &[b"{\"jsonrpc\":\"2.0\",\"id\":4}\n"],
        );
        assert!(
            matches!(got.as_slice(), [Frame::Invalid(response)] if response.id == Some(4.into()))
        );
    }
}
