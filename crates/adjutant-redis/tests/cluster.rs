//! The contracts' suites on a cluster of three.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod support;

adjutant_store::suite!(super::super::support::fresh_on_cluster());
