//! adjutant-process
