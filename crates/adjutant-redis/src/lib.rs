//! Queue, state and events on Redis: standalone, Sentinel or Cluster.
