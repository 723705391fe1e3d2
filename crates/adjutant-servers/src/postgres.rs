//! PostgreSQL.

/// A private PostgreSQL server.
#[derive(Debug)]
pub struct PostgresServer;
