//! The invariants that ARCHITECTURE.md names, as checks: see `tests/invariants.rs`.
