//! The executable as a process: exit codes, streams, signals, and what one line on standard error says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in tests a panic is how a failure is told")]

mod record;
mod run;
mod support;
mod usage;
