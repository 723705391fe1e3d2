//! What runtime and helper tell each other.

use std::{
    fmt,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
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
    /// Whether to stay as keeper.
    pub(crate) keep: bool,
}

/// What the helper says, one line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// All is prepared; exec is next.
    Ready,
    /// A step failed with an error of the operating system; nothing has been started.
    Failed { step: Step, errno: i32 },
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

/// Sends an order together with the agent's stdin.
pub(super) fn send(socket: &UnixStream, order: &Order, stdin: &OwnedFd) -> io::Result<()> {
    let text = serde_json::to_vec(order)?;
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [stdin.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(
        socket,
        &[IoSlice::new(&length)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    let mut socket = socket;
    socket.write_all(&text)
}

/// Receives what [`send`] sends.
pub(super) fn receive(socket: &UnixStream) -> io::Result<(Order, OwnedFd)> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut length)];
    let message = recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let stdin = file
        .filter(|_| message.bytes == length.len())
        .ok_or_else(broken)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_ORDER_BYTES {
        return Err(broken());
    }
    let mut text = vec![0; length];
    let mut socket = socket;
    socket.read_exact(&mut text)?;
    Ok((serde_json::from_slice(&text)?, stdin))
}

/// Sends a report. When nobody listens any more there is nobody to tell.
pub(super) fn report(socket: &UnixStream, report: Report) {
    if let Ok(mut line) = serde_json::to_vec(&report) {
        line.push(b'\n');
        let mut socket = socket;
        let _ = socket.write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_whole_with_the_file() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (read, write) = std::io::pipe().unwrap();
        let order = Order {
            runtime: 1,
            program: "/bin/true".into(),
            args: vec!["x".repeat(500_000)],
            dir: "/".into(),
            env: Environment::default(),
            entrances: Vec::new(),
            limits: Limits::default(),
            keep: false,
        };
        let (received, stdin) = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&theirs).unwrap());
            send(&ours, &order, &read.into()).unwrap();
            receiver.join().unwrap()
        });
        assert_eq!(received.args, order.args);
        drop(write);
        let mut rest = Vec::new();
        std::fs::File::from(stdin).read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }

    #[test]
    fn an_order_without_a_file_is_refused() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&4_u32.to_le_bytes()).unwrap();
        assert!(receive(&theirs).is_err());
    }
}
