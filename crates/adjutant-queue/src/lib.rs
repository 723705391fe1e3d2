//! adjutant-queue
