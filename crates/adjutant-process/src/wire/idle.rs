//! A process between runs: it is greeted before the first, and kept an eye on until the next.

use std::{future::Future, pin::pin};

use adjutant_core::{AgentError, AgentKey};
use adjutant_wire as wire;
use tokio::time::{Duration, timeout};

use super::{farewell, handshake, link::Incoming, peer::Peer, session::MISSED_HEARTBEATS};
use crate::{
    manifest::Manifest,
    port::{ExitReason, StopCause},
};

/// Why an idle process gets no run any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It has ended.
    Ended,
    /// It says what nobody may say between runs.
    Unruly,
    /// It does not answer.
    Silent,
}

impl Peer {
    /// Greets the process, so that it can take a run at once.
    ///
    /// # Errors
    /// When it does not answer in time, or not as the wire wants it.
    pub(crate) async fn warm_up(&mut self, manifest: &Manifest) -> Result<(), AgentError> {
        let key = AgentKey::new(&manifest.name);
        let offer = handshake::offer(&key, self.name.as_str(), manifest);
        let id = self.call(&offer)?;
        let greeted = timeout(manifest.start_timeout, self.answer(&id)).await;
        let gone = |why: &str| AgentError::retriable("start_timeout", why);
        let outcome = greeted
            .map_err(|_| gone("the agent did not answer `initialize` in time"))?
            .map_err(|why| gone(why.as_str()))?;
        self.greet(handshake::greeting(outcome)?);
        Ok(())
    }

    /// Waits for an answer while nothing else is expected.
    async fn answer(&mut self, id: &wire::RequestId) -> Result<wire::Outcome, Unfit> {
        loop {
            if let Some(response) = self.listen().await?
                && response.id.as_ref() == Some(id)
            {
                return Ok(response.outcome);
            }
        }
    }

    /// Takes in the next thing that an idle process does.
    async fn listen(&mut self) -> Result<Option<wire::Response>, Unfit> {
        tokio::select! {
            incoming = self.link.next(true) => match incoming {
                Incoming::Message(wire::Message::Response(response)) => Ok(Some(response)),
                // A last heartbeat or event may be late; there is nobody left to tell.
                Incoming::Message(wire::Message::Notification(_)) => Ok(None),
                Incoming::Garbage(line) => {
                    tracing::debug!(instance = %self.name, "{line}");
                    Ok(None)
                }
                Incoming::End => Err(Unfit::Ended),
                Incoming::Message(wire::Message::Request(_))
                | Incoming::Invalid(_)
                | Incoming::TooMuchGarbage
                | Incoming::TooLong(_) => Err(Unfit::Unruly),
            },
            line = self.logs.line(), if !self.logs.ended() => {
                if let Some(line) = line {
                    tracing::debug!(instance = %self.name, "{line}");
                }
                Ok(None)
            }
            _ = self.process.wait() => Err(Unfit::Ended),
        }
    }

    /// Keeps an idle process until it is `wanted`. Its pipes are read, so that it never blocks; it is asked for its
    /// health at every heartbeat.
    ///
    /// # Errors
    /// Why it is not fit for another run.
    pub(crate) async fn rest(
        &mut self,
        heartbeat: Duration,
        wanted: impl Future<Output = ()>,
    ) -> Result<(), Unfit> {
        let mut wanted = pin!(wanted);
        loop {
            let quiet = async {
                let pause = tokio::time::sleep(heartbeat);
                let mut pause = pin!(pause);
                loop {
                    tokio::select! {
                        heard = self.listen() => { heard?; }
                        () = &mut pause => return Ok::<(), Unfit>(()),
                    }
                }
            };
            tokio::select! {
                biased;
                () = &mut wanted => return Ok(()),
                quiet = quiet => quiet?,
            }
            tokio::select! {
                biased;
                // The question stays open; its answer finds nobody who waits for it.
                () = &mut wanted => return Ok(()),
                healthy = self.examine(heartbeat * MISSED_HEARTBEATS) => healthy?,
            }
        }
    }

    /// Closes the process's stdin.
    pub(crate) fn hang_up(&mut self) {
        self.link.hang_up();
    }

    /// Waits until an idle process has ended; one that breaks the wire's rules is killed. Dropping the future loses
    /// nothing.
    pub(crate) async fn end(&mut self) -> crate::Result<ExitReason> {
        loop {
            match self.listen().await {
                Ok(_) => {}
                Err(Unfit::Ended) => break,
                Err(_) => self.process.kill(),
            }
        }
        let noise = async {
            while self.logs.line().await.is_some() {}
            std::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! {
            reason = self.process.wait() => reason,
            never = noise => match never {},
        }
    }

    /// Ends a process that nobody needs any more: its stdin is closed, and after the grace it is killed.
    pub(crate) async fn leave(mut self, grace: Duration) {
        self.link.hang_up();
        let noise = async {
            while self.logs.line().await.is_some() {}
            self.link.discard().await;
        };
        let stop = farewell::stop(&mut *self.process, StopCause::Finished, grace);
        tokio::select! {
            reason = stop => tracing::debug!(instance = %self.name, ?reason, "an idle process has left"),
            () = noise => {}
        }
    }

    /// Asks for its health.
    pub(crate) async fn examine(&mut self, patience: Duration) -> Result<(), Unfit> {
        let id = self
            .call(&wire::HealthCheck {})
            .map_err(|_| Unfit::Unruly)?;
        // An agent that does not know the question is alive all the same.
        match timeout(patience, self.answer(&id)).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(Unfit::Silent),
        }
    }
}

impl Unfit {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "the process has ended",
            Self::Unruly => "the process broke the wire's rules",
            Self::Silent => "the process does not answer",
        }
    }
}
