//! The store's server and the way to it.

use std::{thread::sleep, time::Duration};

use adjutant_servers::{
    AppendFsync, CuttingProxy, PostgresServer, PostgresSettings, RedisServer, RedisSettings,
};

use crate::{
    site::Site,
    worker::{self, LEASE_TTL},
};

enum Program {
    Postgres(PostgresServer),
    Redis(RedisServer),
}

/// A server that syncs before it answers, and a network to it that can be cut; or none.
pub struct Server(Option<(Program, CuttingProxy)>);

impl Server {
    /// For SQLite.
    pub fn none() -> Self {
        Self(None)
    }

    pub fn postgres() -> Self {
        let settings = PostgresSettings {
            fsync: true,
            ..PostgresSettings::default()
        };
        let server = PostgresServer::with(settings).unwrap();
        let proxy = CuttingProxy::to(&server.socket()).unwrap();
        Self(Some((Program::Postgres(server), proxy)))
    }

    pub fn redis() -> Self {
        let settings = RedisSettings {
            fsync: AppendFsync::Always,
            ..RedisSettings::default()
        };
        let server = RedisServer::with(settings).unwrap();
        let proxy = CuttingProxy::to(&server.socket()).unwrap();
        Self(Some((Program::Redis(server), proxy)))
    }

    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Its store, which workers reach through the proxy and the test without.
    pub async fn site(&self) -> Site {
        let Some((program, proxy)) = &self.0 else {
            return Site::new().await;
        };
        let port = proxy.port();
        let (direct, place) = match program {
            Program::Postgres(server) => (
                server.url(),
                format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            ),
            Program::Redis(server) => (server.url(), format!("redis://127.0.0.1:{port}")),
        };
        let store = worker::open(&direct).await.unwrap();
        Site::at(tempfile::tempdir().unwrap(), store, place)
    }

    /// Kills it, and starts it again after a while.
    pub fn kill(&mut self, away: Duration) {
        match self.0.as_mut().map(|(program, _)| program) {
            Some(Program::Postgres(server)) => {
                server.kill().unwrap();
                sleep(away);
                server.restart().unwrap();
            }
            Some(Program::Redis(server)) => {
                server.kill().unwrap();
                sleep(away);
                server.restart().unwrap();
            }
            None => {}
        }
    }

    /// Stops it for longer than any lease.
    pub fn pause(&self) {
        match self.0.as_ref().map(|(program, _)| program) {
            Some(Program::Postgres(server)) => {
                server.pause().unwrap();
                sleep(LEASE_TTL * 2);
                server.resume().unwrap();
            }
            Some(Program::Redis(server)) => {
                server.pause().unwrap();
                sleep(LEASE_TTL * 2);
                server.resume().unwrap();
            }
            None => {}
        }
    }

    pub fn cut_after(&self, bytes: u64) {
        if let Some((_, proxy)) = &self.0 {
            proxy.cut_after(bytes);
        }
    }

    pub fn cuts(&self) -> u64 {
        self.0.as_ref().map_or(0, |(_, proxy)| proxy.cuts())
    }
}
