//! How bodies are kept: each distinct element once, the exact bytes of every body rebuildable.
//!
//! A request's body is [`split`] into blocks and a [`manifest`] over them; what is its own goes into an [`envelope`]; both end up as
//! pieces of a [`pack`]. What a request repeats of the one before it is [`resent`]. Nothing here knows SQL: the backends bring the tables.

pub(crate) mod element;
pub(crate) mod envelope;
pub(crate) mod manifest;
pub(crate) mod pack;
pub(crate) mod resent;
pub(crate) mod split;
pub(crate) mod varint;
