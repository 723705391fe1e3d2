//! Where an agent comes to that does not speak on its stdin and stdout.
//!
//! The door is there before the process starts, and opens once: for whoever says the token that the process was given.
//! To the rest of the wire it is a pair of streams like any other; a process that never comes is one that says nothing.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use adjutant_wire::{
    Decoder, Frame, Hello, Message, Notice,
    transport::{ADDRESS_VARIABLE, Address, TOKEN_VARIABLE, same_token},
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpListener, UnixListener},
    time::timeout,
};

use super::websocket;
use crate::{manifest::Transport, port::Spawned};

type Input = Box<dyn AsyncRead + Send + Unpin>;
type Output = Box<dyn AsyncWrite + Send + Unpin>;
type Streams = (Input, Output);

/// How long a visitor may take to say its token.
const GREETING: Duration = Duration::from_secs(5);
/// Longest first line.
const MAX_HELLO_BYTES: usize = 4096;
/// Visitors that may be asked for their token at once; more wait outside.
const MAX_VISITORS: usize = 16;

/// A private place where one process can connect.
pub(crate) struct Door {
    listener: Listener,
    address: Address,
    token: String,
}

enum Listener {
    /// The folder is nobody else's, and goes with the door.
    Unix {
        listener: UnixListener,
        _dir: TempDir,
    },
    Tcp(TcpListener),
}

impl Door {
    /// Opens a door; none is needed for stdin and stdout.
    ///
    /// # Errors
    /// When the operating system has no socket to give.
    pub(crate) fn open(transport: Transport) -> io::Result<Option<Self>> {
        let (listener, address) = match transport {
            Transport::Stdio => return Ok(None),
            Transport::Unix => {
                let dir = tempfile::Builder::new().prefix("adjutant-").tempdir()?;
                let path = dir.path().join("wire.sock");
                let listener = UnixListener::bind(&path)?;
                (
                    Listener::Unix {
                        listener,
                        _dir: dir,
                    },
                    Address::Unix(path),
                )
            }
            Transport::WebSocket => {
                let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
                listener.set_nonblocking(true)?;
                let address = Address::WebSocket(format!("ws://{}/wire", listener.local_addr()?));
                (Listener::Tcp(TcpListener::from_std(listener)?), address)
            }
        };
        let token = format!("{:032x}", rand::random::<u128>());
        Ok(Some(Self {
            listener,
            address,
            token,
        }))
    }

    /// What the process has to know.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        [
            (ADDRESS_VARIABLE, self.address.to_string()),
            (TOKEN_VARIABLE, self.token.clone()),
        ]
    }

    /// The folder that holds the door, if that is a file.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.address {
            Address::Unix(socket) => socket.parent(),
            _ => None,
        }
    }

    /// Puts the door in the place of a process's stdin and stdout. What it prints becomes part of its log.
    pub(crate) fn attach(self, spawned: Spawned) -> Spawned {
        let late = Arc::new(Mutex::new(Late::Awaited(None)));
        let stderr = Both {
            streams: [Some(spawned.stdout), Some(spawned.stderr)],
        };
        Spawned {
            process: spawned.process,
            stdin: Box::new(LateOutput(late.clone())),
            stdout: Box::new(LateInput {
                late,
                arrival: Arrival::Awaited(self.admit().boxed()),
            }),
            stderr: Box::new(stderr),
        }
    }

    /// Waits for the visitor who knows the token.
    async fn admit(self) -> io::Result<Streams> {
        let mut visitors = FuturesUnordered::new();
        loop {
            tokio::select! {
                visitor = self.listener.accept(), if visitors.len() < MAX_VISITORS => {
                    visitors.push(timeout(GREETING, greet(visitor?, &self.token)));
                }
                Some(greeted) = visitors.next() => match greeted {
                    Ok(Ok(streams)) => return Ok(streams),
                    Ok(Err(error)) => tracing::warn!(address = %self.address, %error, "a visitor was turned away"),
                    Err(_) => tracing::warn!(address = %self.address, "a visitor said nothing"),
                },
            }
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<BoxFuture<'static, io::Result<Streams>>> {
        Ok(match self {
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let (input, output) = stream.into_split();
                std::future::ready(Ok((Box::new(input) as Input, Box::new(output) as Output)))
                    .boxed()
            }
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                websocket::welcome(stream).boxed()
            }
        })
    }
}

