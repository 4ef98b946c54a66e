//! All tests of the containers, which share one engine: `scripts/test-containers` runs them.

mod agent;
mod command;
mod images;
