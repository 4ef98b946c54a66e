//! What can go wrong, in the terms in which a caller has to react.

use std::io;

use crate::format::Position;

/// The result of a spool operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the spool did not do what it was asked to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No room: the bound of this spool is reached, or the disk or a quota is exhausted. Nothing of the call was
    /// written and no sequence number was consumed. Calls succeed again as soon as there is room.
    #[error("the spool is full")]
    Full,
    /// An fsync failed, or a failed write could not be undone, so that nobody can tell what is on the disk.
    /// Every later call is answered with this. The way out is a restart, which recovers what is readable.
    #[error("the spool was stopped by a disk failure; restart to recover it")]
    Poisoned,
    /// The life of this recorder has been ended by [`Spool::end_life`](crate::Spool::end_life).
    #[error("the recorder's life has ended")]
    Ended,
    /// The entry has already been finished.
    #[error("the entry is already finished")]
    Closed,
    /// The life cannot end while entries are running (their number is given), nor its folder be removed before it has ended.
    #[error("the recorder's life goes on; {0} entries are running")]
    StillRunning(u64),
    /// A control payload (of a begin, an end, a note or a life record) exceeds
    /// [`MAX_PAYLOAD_BYTES`](crate::MAX_PAYLOAD_BYTES), or one call's parts exceed 4 GiB. (A part that is too large for one
    /// record is split.)
    #[error("{0} bytes are too large for one append")]
    TooLarge(usize),
    /// The options contradict each other.
    #[error("bad spool options: {0}")]
    Options(&'static str),
    /// A checksum or a structure is wrong. A reader that met this goes on behind the damage at its next call.
    #[error("damaged at {position}: {what}")]
    Damaged {
        /// Where the damage begins.
        position: Position,
        /// What is wrong there.
        what: &'static str,
    },
    /// The segment was written by a version of this program that this one does not understand.
    #[error("format version {0} is not supported")]
    Version(u32),
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, as the beginning of a sentence.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// Sorts an I/O error: lack of room is [`Error::Full`], the rest keeps its cause and says what was being done.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io { doing, source },
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { source, .. } => source,
            Error::Full => io::ErrorKind::StorageFull.into(),
            Error::Damaged { .. } | Error::Version(_) => io::Error::new(io::ErrorKind::InvalidData, error),
            other => io::Error::other(other),
        }
    }
}
