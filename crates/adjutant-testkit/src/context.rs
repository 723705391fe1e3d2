//! A run context without a store.
