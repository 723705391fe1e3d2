//! adjutant-state
