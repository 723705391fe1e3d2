//! Redis.

/// A private Redis server.
#[derive(Debug)]
pub struct RedisServer;
