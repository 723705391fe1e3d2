//! adjutant-agent
