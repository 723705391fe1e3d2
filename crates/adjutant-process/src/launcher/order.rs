//! What runtime and helper tell each other.

use std::{
    fmt,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use adjutant_confine::Confinement;
use serde::{Deserialize, Serialize};

use crate::{environment::Environment, limits::Limits};

/// Longer orders are refused; the kernel takes no more than 2 MiB of arguments and environment either.
const MAX_ORDER_BYTES: usize = 8 << 20;

/// What to start and how.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The runtime's number.
    pub(crate) runtime: i32,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) env: Environment,
    /// See [`Tree::entrances`](crate::tree::Tree::entrances).
    pub(crate) entrances: Vec<PathBuf>,
    pub(crate) limits: Limits,
    /// What it may see, change and reach.
    pub(crate) confinement: Confinement,
    /// Whether to stay as keeper.
    pub(crate) keep: bool,
}

/// What the helper says, one line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// All is prepared; exec is next.
    Ready,
    /// A step failed with an error of the operating system; nothing has been started.
    Failed { step: Step, errno: i32 },
    /// Confining it failed; nothing has been started.
    Unconfined(adjutant_confine::Error),
    /// A keeper has started the agent.
    Started { pid: i32 },
    /// A keeper's agent has ended with all that came of it.
    Ended {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// Where starting can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Reading what to start.
    Order,
    /// Tying the process's life to the runtime's.
    Tie,
    /// Joining the control groups.
    Cgroup,
    /// Setting rlimits.
    Rlimits,
    /// Giving up the way to new rights.
    NoNewPrivs,
    /// Executing the program.
    Exec,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Order => "read what to start",
            Self::Tie => "tie the process to the runtime",
            Self::Cgroup => "join the control groups",
            Self::Rlimits => "set the resource limits",
            Self::NoNewPrivs => "give up the way to new rights",
            Self::Exec => "execute the program",
        })
    }
}

/// Sends an order.
pub(super) fn send(mut socket: &UnixStream, order: &Order) -> io::Result<()> {
    let text = serde_json::to_vec(order)?;
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    socket.write_all(&[&length[..], &text].concat())
}

/// Receives what [`send`] sends.
pub(super) fn receive(mut socket: &UnixStream) -> io::Result<Order> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_ORDER_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    socket.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Sends a report. When nobody listens any more there is nobody to tell.
pub(super) fn report(socket: &UnixStream, report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let mut socket = socket;
        let _ = socket.write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_order_arrives_whole() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let order = Order {
            runtime: 1,
            program: "/bin/true".into(),
            args: vec!["x".repeat(500_000)],
            dir: "/".into(),
            env: Environment::default(),
            entrances: Vec::new(),
            limits: Limits::default(),
            confinement: Confinement::open(),
            keep: false,
        };
        let received = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&theirs).unwrap());
            send(&ours, &order).unwrap();
            receiver.join().unwrap()
        });
        assert_eq!(received.args, order.args);
    }

    #[test]
    fn an_order_that_is_too_long_is_refused() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receive(&theirs).is_err());
    }
}
