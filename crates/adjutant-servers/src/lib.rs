//! Private database servers for tests and measurements: each in a folder of its own, on a socket or a free port,
//! gone when the value is dropped.

mod postgres;
mod proxy;
mod redis;

pub use crate::{
    postgres::{PostgresServer, PostgresSettings, SharedPostgres},
    proxy::CuttingProxy,
    redis::{AppendFsync, RedisCluster, RedisSentinel, RedisServer, RedisSettings},
};
