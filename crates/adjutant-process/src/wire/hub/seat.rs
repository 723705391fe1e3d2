//! One run's conversation with a process that has others.

use std::{sync::Arc, time::Duration};

use adjutant_wire::{Decoder, Frame};
use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{Mutex, mpsc, watch},
};

use super::Shared;
use crate::{
    error::Result,
    logs::Logs,
    port::{ExitReason, Process, StopCause},
    usage::Observer,
    wire::{
        link::{CHUNK_BYTES, Link},
        peer::Peer,
    },
};

/// Lines of the log that wait for a conversation; others are dropped.
const LOG_LINES: usize = 256;

/// Where a conversation listens.
pub(super) struct Pipe(Mutex<DuplexStream>);

impl Pipe {
    pub(super) async fn write(&self, line: String) {
        // A conversation that is over listens no more.
        let _ = self.0.lock().await.write_all(line.as_bytes()).await;
    }
}

/// What a conversation holds in place of a process. Dropped, the run has given up its place.
pub(super) struct Seat {
    shared: Arc<Shared>,
    run: String,
    exit: watch::Receiver<Option<ExitReason>>,
}

impl Seat {
    /// A peer that is this process to one run, if there is room.
    pub(super) fn take(shared: &Arc<Shared>, run: String) -> Option<Peer> {
        let (stdin, said) = duplex(CHUNK_BYTES);
        let (stdout, heard) = duplex(CHUNK_BYTES);
        let (stderr, logged) = duplex(CHUNK_BYTES);
        let (log, lines) = mpsc::channel(LOG_LINES);
        let pipe = Arc::new(Pipe(Mutex::new(stdout)));
        if !shared.routes().enter(&run, pipe, log) {
            return None;
        }
        tokio::spawn(pass_on(Arc::clone(shared), run.clone(), said));
        tokio::spawn(tell(lines, stderr));
        let seat = Self {
            shared: Arc::clone(shared),
            run,
            exit: shared.exit.subscribe(),
        };
        Some(Peer::seated(
            Arc::clone(&shared.name),
            Box::new(seat),
            Link::new(Box::new(stdin), Box::new(heard)),
            Logs::new(Box::new(logged)),
            shared.greeting.clone(),
            shared.routes().given() - 1,
        ))
    }
}

/// Passes on what a conversation says, until it is over.
async fn pass_on(shared: Arc<Shared>, run: String, mut said: DuplexStream) {
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count) = said.read(&mut chunk).await
        && count > 0
    {
        decoder.push(chunk.get(..count).unwrap_or_default());
        while let Some(frame) = decoder.next_frame() {
            if let Frame::Message(message) = frame {
                shared.routes().say(&run, message);
                shared.written.notify_one();
            }
        }
    }
}

/// Tells a conversation what the process logs, until either is over.
async fn tell(mut lines: mpsc::Receiver<String>, mut stderr: DuplexStream) {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        if stderr.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let goes_on = self.shared.routes().give_up(&self.run);
        self.shared.written.notify_one();
        if goes_on && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (shared, run) = (Arc::clone(&self.shared), std::mem::take(&mut self.run));
            runtime.spawn(async move {
                tokio::time::sleep(shared.grace).await;
                if shared.routes().lose(&run) {
                    shared.leave.notify_one();
                }
            });
        }
        self.shared.leave.notify_one();
        (self.shared.freed)();
    }
}

#[async_trait]
impl Process for Seat {
    fn id(&self) -> u32 {
        self.shared.pid
    }

    async fn wait(&mut self) -> Result<ExitReason> {
        let ended = self.exit.wait_for(Option::is_some).await;
        Ok(ended
            .ok()
            .and_then(|reason| *reason)
            .unwrap_or(ExitReason::Signal(0)))
    }

    // The process belongs to others as well; what ends here is only the conversation, when this is dropped.
    fn terminate(&mut self) {}

    fn kill(&mut self) {}

    async fn stop(&mut self, cause: StopCause, _grace: Duration) -> Result<ExitReason> {
        let ended = *self.exit.borrow();
        Ok(ended.unwrap_or(ExitReason::Stopped(cause)))
    }

    fn observer(&self) -> Observer {
        self.shared.observer.clone()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
