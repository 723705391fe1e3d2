//! A WebSocket as the lines of the wire: each text message is one line, without the newline.

use std::io::{self, Read, Write};

use tungstenite::{Error, Message, WebSocket};

/// The text messages of a WebSocket as lines. Needs the writing half only for what the protocol itself answers.
#[derive(Debug)]
pub struct Lines<S> {
    socket: WebSocket<S>,
    rest: Vec<u8>,
    read: usize,
}

impl<S> Lines<S> {
    /// The lines of this WebSocket.
    #[must_use]
    pub const fn new(socket: WebSocket<S>) -> Self {
        Self {
            socket,
            rest: Vec::new(),
            read: 0,
        }
    }
}

impl<S: Read + Write> Read for Lines<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.rest.len() {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    self.rest = text.as_bytes().to_vec();
                    self.rest.push(b'\n');
                    self.read = 0;
                }
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    return Ok(0);
                }
                // Answers to pings are written along with the next read.
                Ok(_) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let mut rest = self.rest.get(self.read..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

/// Cuts what is written into lines.
#[derive(Debug, Default)]
pub struct LineCutter {
    line: Vec<u8>,
}

impl LineCutter {
    /// Takes in bytes, and hands each line that they complete to `send`, without its newline.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn cut(
        &mut self,
        bytes: &[u8],
        mut send: impl FnMut(Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        self.line
            .extend_from_slice(pieces.next().unwrap_or_default());
        for piece in pieces {
            send(std::mem::replace(&mut self.line, piece.to_vec()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_pieces_end() {
        let mut lines = Vec::new();
        let mut cutter = LineCutter::default();
        for piece in [&b"a"[..], b"b\nc\n\nd", b"", b"e\n", b"f"] {
            let send = |line| {
                lines.push(String::from_utf8(line).unwrap());
                Ok(())
            };
            cutter.cut(piece, send).unwrap();
        }
        assert_eq!(lines, ["ab", "c", "", "de"]);
    }
}
