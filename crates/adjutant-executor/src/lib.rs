//! adjutant-executor
