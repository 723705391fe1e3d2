//! Hearing of other nodes' writes and telling them of ours. Both tasks end when the store is closed or all handles
//! to it are gone.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use adjutant_core::{RunId, Timestamp};
use adjutant_engine::WakeUps;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::{
    select,
    time::{sleep, timeout},
};

use crate::{
    args::Args,
    config::PostgresConfig,
    db,
    error::from_sqlx,
    news::{ANSWER, HELLO_EVERY, News, Outbox, SILENT},
    reader::Readers,
    reads::Text,
};

/// Pauses between attempts to listen: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How soon to look again at what another node was at work on.
const AGAIN: Duration = Duration::from_millis(5);

static NOTIFY: Text = Text::new(|| Arc::from("select pg_notify($1, $2)"));

/// Starts both on the current runtime.
pub(crate) fn start(
    config: PostgresConfig,
    outbox: &Arc<Outbox>,
    readers: Arc<Readers>,
    wake_ups: WakeUps,
) {
    let node = RunId::new().to_string();
    let channel = config.channel();
    let listener = Listener {
        config,
        node: node.clone(),
        outbox: Arc::clone(outbox),
        wake_ups: wake_ups.clone(),
    };
    tokio::spawn(listener.run());
    let teller = Teller {
        channel,
        node,
        outbox: Arc::clone(outbox),
        readers,
    };
    tokio::spawn(teller.run());
    tokio::spawn(look_again(Arc::clone(outbox), wake_ups));
}

struct Listener {
    config: PostgresConfig,
    node: String,
    outbox: Arc<Outbox>,
    wake_ups: WakeUps,
}

impl Listener {
    /// Listens, and begins again when the connection is lost.
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        while !self.outbox.is_closed() {
            let heard = self.listen().await;
            let was_listening = self.outbox.listening.swap(false, SeqCst);
            if self.outbox.is_closed() {
                break;
            }
            if was_listening {
                pause = FIRST_PAUSE;
            }
            if let Err(error) = heard {
                let told = from_sqlx(error, "listen", &self.config.location());
                tracing::warn!(error = %told.error, "not listening to other nodes; trying again");
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Listens until the connection is lost.
    async fn listen(&self) -> sqlx::Result<()> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .acquire_timeout(self.config.connect_timeout)
            .connect_lazy_with(db::options(&self.config));
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(&self.config.channel()).await?;
        self.outbox.expect_peers(ANSWER);
        self.outbox.listening.store(true, SeqCst);
        self.outbox.post(News {
            hello: true,
            ..News::default()
        });
        // What came while nobody listened.
        self.wake_ups.everything();
        loop {
            // Our own greetings come back too: a connection that brings none is dead.
            let next = select! {
                next = timeout(SILENT, listener.try_recv()) => next,
                () = closing(&self.outbox) => return Ok(()),
            };
            match next {
                Ok(Ok(Some(message))) => self.hear(message.payload()),
                Ok(Ok(None)) | Err(_) => return Ok(()),
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    fn hear(&self, text: &str) {
        let Some(news) = News::read(text, &self.node) else {
            return;
        };
        let known = self.outbox.has_peers();
        self.outbox.expect_peers(SILENT);
        if news.hello || !known {
            self.outbox.post(News {
                here: true,
                ..News::default()
            });
        }
        if news.everything {
            self.wake_ups.everything();
            return;
        }
        self.wake_ups.settled(&news.settled);
        self.wake_ups.changed(&news.settled);
        self.wake_ups.changed(&news.changed);
        if news.ready {
            self.wake_ups.ready();
        }
        if let Some(due) = news.due {
            self.wake_ups.due(Timestamp::from_micros(due));
        }
    }
}

/// Ends when the store closes. Looks now and then, for wake-ups are for the teller.
async fn closing(outbox: &Outbox) {
    while !outbox.is_closed() {
        sleep(Duration::from_millis(200)).await;
    }
}

struct Teller {
    channel: String,
    node: String,
    outbox: Arc<Outbox>,
    readers: Arc<Readers>,
}

impl Teller {
    async fn run(self) {
        while !self.outbox.is_closed() {
            if timeout(HELLO_EVERY, self.outbox.wake.notified())
                .await
                .is_err()
            {
                self.outbox.post(News {
                    here: true,
                    ..News::default()
                });
            }
            let news = self.outbox.take();
            if news.is_empty() {
                continue;
            }
            let message = news.message(&self.node);
            let args = Args::default().with(&*self.channel).with(&*message);
            // Apart from the writes that it tells of: a transaction with a message holds a lock of the whole server
            // until it is synced. What gets lost here, the others find by looking.
            if let Err(error) = self.readers.rows(&NOTIFY, args).await {
                tracing::debug!(%error, "other nodes were not told");
            }
        }
    }
}

/// Lets claims look again soon after another node was in the way.
async fn look_again(outbox: Arc<Outbox>, wake_ups: WakeUps) {
    while !outbox.is_closed() {
        if timeout(HELLO_EVERY, outbox.again.notified()).await.is_ok() {
            sleep(AGAIN).await;
            wake_ups.ready();
        }
    }
}
