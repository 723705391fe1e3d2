//! A cluster of three.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{AppendFsync, GLANCE, PATIENCE, RedisServer, RedisSettings, free_port};

/// A Redis cluster of three masters without replicas, each with a third of the keys.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts one on free ports of the loopback interface, without logs of writes.
    ///
    /// # Errors
    /// See [`RedisServer::start`].
    pub fn start() -> Result<Self> {
        Self::with(AppendFsync::Off)
    }

    /// Starts one whose nodes sync like this.
    ///
    /// # Errors
    /// See [`RedisServer::start`].
    pub fn with(fsync: AppendFsync) -> Result<Self> {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for slots in [("0", "5460"), ("5461", "10922"), ("10923", "16383")] {
            let bus = free_port()?.to_string();
            let more = [
                ("cluster-enabled", "yes"),
                ("cluster-port", &bus),
                ("cluster-node-timeout", "2000"),
            ];
            let node = RedisServer::with(RedisSettings {
                fsync,
                tcp: true,
                more: more.map(|(name, value)| (name.into(), value.into())).into(),
                ..RedisSettings::default()
            })?;
            node.command(&["CLUSTER", "ADDSLOTSRANGE", slots.0, slots.1])?;
            nodes.push(node);
            buses.push(bus);
        }
        let cluster = Self { nodes };
        for (node, bus) in cluster.nodes.iter().zip(&buses).skip(1) {
            let port = node.port.context("a node without a port")?.to_string();
            cluster.nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, bus])?;
        }
        let started = Instant::now();
        while !cluster.nodes.iter().all(is_whole) {
            ensure!(
                started.elapsed() < PATIENCE,
                "the nodes do not make a cluster"
            );
            std::thread::sleep(GLANCE);
        }
        Ok(cluster)
    }

    /// Where all its nodes are.
    #[must_use]
    pub fn url(&self) -> String {
        let nodes = self
            .nodes
            .iter()
            .filter_map(|node| node.address().ok())
            .collect::<Vec<_>>();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Its nodes, to be stopped and started.
    pub fn nodes_mut(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }
}

fn is_whole(node: &RedisServer) -> bool {
    let info = node.command(&["CLUSTER", "INFO"]).unwrap_or_default();
    info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
}
