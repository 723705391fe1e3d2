//! Traces and metrics of runs, models and tools.
