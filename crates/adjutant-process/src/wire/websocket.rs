//! A WebSocket as a stream of lines: one message of the wire in each text message, without the newline.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use adjutant_wire::DEFAULT_MAX_LINE_BYTES;
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// Lines over the wire's limit are refused by who reads them; a message over this ends the connection.
const MAX_MESSAGE_BYTES: usize = 4 * DEFAULT_MAX_LINE_BYTES;

/// Does the server's part of the handshake.
pub(super) async fn welcome(
    stream: TcpStream,
) -> io::Result<(
    Box<dyn AsyncRead + Send + Unpin>,
    Box<dyn AsyncWrite + Send + Unpin>,
)> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let socket = tokio_tungstenite::accept_async_with_config(stream, Some(config))
        .await
        .map_err(io::Error::other)?;
    let shared = Shared(Arc::new(Mutex::new(State {
        socket,
        hung_up: false,
    })));
    let input = Lines {
        shared: shared.clone(),
        rest: Vec::new(),
        read: 0,
    };
    let output = Messages {
        shared,
        line: Vec::new(),
    };
    Ok((Box::new(input), Box::new(output)))
}

/// Both directions need the whole socket: who reads also answers pings.
#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

struct State {
    socket: WebSocketStream<TcpStream>,
    hung_up: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Text messages as lines.
struct Lines {
    shared: Shared,
    rest: Vec<u8>,
    read: usize,
}

impl Lines {
    /// Takes in the next message; false at the end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut state = self.shared.lock();
        // What a full socket left over is written as soon as there is room.
        let _ = if state.hung_up {
            state.socket.poll_close_unpin(cx)
        } else {
            state.socket.poll_flush_unpin(cx)
        };
        loop {
            match ready!(state.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Text(text))) => {
                    self.rest = text.as_bytes().to_vec();
                    self.rest.push(b'\n');
                    self.read = 0;
                    return Poll::Ready(Ok(true));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(false)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
    }
}

impl AsyncRead for Lines {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read == self.rest.len() && !ready!(self.poll_message(cx))? {
            return Poll::Ready(Ok(()));
        }
        let rest = self.rest.get(self.read..).unwrap_or_default();
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..count).unwrap_or_default());
        self.read += count;
        Poll::Ready(Ok(()))
    }
}

/// Lines as text messages. Dropping it hangs up.
struct Messages {
    shared: Shared,
    line: Vec<u8>,
}

impl AsyncWrite for Messages {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        };
        let shared = self.shared.clone();
        let mut state = shared.lock();
        ready!(state.socket.poll_ready_unpin(cx)).map_err(io::Error::other)?;
        self.line
            .extend_from_slice(bytes.get(..end).unwrap_or_default());
        let text = String::from_utf8(std::mem::take(&mut self.line)).map_err(io::Error::other)?;
        state
            .socket
            .start_send_unpin(Message::text(text))
            .map_err(io::Error::other)?;
        // Not waited for: whoever reads flushes on.
        if let Poll::Ready(Err(error)) = state.socket.poll_flush_unpin(cx) {
            return Poll::Ready(Err(io::Error::other(error)));
        }
        Poll::Ready(Ok(end + 1))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.shared.lock().socket.poll_flush_unpin(cx);
        flushed.map_err(io::Error::other)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = self.shared.lock().socket.poll_close_unpin(cx);
        closed.map_err(io::Error::other)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.shared.lock().hung_up = true;
    }
}
