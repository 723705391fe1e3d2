//! adjutant-sqlite
