//! A network in between that can lose things.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinHandle,
};

/// What to lose of the next call with this text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lose {
    /// It never arrives.
    Call,
    /// It arrives, and is answered; the answer is lost.
    Answer,
}

#[derive(Default)]
struct State {
    lose: Mutex<Option<(Lose, &'static str)>>,
    connections: AtomicUsize,
    losses: AtomicUsize,
}

/// Passes on what goes to a server's unix socket.
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.connections.fetch_add(1, SeqCst);
                if let Ok(server) = UnixStream::connect(&socket).await {
                    tokio::spawn(pass(client, server, Arc::clone(&shared)));
                }
            }
        });
        Self { port, state, task }
    }

    /// Loses the next call with this text, and the connection with it.
    pub fn lose(&self, what: Lose, text: &'static str) {
        *self.state.lose.lock().unwrap() = Some((what, text));
    }

    /// How many connections have been asked for.
    pub fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// How often something was lost.
    pub fn losses(&self) -> usize {
        self.state.losses.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Both directions of one connection, until one end has gone or something is to be lost.
async fn pass(mut client: TcpStream, mut server: UnixStream, state: Arc<State>) {
    let (mut asked, mut answered) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = &asked[..read.unwrap_or(0)];
                let lost = wanted(&state, bytes);
                if lost != Some(Lose::Call)
                    && (bytes.is_empty() || server.write_all(bytes).await.is_err())
                {
                    return;
                }
                match lost {
                    None => {}
                    Some(Lose::Call) => return,
                    // The server answers when it is done.
                    Some(Lose::Answer) => {
                        let _answer = server.read(&mut answered).await;
                        return;
                    }
                }
            }
            read = server.read(&mut answered) => {
                let bytes = &answered[..read.unwrap_or(0)];
                if bytes.is_empty() || client.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn wanted(state: &State, bytes: &[u8]) -> Option<Lose> {
    let mut lose = state.lose.lock().unwrap();
    let (what, text) = (*lose)?;
    let text = text.as_bytes();
    if !bytes.windows(text.len()).any(|window| window == text) {
        return None;
    }
    *lose = None;
    state.losses.fetch_add(1, SeqCst);
    Some(what)
}
