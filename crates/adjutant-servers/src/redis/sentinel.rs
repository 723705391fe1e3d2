//! A primary with a replica, and sentinels that watch them.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{AppendFsync, GLANCE, PATIENCE, RedisServer, RedisSettings};

/// What the sentinels call the primary.
const NAME: &str = "main";

/// A primary and a replica, watched by three sentinels that put the replica in the place of a primary that is gone.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl RedisSentinel {
    /// Starts all of them on free ports of the loopback interface. The servers sync before they answer.
    ///
    /// # Errors
    /// See [`RedisServer::start`].
    pub fn start() -> Result<Self> {
        let server = |more: Vec<(String, String)>| {
            RedisServer::with(RedisSettings {
                fsync: AppendFsync::Always,
                tcp: true,
                more,
                ..RedisSettings::default()
            })
        };
        let primary = server(Vec::new())?;
        let port = primary.port.context("a server without a port")?.to_string();
        let follow = ("replicaof".to_owned(), format!("127.0.0.1 {port}"));
        let replica = server(vec![
            follow,
            ("repl-diskless-sync-delay".into(), "0".into()),
        ])?;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(RedisServer::sentinel(&format!(
                "sentinel monitor {NAME} 127.0.0.1 {port} 2\n\
                 sentinel down-after-milliseconds {NAME} 500\n\
                 sentinel failover-timeout {NAME} 5000\n"
            ))?);
        }
        let all = Self {
            servers: vec![primary, replica],
            sentinels,
        };
        let started = Instant::now();
        while !all.is_whole() {
            ensure!(
                started.elapsed() < PATIENCE,
                "the sentinels do not find each other"
            );
            std::thread::sleep(GLANCE);
        }
        Ok(all)
    }

    fn is_whole(&self) -> bool {
        let follows = self.servers[0].command(&["INFO", "replication"]);
        let follows = follows.unwrap_or_default().contains("state=online");
        follows
            && self.sentinels.iter().all(|sentinel| {
                let info = sentinel.command(&["INFO", "sentinel"]).unwrap_or_default();
                info.contains("slaves=1,sentinels=3")
            })
    }

    /// Where the sentinels are.
    #[must_use]
    pub fn url(&self) -> String {
        let nodes = self.sentinels.iter().filter_map(|node| node.address().ok());
        let nodes = nodes.collect::<Vec<_>>().join(",");
        format!("redis-sentinel://{nodes}/{NAME}")
    }

    /// The primary at first, and its replica.
    pub fn servers_mut(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }
}
