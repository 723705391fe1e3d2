//! adjutant-events
