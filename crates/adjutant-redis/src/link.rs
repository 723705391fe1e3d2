//! The way to the server: one connection, made when it is needed and made again when it is lost.

use std::{sync::Arc, time::Duration};

use adjutant_core::Result;
use adjutant_engine::Counters;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult,
    ServerErrorKind, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    clock::ServerClock,
    config::{RedisConfig, Topology, invalid},
    error::{Told, corrupt, from_redis},
    keys::Keys,
    script::Script,
    transaction::Seq,
    words::Words,
};

/// After a connection could not be made, others fail at once for this long, and twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often the driver follows a cluster's redirections before it gives up.
const CLUSTER_RETRIES: u32 = 4;

/// The error of a connection that was let go of.
pub(crate) const CLOSED: &str = "the store is closed";

/// How connections are made.
enum Dial {
    One(Box<Client>),
    Cluster(Box<ClusterClient>),
    Sentinel(Box<SentinelClient>),
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

struct State {
    dial: Dial,
    connection: Option<Connection>,
    /// Grows with each connection.
    generation: u64,
    /// The last try to connect, and when another one is due.
    failed: Option<(RedisError, Instant)>,
    pause: Duration,
    closed: bool,
}

/// A connection that is made again when it is lost. What is sent twice because of that must be harmless.
pub(crate) struct Link {
    state: Mutex<State>,
    settings: AsyncConnectionConfig,
    keys: Keys,
    location: Arc<str>,
    clock: Arc<ServerClock>,
    counters: Option<Arc<Counters>>,
}

impl Link {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// `Invalid` for a place that cannot be.
    pub(crate) fn new(
        config: &RedisConfig,
        clock: Arc<ServerClock>,
        counters: Option<Arc<Counters>>,
    ) -> Result<Self> {
        if config.tls {
            // Whoever was first has chosen for the whole process.
            let _there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let dial = dial(config).map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            state: Mutex::new(State {
                dial,
                connection: None,
                generation: 0,
                failed: None,
                pause: FIRST_PAUSE,
                closed: false,
            }),
            settings: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(config.connect_timeout))
                .set_response_timeout(Some(config.response_timeout)),
            keys: Keys::new(&config.prefix),
            location: config.location().into(),
            clock,
            counters,
        })
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// An answer that makes no sense.
    pub(crate) fn odd(&self, problem: impl std::fmt::Display) -> adjutant_core::Error {
        corrupt(&self.location, problem)
    }

