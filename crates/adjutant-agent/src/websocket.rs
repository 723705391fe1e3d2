//! The wire over a WebSocket, one message in each text message, as the lines that the rest of the crate knows.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
};

use adjutant_wire::{
    DEFAULT_MAX_LINE_BYTES,
    websocket::{LineCutter, Lines},
};
use tungstenite::{
    Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use crate::{
    link::lock,
    transport::{Input, Output},
};

/// A message over the wire's limit is refused by whoever reads the lines; one over this limit ends the connection.
const MAX_MESSAGE_BYTES: usize = 4 * DEFAULT_MAX_LINE_BYTES;

/// Connects to `ws://HOST:PORT/PATH`.
pub(crate) fn connect(url: &str) -> io::Result<(Input, Output)> {
    let stream = TcpStream::connect(authority(url)?)?;
    stream.set_nodelay(true)?;
    let reading = stream.try_clone()?;
    let writing = Shared(Arc::new(Mutex::new(stream.try_clone()?)));
    // The host says nothing before it has read our first message, so nothing can be lost between the two.
    tungstenite::client(url, stream).map_err(io::Error::other)?;
    let config = Some(
        WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES)),
    );
    let reader = Half {
        reading,
        writing: writing.clone(),
    };
    let input = Lines::new(WebSocket::from_raw_socket(reader, Role::Client, config));
    let output = Messages {
        socket: WebSocket::from_raw_socket(Unread(Vec::new()), Role::Client, config),
        out: writing,
        cutter: LineCutter::default(),
    };
    Ok((Box::new(input), Box::new(output)))
}

fn authority(url: &str) -> io::Result<&str> {
    let rest = url
        .strip_prefix("ws://")
        .and_then(|rest| rest.split('/').next());
    rest.filter(|authority| !authority.is_empty())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no host in the address"))
}

/// The socket's writing side; whoever holds the lock writes whole frames.
#[derive(Clone)]
struct Shared(Arc<Mutex<TcpStream>>);

/// What the reading half needs: bytes that come, and a way for its answers to pings.
struct Half {
    reading: TcpStream,
    writing: Shared,
}

impl Read for Half {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reading.read(buffer)
    }
}

impl Write for Half {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // All of it, so that no other frame comes in between.
        lock(&self.writing.0).write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Collects a frame's bytes; never read.
struct Unread(Vec<u8>);

impl Read for Unread {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Unread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines as text messages.
struct Messages {
    socket: WebSocket<Unread>,
    out: Shared,
    cutter: LineCutter,
}

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self {
            socket,
            out,
            cutter,
        } = self;
        cutter.cut(bytes, |line| {
            let text = String::from_utf8(line).map_err(io::Error::other)?;
            socket.send(Message::text(text)).map_err(io::Error::other)?;
            let frame = std::mem::take(&mut socket.get_mut().0);
            lock(&out.0).write_all(&frame)
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
