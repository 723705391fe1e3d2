//! Words shared by all of Adjutant.
