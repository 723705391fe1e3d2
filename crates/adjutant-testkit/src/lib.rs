//! adjutant-testkit
