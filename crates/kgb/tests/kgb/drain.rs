//! What is in the spool gets into the store, once, whatever the store and the process do.

mod failing;
mod fake;
mod lives;
mod rig;
mod storing;