    /// Runs a script.
    pub(crate) async fn run(
        &self,
        script: &Script,
        words: &Words,
        action: &'static str,
    ) -> Result<Value, Told> {
        let command = |name: &str, what: &str| {
            let mut command = Cmd::with_capacity(words.len() + 4, words.bytes() + 200);
            command.arg(name).arg(what).arg(1).arg(self.keys.base());
            words.iter().for_each(|word| {
                command.arg(word);
            });
            command
        };
        let answer = self.send(&command("EVALSHA", script.sha()), None).await;
        let answer = match answer {
            // A server that has been started anew knows no scripts. It keeps what it runs.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(&command("EVAL", script.text), None).await
            }
            other => other,
        };
        answer.map_err(|error| from_redis(error, action, &self.location))
    }

    /// Sends one command to the server that holds the store.
    pub(crate) async fn ask(&self, words: &[&[u8]], action: &'static str) -> Result<Value, Told> {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let slot = Slot::for_key(self.keys.base());
        let route = Route::with_slot(slot, SlotAddr::Master);
        let route = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(route));
        let answer = self.send(&command, Some(route)).await;
        answer.map_err(|error| from_redis(error, action, &self.location))
    }

    /// Sends, and once more on a new connection if the old one turns out to be dead.
    async fn send(&self, command: &Cmd, route: Option<RoutingInfo>) -> RedisResult<Value> {
        let (connection, generation) = self.connection().await?;
        let answer = self.send_on(connection, command, route.clone()).await;
        let Err(error) = answer else { return answer };
        let told = from_redis(error.clone(), "", &self.location);
        if !told.lost {
            return Err(error);
        }
        self.lose(generation).await;
        if !error.is_connection_dropped() {
            return Err(error);
        }
        let (connection, generation) = self.connection().await?;
        let answer = self.send_on(connection, command, route).await;
        if let Err(error) = &answer
            && from_redis(error.clone(), "", &self.location).lost
        {
            self.lose(generation).await;
        }
        answer
    }

    async fn send_on(
        &self,
        connection: Connection,
        command: &Cmd,
        route: Option<RoutingInfo>,
    ) -> RedisResult<Value> {
        if let Some(counters) = &self.counters {
            counters.call();
        }
        let answer = match (connection, route) {
            (Connection::One(mut one), _) => one.send_packed_command(command).await,
            (Connection::Cluster(mut cluster), Some(route)) => {
                cluster.route_command(command.clone(), route).await
            }
            (Connection::Cluster(mut cluster), None) => cluster.req_packed_command(command).await,
        };
        match answer? {
            Value::ServerError(error) => Err(error.into()),
            value => Ok(value),
        }
    }

    async fn connection(&self) -> RedisResult<(Connection, u64)> {
        let mut state = self.state.lock().await;
        if state.closed {
            return Err((ErrorKind::Client, CLOSED).into());
        }
        if let Some(connection) = &state.connection {
            return Ok((connection.clone(), state.generation));
        }
        if let Some((error, until)) = &state.failed
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        match connect(&mut state.dial, &self.settings).await {
            Ok(connection) => {
                state.connection = Some(connection.clone());
                state.generation += 1;
                state.failed = None;
                state.pause = FIRST_PAUSE;
                Ok((connection, state.generation))
            }
            Err(error) => {
                state.failed = Some((error.clone(), Instant::now() + state.pause));
                state.pause = (state.pause * 2).min(LONGEST_PAUSE);
                Err(error)
            }
        }
    }

    /// Lets go of a connection that is of no more use.
    async fn lose(&self, generation: u64) {
        let mut state = self.state.lock().await;
        if state.generation == generation {
            state.connection = None;
        }
    }

    /// Lets go of the connection.
    pub(crate) async fn close(&self) {
        let mut state = self.state.lock().await;
        state.connection = None;
        state.closed = true;
    }

    /// Reads as of one moment: an answer for each command.
    pub(crate) async fn look(
        &self,
        commands: &Words,
        action: &'static str,
    ) -> Result<Vec<Value>, Told> {
        let answer = self.timed(&crate::script::LOOK, commands, action).await?;
        Ok(answer.1)
    }

    /// Runs a script and takes time and last transaction off the front of its answer.
    pub(crate) async fn timed(
        &self,
        script: &Script,
        words: &Words,
        action: &'static str,
    ) -> Result<(Seq, Vec<Value>), Told> {
        let answer = self.run(script, words, action).await?;
        let take = |answer| -> Result<(Seq, Vec<Value>), String> {
            let mut answers = crate::reply::list(answer)?;
            if answers.len() < 3 {
                return Err("an answer without its time".to_owned());
            }
            let rest = answers.split_off(3);
            let seconds = crate::reply::number(&answers[0])?;
            self.clock
                .heard(seconds * 1_000_000 + crate::reply::number(&answers[1])?);
            let seq = answers.pop().map(crate::reply::bytes).transpose()?;
            Ok((Seq::of(seq.unwrap_or_default()), rest))
        };
        take(answer).map_err(|problem| Told::odd(self.odd(problem)))
    }
}

async fn connect(dial: &mut Dial, settings: &AsyncConnectionConfig) -> RedisResult<Connection> {
    Ok(match dial {
        Dial::One(client) => {
            let connecting = client.get_multiplexed_async_connection_with_config(settings);
            Connection::One(connecting.await?)
        }
        Dial::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        Dial::Sentinel(client) => {
            let connecting = client.get_async_connection_with_config(settings);
            Connection::One(connecting.await?)
        }
    })
}

/// Who we are, to a server.
fn user(config: &RedisConfig) -> RedisConnectionInfo {
    let mut user = RedisConnectionInfo::default().set_db(config.database);
    if let Some(name) = &config.username {
        user = user.set_username(name);
    }
    if let Some(password) = &config.password {
        user = user.set_password(password);
    }
    user
}

