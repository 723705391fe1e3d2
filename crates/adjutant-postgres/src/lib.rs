//! Queue, state and events on PostgreSQL, for many processes on many machines.
