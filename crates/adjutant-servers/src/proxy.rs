//! A network that can be cut.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use anyhow::Result;

/// Passes on what goes to a server's unix socket from a free port of the loopback interface, until it is told to cut.
#[derive(Debug)]
pub struct CuttingProxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes to pass before the connection that carries the next one is cut.
    left: Mutex<Option<u64>>,
    cuts: AtomicU64,
    closed: AtomicBool,
}

/// Both ends of one connection.
struct Pair {
    client: TcpStream,
    server: UnixStream,
}

impl CuttingProxy {
    /// Starts passing on. The server need not be there yet, and may come back.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn to(socket: &Path) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let state = Arc::<State>::default();
        let (shared, socket) = (Arc::clone(&state), socket.to_owned());
        thread::spawn(move || accept(&listener, &socket, &shared));
        Ok(Self { port, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the connection that carries the last of so many bytes, of either direction, behind that byte.
    pub fn cut_after(&self, bytes: u64) {
        *self.state.left() = Some(bytes);
    }

    /// How often it has cut.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(SeqCst)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.state.closed.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn left(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        // A number is whole whatever happened around it.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of these bytes may pass, if not all.
    fn cuts_within(&self, bytes: usize) -> Option<usize> {
        let mut left = self.left();
        let rest = left.as_mut()?;
        match usize::try_from(*rest).ok().filter(|rest| *rest <= bytes) {
            Some(rest) => {
                *left = None;
                self.cuts.fetch_add(1, SeqCst);
                Some(rest)
            }
            None => {
                *rest -= bytes as u64;
                None
            }
        }
    }
}

fn accept(listener: &TcpListener, socket: &PathBuf, state: &Arc<State>) {
    for client in listener.incoming() {
        if state.closed.load(SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        // Without a server, the client finds the connection closed.
        let Ok(server) = UnixStream::connect(socket) else {
            continue;
        };
        let _no_delay = client.set_nodelay(true);
        let pair = Arc::new(Pair { client, server });
        let (back, there) = (Arc::clone(&pair), pair);
        let (state, other) = (Arc::clone(state), Arc::clone(state));
        thread::spawn(move || pass(&there.client, &there.server, &there, &state));
        thread::spawn(move || pass(&back.server, &back.client, &back, &other));
    }
}

/// One direction of a connection.
fn pass<R, W>(mut from: R, mut to: W, pair: &Pair, state: &State)
where
    R: Read,
    W: Write,
{
    let mut bytes = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        let cut = state.cuts_within(read);
        if to.write_all(&bytes[..cut.unwrap_or(read)]).is_err() || cut.is_some() {
            break;
        }
    }
    // Either end may have gone already.
    let _client = pair.client.shutdown(Shutdown::Both);
    let _server = pair.server.shutdown(Shutdown::Both);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn exactly_so_many_bytes_pass() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let proxy = CuttingProxy::to(&socket).unwrap();
        proxy.cut_after(5);
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        client.write_all(b"hello, world").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), proxy.cuts()), ("hello", 1));
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    }
}
