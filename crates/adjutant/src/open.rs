//! From a URL to an engine.

use std::{sync::Arc, time::Duration};

use adjutant_core::{Error, Limits, Result};
use adjutant_store::{MemoryConfig, MemoryStore, Store};

/// What an acknowledged write survives, on engines that let one choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// Loss of power.
    #[default]
    Full,
    /// Death of the process; a loss of power may take the last moments.
    Normal,
    /// Death of the process; a loss of power may damage the file.
    Off,
}

/// How a store is opened, whichever engine it is. The URL's own words win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// What it takes at most.
    pub limits: Limits,
    /// What an acknowledged write survives. Default: a loss of power.
    pub synchronous: Synchronous,
    /// How long to wait for another process that is writing. Default 5 s.
    pub busy_timeout: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            synchronous: Synchronous::default(),
            busy_timeout: Duration::from_secs(5),
        }
    }
}

/// Opens the store behind a URL: `memory:`, or `sqlite:PATH`, also as `sqlite:///absolute/path`, with
/// `?synchronous=full|normal|off` behind it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use adjutant::{StoreOptions, open_store};
///
/// let store = open_store("memory:", StoreOptions::default()).await?;
/// assert_eq!(store.info().engine, "memory");
/// # Ok::<(), adjutant::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// `Invalid` for a URL that names no engine of this build; or the engine's.
pub async fn open_store(url: &str, options: StoreOptions) -> Result<Arc<dyn Store>> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "memory" => Ok(Arc::new(MemoryStore::with(MemoryConfig {
            limits: options.limits,
            ..MemoryConfig::default()
        }))),
        #[cfg(feature = "sqlite")]
        "sqlite" => sqlite(rest, options).await,
        "postgres" | "postgresql" | "redis" | "rediss" => Err(invalid(format!(
            "`{scheme}` is not in this build; {}",
            available()
        ))),
        _ => {
            let _ = rest;
            Err(invalid(format!("`{url}` names no store; {}", available())))
        }
    }
}

/// The engines of this build, in words.
fn available() -> &'static str {
    if cfg!(feature = "sqlite") {
        "there are memory: and sqlite:PATH"
    } else {
        "there is memory:"
    }
}

fn invalid(problem: String) -> Error {
    Error::Invalid {
        field: "store url",
        problem,
    }
}

#[cfg(feature = "sqlite")]
async fn sqlite(rest: &str, options: StoreOptions) -> Result<Arc<dyn Store>> {
    use adjutant_sqlite::SqliteConfig;

    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        return Err(invalid(
            "`sqlite:` lacks a path, such as sqlite:agents.db".to_owned(),
        ));
    }
    let synchronous = synchronous(query)?.unwrap_or(options.synchronous);
    let mut config = SqliteConfig::at(path);
    config.limits = options.limits;
    config.busy_timeout = options.busy_timeout;
    config.synchronous = match synchronous {
        Synchronous::Full => adjutant_sqlite::Synchronous::Full,
        Synchronous::Normal => adjutant_sqlite::Synchronous::Normal,
        Synchronous::Off => adjutant_sqlite::Synchronous::Off,
    };
    Ok(Arc::new(adjutant_sqlite::open(config).await?))
}

#[cfg(feature = "sqlite")]
fn synchronous(query: &str) -> Result<Option<Synchronous>> {
    let mut chosen = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        chosen = match pair.split_once('=') {
            Some(("synchronous", "full")) => Some(Synchronous::Full),
            Some(("synchronous", "normal")) => Some(Synchronous::Normal),
            Some(("synchronous", "off")) => Some(Synchronous::Off),
            _ => {
                let problem =
                    format!("`{pair}` is not known; there is synchronous=full, normal or off");
                return Err(invalid(problem));
            }
        };
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_without_an_engine_is_refused_with_what_there_is() {
        for url in [
            "postgres://localhost/x",
            "redis://localhost",
            "mysql:x",
            "",
            "agents.db",
            "sqlite:",
        ] {
            let error = open_store(url, StoreOptions::default())
                .await
                .err()
                .map(|error| error.to_string());
            let error = error.unwrap_or_default();
            assert!(
                error.contains("memory:") || error.contains("such as sqlite:"),
                "{url}: {error}"
            );
        }
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn the_query_chooses_what_a_write_survives() {
        assert_eq!(synchronous("").unwrap(), None);
        assert_eq!(
            synchronous("synchronous=normal").unwrap(),
            Some(Synchronous::Normal)
        );
        assert!(synchronous("synchronous=maybe").is_err());
        assert!(synchronous("mode=ro").is_err());
    }
}
