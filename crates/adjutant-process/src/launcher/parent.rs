//! The runtime's side: gives the order, and learns what came of it.

use std::{
    io::{self, IoSlice, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream as StdStream, process::CommandExt},
    },
    process::{Child, Stdio},
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{UnixStream, unix::pipe},
    time::timeout,
};

use super::{
    order::{Order, Report, Step, send},
    server::{FILES, LAUNCH},
};
use crate::{
    error::{Error, Result},
    helper::Helper,
};

/// A copy that has not become the agent by then is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// The helper. Dropping it ends it; its copies go on.
#[derive(Debug)]
pub(crate) struct Launcher {
    helper: Child,
    socket: StdStream,
}

/// An agent under way.
pub(crate) struct Launching {
    /// The number of the helper's copy, which becomes the agent or its keeper.
    pub(crate) pid: i32,
    pub(crate) stdin: pipe::Sender,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
    pub(crate) control: Control,
}

/// The way to a helper's copy. To a keeper its end means that the runtime is gone.
pub(crate) struct Control {
    socket: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Launcher {
    /// Starts the helper. Its copies are children of the calling thread's process and end with that thread.
    pub(crate) fn start(helper: &Helper) -> io::Result<Self> {
        let (socket, theirs) = StdStream::pair()?;
        let mut command = helper.command(LAUNCH);
        command
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // So that no signal meant for the runtime's group ends it.
            .process_group(0)
            .current_dir("/");
        let helper = command.spawn()?;
        // One that hangs must not hold up the thread that starts agents for ever.
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { helper, socket })
    }

    /// Has an agent started. Must be called within a runtime.
    pub(crate) fn launch(&self, order: &Order) -> io::Result<Launching> {
        let (control, theirs) = StdStream::pair()?;
        let ((stdin, ours_in), (ours_out, stdout), (ours_err, stderr)) =
            (io::pipe()?, io::pipe()?, io::pipe()?);
        let pid = self.fork([
            theirs.as_fd(),
            stdin.as_fd(),
            stdout.as_fd(),
            stderr.as_fd(),
        ])?;
        // The copy reads at the same time, so that no order is too long for the socket.
        drop(theirs);
        let sent = send(&control, order).and_then(|()| control.set_nonblocking(true));
        let open = || {
            sent?;
            Ok(Launching {
                pid,
                stdin: pipe::Sender::from_owned_fd(ours_in.into())?,
                stdout: pipe::Receiver::from_owned_fd(ours_out.into())?,
                stderr: pipe::Receiver::from_owned_fd(ours_err.into())?,
                control: Control {
                    socket: BufReader::new(UnixStream::from_std(control)?),
                    line: Vec::new(),
                },
            })
        };
        open().inspect_err(|_| crate::native::abandon(pid))
    }

    fn fork(&self, files: [BorrowedFd<'_>; FILES]) -> io::Result<i32> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        sendmsg(
            &self.socket,
            &[IoSlice::new(&[0])],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        let mut answer = [0; 4];
        let mut socket = &self.socket;
        socket.read_exact(&mut answer)?;
        match i32::from_le_bytes(answer) {
            pid @ 1.. => Ok(pid),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        }
    }

    /// Whether it can be asked.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.helper.try_wait(), Ok(None))
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // It holds nothing that would have to be put in order.
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }
}

/// A program that cannot be executed is one, confined or not.
fn unconfined(order: &Order, error: adjutant_confine::Error) -> Error {
    match error.step {
        adjutant_confine::Step::Exec => Error::Start {
            program: order.program.clone(),
            source: error.io(),
        },
        _ => Error::Unconfined { source: error },
    }
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
            Ok((_, Some(Report::Unconfined(error)))) => Err(unconfined(order, error)),
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
