//! What people say to a run at work, on its way to an agent that listens.

use adjutant_core::{Message, Result, RunContext};
use futures::future::{BoxFuture, FutureExt};

pub(super) struct Steering<'a> {
    ctx: &'a RunContext,
    /// Messages that the agent has been told.
    seen: usize,
    /// Kept between turns, because it looks through the run's events.
    next: Option<BoxFuture<'a, Result<Vec<Message>>>>,
}

impl<'a> Steering<'a> {
    /// Hears nothing yet.
    pub(super) fn new(ctx: &'a RunContext) -> Self {
        Self {
            ctx,
            seen: 0,
            next: None,
        }
    }

    pub(super) fn listen(&mut self) {
        self.next = Some(self.ctx.host().steering(self.seen).boxed());
    }

    /// What is said next. Never returns where nobody listens. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Vec<Message> {
        let Some(next) = &mut self.next else {
            return std::future::pending().await;
        };
        let heard = next.await;
        self.next = None;
        match heard {
            Ok(messages) => {
                self.seen += messages.len();
                self.listen();
                messages
            }
            Err(error) => {
                let run_id = self.ctx.run_id();
                tracing::warn!(%run_id, %error, "what is said to the run is not heard any more");
                std::future::pending().await
            }
        }
    }
}
