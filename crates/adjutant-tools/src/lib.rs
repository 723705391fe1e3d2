//! Tools an agent may call, and their registry.
