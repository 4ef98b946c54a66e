//! How a spool is kept, and what its records survive.

use crate::bounds::Limits;
use crate::error::{Error, Result};
use crate::format::Channel;
use crate::memory::{MEMORY_BYTES, Memory};
use crate::repeats::Repeats;

/// What the records of a spool survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The death of the process: a record is with the kernel when its append returns.
    #[default]
    Process,
    /// Also the loss of power, for what [`Spool::sync_to`](crate::Spool::sync_to) has confirmed.
    Power,
}

/// How a spool is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A segment is left for a new one before it would grow beyond this many bytes (a single larger append stays whole).
    pub segment_bytes: u64,
    /// The bound of this recorder's folder, in bytes. A part of it (72 KiB, and 4 KiB for each running entry) is reserved
    /// for what closes the books: Ends, notes, the LifeEnd.
    pub max_bytes: u64,
    /// What the records survive.
    pub durability: Durability,
    /// A channel whose bytes are likely to repeat what entries before them wrote to it. Of those that stand in one of the last
    /// segments it is only written where they stand. This costs up to 16 MiB of memory (touched as it fills), and 32 KiB for each running entry
    /// that has written to the channel.
    pub repeating: Option<Channel>,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_bytes: 8 << 30, durability: Durability::Process, repeating: None }
    }
}

impl Options {
    pub(crate) fn limits(&self) -> Result<Limits> {
        if self.segment_bytes < 1 << 10 {
            return Err(Error::Options("a segment must have room for 1 KiB at least"));
        }
        if self.segment_bytes > 1 << 32 {
            return Err(Error::Options("a segment must not be larger than 4 GiB"));
        }
        if self.max_bytes < 256 << 10 {
            return Err(Error::Options("the bound must leave room for 256 KiB at least"));
        }
        Ok(Limits { segment_bytes: self.segment_bytes, max_bytes: self.max_bytes })
    }

    pub(crate) fn repeats(&self) -> Option<Repeats> {
        // Segments that are kept only because later ones refer to them must leave most of the bound to what is new.
        let window = (self.max_bytes / 4 / self.segment_bytes).min(MAX_WINDOW);
        self.repeating.map(|channel| Repeats { channel, window, memory: Memory::new(MEMORY_BYTES) })
    }
}

/// At most so many segments before the current one are referred to. So no segment is kept for long after it was stored.
const MAX_WINDOW: u64 = 2;
