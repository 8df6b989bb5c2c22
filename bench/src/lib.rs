//! Benches, count budgets and floor probes.
