//! The host's end of a WebSocket, as the lines that the rest of the crate knows.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use tungstenite::{
    Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use crate::pipes::{In, Out};

/// Longer than any line of the wire, because cases break that limit on purpose.
const LIMIT: usize = 64 * 1024 * 1024;

/// Takes the program's connection.
pub(crate) fn welcome(stream: TcpStream) -> io::Result<(In, Out)> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let (reading, writing) = (stream.try_clone()?, stream.try_clone()?);
    tungstenite::accept(stream).map_err(|error| io::Error::other(error.to_string()))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMIT))
        .max_frame_size(Some(LIMIT));
    let input = Lines {
        socket: WebSocket::from_raw_socket(reading, Role::Server, Some(config)),
        rest: Vec::new(),
        read: 0,
    };
    let out = Messages {
        socket: WebSocket::from_raw_socket(writing, Role::Server, Some(config)),
        line: Vec::new(),
        pings: 0,
    };
    Ok((Box::new(input), Box::new(out)))
}

/// Text messages as lines.
struct Lines {
    socket: WebSocket<TcpStream>,
    rest: Vec<u8>,
    read: usize,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.rest.len() {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    self.rest = text.as_bytes().to_vec();
                    self.rest.push(b'\n');
                    self.read = 0;
                }
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => return Ok(0),
                Ok(_) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let rest = self.rest.get(self.read..).unwrap_or_default();
        let count = (&*rest).read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

/// Lines as text messages.
struct Messages {
    socket: WebSocket<TcpStream>,
    line: Vec<u8>,
    pings: u8,
}

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        self.line
            .extend_from_slice(pieces.next().unwrap_or_default());
        for piece in pieces {
            let line = std::mem::replace(&mut self.line, piece.to_vec());
            let text = String::from_utf8_lossy(&line).into_owned();
            self.socket
                .send(Message::text(text))
                .map_err(io::Error::other)?;
            // A ping now and then, which the program has to bear.
            self.pings = self.pings.wrapping_add(1);
            if self.pings.is_multiple_of(8) {
                let ping = Message::Ping(vec![self.pings].into());
                self.socket.send(ping).map_err(io::Error::other)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
        // The reading half holds the socket open otherwise.
        let _ = self.socket.get_ref().shutdown(std::net::Shutdown::Write);
    }
}
