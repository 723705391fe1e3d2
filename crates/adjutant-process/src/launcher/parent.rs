//! The runtime's side: gives the order, and learns what came of it.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{UnixStream, unix::pipe},
    process::{Child, Command},
    time::timeout,
};

use super::{
    child::LAUNCH,
    order::{Order, Report, Step, send},
};
use crate::{
    error::{Error, Result},
    helper::Helper,
};

/// A helper that has not started the agent by then is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// A helper under way.
pub(crate) struct Launching {
    /// The helper, which becomes the agent or its keeper.
    pub(crate) child: Child,
    /// The agent's stdin.
    pub(crate) stdin: pipe::Sender,
    pub(crate) control: Control,
}

/// The way to a helper. To a keeper its end means that the runtime is gone.
pub(crate) struct Control {
    socket: BufReader<UnixStream>,
    line: Vec<u8>,
}

/// Starts a helper. Must be called within a runtime.
pub(crate) fn start(helper: &Helper, order: &Order) -> io::Result<Launching> {
    let (ours, theirs) = StdStream::pair()?;
    let (read, write) = io::pipe()?;
    let mut command: Command = helper.command(LAUNCH).into();
    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        // A keeper has to live until its tree is gone, and learns from the socket when it is time.
        .kill_on_drop(!order.keep);
    let child = command.spawn()?;
    // The command holds the helper's end of the socket, which is to close when the helper ends.
    drop(command);
    send(&ours, order, &read.into())?;
    ours.set_nonblocking(true)?;
    Ok(Launching {
        child,
        stdin: pipe::Sender::from_owned_fd(write.into())?,
        control: Control {
            socket: BufReader::new(UnixStream::from_std(ours)?),
            line: Vec::new(),
        },
    })
}

impl Control {
    /// Waits until the program runs. A keeper tells the number of the agent's process.
    pub(crate) async fn started(&mut self, order: &Order) -> Result<Option<i32>> {
        let failed = |step, source| match step {
            Step::Exec => Error::Start {
                program: order.program.clone(),
                source,
            },
            step => Error::Confine { step, source },
        };
        match timeout(PATIENCE, self.first_reports()).await {
            Ok((_, Some(Report::Started { pid }))) => Ok(Some(pid)),
            Ok((_, Some(Report::Failed { step, errno }))) => {
                Err(failed(step, io::Error::from_raw_os_error(errno)))
            }
            // The socket closes when the helper becomes the agent.
            Ok((true, None)) => Ok(None),
            Ok(_) => Err(failed(Step::Order, io::ErrorKind::UnexpectedEof.into())),
            Err(_) => Err(failed(Step::Order, io::ErrorKind::TimedOut.into())),
        }
    }

    /// Whether the helper was ready, and what it said then or instead.
    async fn first_reports(&mut self) -> (bool, Option<Report>) {
        match self.next().await {
            Some(Report::Ready) => (true, self.next().await),
            other => (false, other),
        }
    }

    /// How a keeper's agent ended: status or signal. `None` when the keeper did not tell. Dropping the future loses
    /// nothing.
    pub(crate) async fn ended(&mut self) -> Option<(Option<i32>, Option<i32>)> {
        match self.next().await? {
            Report::Ended { code, signal } => Some((code, signal)),
            _ => None,
        }
    }

    /// The next report; `None` at the end.
    async fn next(&mut self) -> Option<Report> {
        let read = self.socket.read_until(b'\n', &mut self.line).await;
        let line = std::mem::take(&mut self.line);
        read.ok()?;
        serde_json::from_slice(&line).ok()
    }
}
