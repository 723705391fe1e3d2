//! The host's end of a WebSocket, as the lines that the rest of the crate knows.

use std::{
    io::{self, Write},
    net::TcpStream,
};

use adjutant_wire::websocket::{LineCutter, Lines};
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
    let input = Lines::new(WebSocket::from_raw_socket(
        reading,
        Role::Server,
        Some(config),
    ));
    let out = Messages {
        socket: WebSocket::from_raw_socket(writing, Role::Server, Some(config)),
        cutter: LineCutter::default(),
        pings: 0,
    };
    Ok((Box::new(input), Box::new(out)))
}

/// Lines as text messages.
struct Messages {
    socket: WebSocket<TcpStream>,
    cutter: LineCutter,
    pings: u8,
}

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self {
            socket,
            cutter,
            pings,
        } = self;
        cutter.cut(bytes, |line| {
            let text = String::from_utf8_lossy(&line).into_owned();
            socket.send(Message::text(text)).map_err(io::Error::other)?;
            // A ping now and then, which the program has to bear.
            *pings = pings.wrapping_add(1);
            if pings.is_multiple_of(8) {
                let ping = Message::Ping(vec![*pings].into());
                socket.send(ping).map_err(io::Error::other)?;
            }
            Ok(())
        })?;
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
