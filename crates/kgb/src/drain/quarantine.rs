//! Where an item goes that the store takes under no circumstances, while it takes others: `<data>/quarantine/`.
//!
//! A file holds all records of one item as they stand in the spool: for each a line
//! `<kind> mono_ns=<n> bytes=<n>`, then the payload and a line feed; of a payload that cannot be read, the line says why.
//! Nothing in it is lost, and nothing else waits for it. The file's name is `<recorder>-<seq>.records`; writing it again
//! replaces it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use spool::{Kind, Reader};
use uuid::Uuid;

use crate::assemble::Assembled;

/// An item that was put aside.
pub(super) struct Aside {
    pub(super) file: PathBuf,
    /// Whether all of its records could be read.
    pub(super) is_whole: bool,
}

/// Writes an item's file and makes it durable; only then may the spool let go of the records.
pub(super) fn put_aside(folder: &Path, recorder: Uuid, item: &Assembled, reader: &Reader) -> io::Result<Aside> {
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{recorder}-{}.records", item.seq));
    let draft = path.with_extension("draft");
    let mut file = BufWriter::new(File::create(&draft)?);
    let mut is_whole = true;
    for piece in &item.pieces {
        let kind = name(piece.kind);
        match reader.read(&piece.payload) {
            Ok(bytes) => {
                writeln!(file, "{kind} mono_ns={} bytes={}", piece.mono_ns, bytes.len())?;
                file.write_all(&bytes)?;
                file.write_all(b"\n")?;
            }
            Err(error) => {
                is_whole = false;
                writeln!(file, "{kind} mono_ns={} unreadable: {error}", piece.mono_ns)?;
            }
        }
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&draft, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(Aside { file: path, is_whole })
}

/// Moves a whole recorder's folder here: it was damaged, and its owner may want to look at what could not be read.
pub(super) fn put_folder_aside(folder: &Path, spooled: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let name = spooled.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let path = folder.join(name);
    fs::rename(spooled, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(path)
}

fn name(kind: Kind) -> String {
    match kind {
        Kind::LifeBegin => "life-begin".into(),
        Kind::Begin => "begin".into(),
        Kind::Part(channel) => format!("part-{}", channel.0),
        Kind::End { flags } => format!("end flags={}", flags.0),
        Kind::Note => "note".into(),
        Kind::LifeEnd { flags } => format!("life-end flags={}", flags.0),
    }
}
