//! adjutant-store
