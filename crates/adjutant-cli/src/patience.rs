//! A store that is away for a moment, as when its server is restarted, ends no command that only watches.

use std::time::{Duration, Instant};

use adjutant::{Error, core::RetryAdvice};

/// How long to wait for a store to come back.
const LONGEST: Duration = Duration::from_secs(60);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// Since when the store has been away.
#[derive(Debug, Default)]
pub struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// The store has answered.
    pub fn answered(&mut self) {
        self.since = None;
    }

    /// Pauses before another try, if that may help.
    ///
    /// # Errors
    /// The same error, if it may not, or has not helped for long enough.
    pub async fn bear(&mut self, error: Error) -> adjutant::Result<()> {
        if error.retry() == RetryAdvice::Never {
            return Err(error);
        }
        let since = *self.since.get_or_insert_with(|| {
            tracing::warn!(%error, "the store is away, waiting for it");
            Instant::now()
        });
        if since.elapsed() > LONGEST {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

/// Makes a call that changes nothing, again and again while the store is away.
pub async fn patiently<T, F>(mut call: impl FnMut() -> F) -> adjutant::Result<T>
where
    F: Future<Output = adjutant::Result<T>>,
{
    let mut patience = Patience::default();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => patience.bear(error).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_may_pass_is_tried_again() {
        let mut left = vec![Ok(7), Err(away()), Err(away())];
        let answer = patiently(|| std::future::ready(left.pop().unwrap())).await;
        assert_eq!(answer.unwrap(), 7);
        let mut left = vec![Ok(7), Err(Error::Closed)];
        let answer = patiently(|| std::future::ready(left.pop().unwrap())).await;
        assert!(answer.is_err() && left.len() == 1);
    }

    fn away() -> Error {
        Error::Backend {
            action: "ask",
            transient: true,
            source: "away".into(),
        }
    }
}
