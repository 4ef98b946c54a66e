//! Mutated input for everything that reads what others wrote: streams, bodies, heads, segments, and the gateway's socket.
//!
//! Each target has seeds that are well-formed and a property that must hold of whatever they are turned into. A run is
//! repeatable: the same seed gives the same inputs. Here a few seconds; `scripts/fuzz` goes on with other seeds.
//!
//! `ICCM_FUZZ_SECONDS`: how long each target runs, instead of a fixed number of inputs. `ICCM_FUZZ_SEED`: where it begins.

mod body;
mod edge;
mod harness;
mod json;
mod mutate;
mod redaction;
mod segments;
mod spans;
mod sse;
mod websocket;
