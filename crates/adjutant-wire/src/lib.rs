//! adjutant-wire
