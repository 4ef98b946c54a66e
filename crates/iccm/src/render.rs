//! How results look to people.
//!
//! Guaranteed: nothing from the record reaches a terminal unneutralised (see [`safe`]); colours appear only on a terminal
//! that wants them; a reader that has gone away (`| head`) is not an error (see [`is_broken_pipe`]).

pub(crate) mod quantity;
pub(crate) mod safe;
pub(crate) mod screen;
pub(crate) mod table;
pub(crate) mod wrap;

use std::io;

/// Whether an error means that nobody reads the output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

/// Writes a value as one line of JSON.
pub(crate) fn json_line(out: &mut dyn io::Write, value: &impl serde::Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")?;
    Ok(())
}
