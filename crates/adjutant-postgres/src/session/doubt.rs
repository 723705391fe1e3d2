//! What has become of a commit whose answer was lost with the connection.

use std::{
    ops::ControlFlow::{self, Break, Continue},
    sync::Arc,
    time::Duration,
};

use adjutant_core::RetryAdvice;
use tokio::time::{Instant, sleep};

use super::{ATTEMPTS, Session};
use crate::record;

/// How long to look for the outcome of a commit whose answer was lost.
const DOUBT: Duration = Duration::from_secs(10);

impl Session {
    /// Asks the server, once it is back, what has become of a transaction. `None` if there is no telling.
    pub(super) async fn has_happened(&mut self, number: &str) -> Option<bool> {
        let since = Instant::now();
        while since.elapsed() < DOUBT {
            if let Break(answer) = self.ask_about(number).await {
                return answer;
            }
            sleep(ATTEMPTS).await;
        }
        None
    }

    /// Goes on as long as it is worth asking again.
    async fn ask_about(&mut self, number: &str) -> ControlFlow<Option<bool>> {
        let mut db = match self.open().await {
            Ok(db) => db,
            Err(told) if told.error.retry() == RetryAdvice::Never => return Break(None),
            Err(_) => return Continue(()),
        };
        let rows = db.text(format!("select pg_xact_status('{number}'::text::xid8)"));
        let rows = rows.await;
        let location = Arc::clone(&db.location);
        self.prepared.clear();
        self.db = Some(db);
        let Some(row) = rows.ok().and_then(|mut rows| rows.pop()) else {
            return Continue(());
        };
        match record::get::<Option<&str>>(&row, 0, &location) {
            Ok(Some("committed")) => Break(Some(true)),
            Ok(Some("aborted")) => Break(Some(false)),
            // The server has not noticed yet that nobody is there.
            Ok(Some(_)) => Continue(()),
            _ => Break(None),
        }
    }
}
