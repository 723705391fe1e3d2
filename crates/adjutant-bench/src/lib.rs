//! adjutant-bench
