//! Gives agents models and tools.