/// Hears a visitor's token.
async fn greet(
    visitor: BoxFuture<'static, io::Result<Streams>>,
    token: &str,
) -> io::Result<Streams> {
    let (mut input, output) = visitor.await?;
    let refused = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why);
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() >= MAX_HELLO_BYTES {
            return Err(refused("the first line is too long for `hello`"));
        }
        // Byte by byte, because what comes after the line is for others.
        line.push(input.read_u8().await?);
    }
    let mut decoder = Decoder::default();
    decoder.push(&line);
    match decoder.next_frame() {
        Some(Frame::Message(Message::Notification(hello))) if hello.method == Hello::METHOD => {
            let said = hello.params.get("token").and_then(Value::as_str);
            if same_token(said.unwrap_or_default(), token) {
                return Ok((input, output));
            }
            Err(refused("the token is wrong"))
        }
        _ => Err(refused("`hello` comes first")),
    }
}

/// The way to the agent, once it is there.
enum Late {
    Awaited(Option<Waker>),
    Here(Output),
    Closed,
}

impl Late {
    fn lock(late: &Mutex<Self>) -> std::sync::MutexGuard<'_, Self> {
        late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the agent says, once it is there. Reading lets it in.
struct LateInput {
    late: Arc<Mutex<Late>>,
    arrival: Arrival,
}

enum Arrival {
    Awaited(BoxFuture<'static, io::Result<Streams>>),
    Here(Input),
}

impl AsyncRead for LateInput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.arrival {
                Arrival::Here(input) => return Pin::new(input).poll_read(cx, buffer),
                Arrival::Awaited(admitted) => {
                    let (input, output) = std::task::ready!(admitted.as_mut().poll(cx))?;
                    let mut late = Late::lock(&self.late);
                    if let Late::Awaited(waker) = &mut *late {
                        if let Some(waker) = waker.take() {
                            waker.wake();
                        }
                        *late = Late::Here(output);
                    }
                    drop(late);
                    self.arrival = Arrival::Here(input);
                }
            }
        }
    }
}

/// What is said to the agent, once it is there. Dropping it hangs up.
struct LateOutput(Arc<Mutex<Late>>);

impl LateOutput {
    fn with<T>(
        &self,
        cx: &mut Context<'_>,
        work: impl FnOnce(Pin<&mut Output>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *Late::lock(&self.0) {
            Late::Here(output) => work(Pin::new(output), cx),
            Late::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Late::Awaited(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for LateOutput {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(cx, |output, cx| output.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |output, cx| output.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |output, cx| output.poll_shutdown(cx))
    }
}

impl Drop for LateOutput {
    fn drop(&mut self) {
        *Late::lock(&self.0) = Late::Closed;
    }
}

/// Two streams as one, in whatever order their pieces come; ends with the second.
struct Both {
    streams: [Option<Input>; 2],
}

impl AsyncRead for Both {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        for stream in &mut self.streams {
            let Some(open) = stream else { continue };
            match Pin::new(open).poll_read(cx, buffer) {
                Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(_) => *stream = None,
                Poll::Pending => {}
            }
        }
        if self.streams.iter().all(Option::is_none) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncWriteExt, net::UnixStream};

    async fn visit(door: &Door, first: &str) -> UnixStream {
        let Address::Unix(path) = &door.address else {
            panic!("a Unix socket was asked for")
        };
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn only_who_knows_the_token_is_let_in_and_silence_holds_up_nobody() {
        let door = Door::open(Transport::Unix).unwrap().unwrap();
        let hello = |token: &str| {
            format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"params\":{{\"token\":\"{token}\"}}}}\n"
            )
        };
        let _silent = visit(&door, "").await;
        let mut wrong = visit(&door, &hello("0000")).await;
        let mut rude = visit(&door, "GET / HTTP/1.1\n").await;
        let mut right = visit(&door, &format!("{}next\n", hello(&door.token))).await;
        let (mut input, mut output) = door.admit().await.unwrap();
        let mut next = [0; 5];
        input.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"next\n", "nothing after `hello` is lost");
        output.write_all(b"welcome").await.unwrap();
        let mut welcome = [0; 7];
        right.read_exact(&mut welcome).await.unwrap();
        for stream in [&mut wrong, &mut rude] {
            let mut rest = Vec::new();
            assert_eq!(stream.read_to_end(&mut rest).await.unwrap_or(0), 0);
        }
    }

    #[test]
    fn stdin_and_stdout_need_no_door() {
        assert!(Door::open(Transport::Stdio).unwrap().is_none());
    }
}
