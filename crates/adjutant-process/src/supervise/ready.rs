//! When a process is ready.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Time between two looks: the first, doubled each time, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Longest time that one look takes.
const LOOK: Duration = Duration::from_secs(5);

/// What shows that a process can do its work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Ready {
    /// That it has started.
    #[default]
    Started,
    /// Its answer to `initialize` on the agent wire. While it is up it is asked for its health.
    Handshake,
    /// That somebody listens there.
    Port(SocketAddr),
    /// That `GET` of this path there is answered with a status from 200 to 299. While it is up it is asked again.
    Http(SocketAddr, String),
    /// That this file is there.
    File(PathBuf),
}

impl Ready {
    /// Whether the process can be asked again while it is up, so that its heartbeat needs nobody else.
    pub(super) const fn beats(&self) -> bool {
        matches!(self, Self::Handshake | Self::Http(..))
    }

    /// Looks once; what only the process itself can tell counts as there.
    pub(super) async fn look(&self) -> bool {
        let look = async {
            match self {
                Self::Started | Self::Handshake => true,
                Self::Port(address) => TcpStream::connect(address).await.is_ok(),
                Self::Http(address, path) => get(*address, path).await.unwrap_or(false),
                Self::File(file) => file.exists(),
            }
        };
        timeout(LOOK, look).await.unwrap_or(false)
    }

    /// Looks until it is there.
    pub(super) async fn wait(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.look().await {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether a `GET` is answered with success. Reads the status line only.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..));
    Ok(status.is_some_and(|status| status.starts_with(b"2")))
}
