//! From a URL to an engine.

mod url;

use std::{fmt, sync::Arc, time::Duration};

use adjutant_core::{Error, Limits, Result};
use adjutant_store::{ComposedStore, MemoryConfig, MemoryStore, Store};

pub use self::url::{has_password, shown_url};

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

/// How a store is opened, whichever engine it is. The URL's own words win. Its `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// What it takes at most.
    pub limits: Limits,
    /// What an acknowledged write survives. Default: a loss of power. Only SQLite lets a client choose; a server's
    /// own settings decide for the others.
    pub synchronous: Synchronous,
    /// How long to wait for another process that is writing to the same SQLite file. Default 5 s.
    pub busy_timeout: Duration,
    /// The password for a server, if the URL has none. Default `None`.
    pub password: Option<String>,
    /// The URL of another store for journals and checkpoints. Default `None`: they are with the queue.
    pub state: Option<String>,
    /// The URL of another store for events. Default `None`: they are with the queue.
    pub events: Option<String>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            synchronous: Synchronous::default(),
            busy_timeout: Duration::from_secs(5),
            password: None,
            state: None,
            events: None,
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("limits", &self.limits)
            .field("synchronous", &self.synchronous)
            .field("busy_timeout", &self.busy_timeout)
            .finish_non_exhaustive()
    }
}

/// Opens the store behind a URL:
///
/// - `memory:`
/// - `sqlite:PATH`, also as `sqlite:///absolute/path`, with `?synchronous=full|normal|off` behind it
/// - `postgres://user@host/database`, with the feature `postgres`
/// - `redis://host`, `rediss://host`, and the forms for sockets, Sentinel and Cluster, with the feature `redis`
///
/// `docs/guide/stores.md` tells what each promises, and lists the parameters. With `options.state` or
/// `options.events` it is a [`ComposedStore`].
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
/// `Invalid` for a URL that names no engine of this build; or the engine's. No error shows a password.
pub async fn open_store(url: &str, options: StoreOptions) -> Result<Arc<dyn Store>> {
    let (state, events) = (options.state.clone(), options.events.clone());
    let queue = open_one(url, options.clone()).await?;
    if state.is_none() && events.is_none() {
        return Ok(queue);
    }
    let mut composed = ComposedStore::new(queue);
    let mut there = None;
    if let Some(url) = &state {
        let store = open_one(url, options.clone()).await?;
        there = Some(Arc::clone(&store));
        composed = composed.with_state(store);
    }
    if let Some(url) = &events {
        let store = match there.filter(|_| state.as_ref() == Some(url)) {
            Some(store) => store,
            None => open_one(url, options).await?,
        };
        composed = composed.with_events(store);
    }
    Ok(Arc::new(composed))
}

/// Opens one store.
async fn open_one(url: &str, options: StoreOptions) -> Result<Arc<dyn Store>> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "memory" => Ok(Arc::new(MemoryStore::with(MemoryConfig {
            limits: options.limits,
            ..MemoryConfig::default()
        }))),
        "sqlite" => sqlite(rest, options).await,
        "postgres" | "postgresql" => {
            url::check_escapes(url)?;
            postgres(url, options).await
        }
        scheme if scheme.starts_with("redis") => {
            url::check_escapes(url)?;
            redis(url, options).await
        }
        _ => Err(invalid(format!(
            "`{}` names no store; there are {}",
            shown_url(url),
            available()
        ))),
    }
}

/// The engines of this build, in words.
fn available() -> String {
    let engines = [
        (true, "memory:"),
        (cfg!(feature = "sqlite"), "sqlite:PATH"),
        (cfg!(feature = "postgres"), "postgres://HOST/DATABASE"),
        (cfg!(feature = "redis"), "redis://HOST"),
    ];
    let built = engines.iter().filter(|(built, _)| *built);
    let built: Vec<&str> = built.map(|(_, form)| *form).collect();
    built.join(", ")
}

fn invalid(problem: String) -> Error {
    Error::Invalid {
        field: "store url",
        problem,
    }
}

/// An engine that this build could have, and has not.
#[cfg(any(
    test,
    not(feature = "sqlite"),
    not(feature = "postgres"),
    not(feature = "redis")
))]
fn not_built(feature: &str) -> Error {
    invalid(format!(
        "the engine for `{feature}` is not in this build; build with the feature `{feature}`. There are {}",
        available()
    ))
}

#[cfg(not(feature = "sqlite"))]
async fn sqlite(_rest: &str, _options: StoreOptions) -> Result<Arc<dyn Store>> {
    Err(not_built("sqlite"))
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

#[cfg(not(feature = "postgres"))]
async fn postgres(_url: &str, _options: StoreOptions) -> Result<Arc<dyn Store>> {
    Err(not_built("postgres"))
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str, options: StoreOptions) -> Result<Arc<dyn Store>> {
    let mut config = adjutant_postgres::PostgresConfig::parse(url)?;
    config.limits = options.limits;
    if let Some(password) = options.password.filter(|_| !has_password(url)) {
        config.connect = config.connect.password(&password);
    }
    Ok(Arc::new(adjutant_postgres::open(config).await?))
}

#[cfg(not(feature = "redis"))]
async fn redis(_url: &str, _options: StoreOptions) -> Result<Arc<dyn Store>> {
    Err(not_built("redis"))
}

#[cfg(feature = "redis")]
async fn redis(url: &str, options: StoreOptions) -> Result<Arc<dyn Store>> {
    let mut config = adjutant_redis::RedisConfig::parse(url)?;
    config.limits = options.limits;
    config.password = config.password.or(options.password);
    Ok(Arc::new(adjutant_redis::open(config).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(url: &str) -> String {
        let opened = open_store(url, StoreOptions::default()).await;
        opened.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_url_without_an_engine_is_refused_with_what_there_is() {
        for url in ["mysql:x", "", "agents.db", "sqlite:"] {
            let error = refusal(url).await;
            assert!(
                error.contains("memory:") || error.contains("sqlite"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn an_engine_that_is_left_out_is_told_with_its_feature() {
        let error = not_built("postgres").to_string();
        assert!(error.contains("feature `postgres`"), "{error}");
        assert!(error.contains("memory:"), "{error}");
    }

    #[tokio::test]
    async fn no_refusal_shows_a_password() {
        for url in [
            "mysql://me:s3cret@h/d",
            "postgres://me:s3cret@h:port/d",
            "postgres://me:s3cret@h/d?nonsense=1",
            "postgres://me:s3?cret@h/d",
            "postgres://me:s3/cret@h/d",
            "postgres://me@h:port/d?password=s3cret",
            "redis://:s3cret@h:port",
            "redis://:s3/cret@h",
            "redis+unix://?pass=s3cret",
        ] {
            let error = refusal(url).await;
            assert!(
                !error.is_empty() && !error.contains("cret"),
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