fn address((host, port): &(String, u16), tls: bool) -> ConnectionAddr {
    let (host, port) = (host.clone(), *port);
    match tls {
        false => ConnectionAddr::Tcp(host, port),
        true => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    }
}

/// The servers to connect to, the first of which will do.
fn places(config: &RedisConfig) -> RedisResult<Vec<ConnectionInfo>> {
    let addresses = match &config.topology {
        Topology::Standalone { node } => vec![address(node, config.tls)],
        Topology::Unix { path } => vec![ConnectionAddr::Unix(path.clone())],
        Topology::Cluster { nodes } | Topology::Sentinel { nodes, .. } => {
            nodes.iter().map(|node| address(node, config.tls)).collect()
        }
    };
    let info = |address: ConnectionAddr| {
        let info = address.into_connection_info()?;
        Ok(info.set_redis_settings(user(config)))
    };
    addresses.into_iter().map(info).collect()
}

fn dial(config: &RedisConfig) -> RedisResult<Dial> {
    let mut places = places(config)?;
    Ok(match &config.topology {
        Topology::Standalone { .. } | Topology::Unix { .. } => {
            Dial::One(Box::new(Client::open(places.swap_remove(0))?))
        }
        Topology::Cluster { .. } => {
            let cluster = ClusterClient::builder(places)
                .retries(CLUSTER_RETRIES)
                .connection_timeout(config.connect_timeout)
                .response_timeout(config.response_timeout);
            Dial::Cluster(Box::new(cluster.build()?))
        }
        Topology::Sentinel { primary, .. } => Dial::Sentinel(Box::new(sentinel(
            ProtocolVersion::RESP2,
            config,
            &places,
            primary,
        )?)),
    })
}

fn sentinel(
    protocol: ProtocolVersion,
    config: &RedisConfig,
    places: &[ConnectionInfo],
    primary: &str,
) -> RedisResult<SentinelClient> {
    let addresses = places.iter().map(|place| place.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, primary, SentinelServerType::Master)?
        .set_client_to_redis_db(config.database)
        .set_client_to_redis_protocol(protocol);
    if config.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(name) = &config.username {
        builder = builder.set_client_to_redis_username(name);
    }
    if let Some(password) = &config.password {
        builder = builder.set_client_to_redis_password(password);
    }
    builder.build()
}

/// A way to listen to news. They come as pushes, which only the newer protocol has.
pub(crate) struct Ear {
    dial: EarDial,
    settings: AsyncConnectionConfig,
    next: usize,
}

enum EarDial {
    /// Any of these: in a cluster, all nodes hear what is published on one.
    Some(Vec<Client>),
    Sentinel(Box<SentinelClient>),
}

impl Ear {
    pub(crate) fn new(config: &RedisConfig) -> RedisResult<Self> {
        let places = places(config)?;
        let dial = match &config.topology {
            Topology::Sentinel { primary, .. } => {
                let client = sentinel(ProtocolVersion::RESP3, config, &places, primary)?;
                EarDial::Sentinel(Box::new(client))
            }
            _ => {
                let client = |place: ConnectionInfo| {
                    let settings = place.redis_settings().clone();
                    let settings = settings.set_protocol(ProtocolVersion::RESP3);
                    Client::open(place.set_redis_settings(settings))
                };
                EarDial::Some(places.into_iter().map(client).collect::<RedisResult<_>>()?)
            }
        };
        Ok(Self {
            dial,
            settings: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(config.connect_timeout))
                .set_response_timeout(Some(config.response_timeout)),
            next: 0,
        })
    }

    /// Connects; what is heard goes to `pushes`.
    pub(crate) async fn connect(
        &mut self,
        pushes: tokio::sync::mpsc::UnboundedSender<redis::PushInfo>,
    ) -> RedisResult<MultiplexedConnection> {
        let settings = self.settings.clone().set_push_sender(pushes);
        match &mut self.dial {
            EarDial::Some(clients) => {
                self.next = (self.next + 1) % clients.len();
                let client = &clients[self.next];
                client
                    .get_multiplexed_async_connection_with_config(&settings)
                    .await
            }
            EarDial::Sentinel(client) => client.get_async_connection_with_config(&settings).await,
        }
    }
}
