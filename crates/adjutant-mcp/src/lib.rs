//! The pool of MCP servers.
