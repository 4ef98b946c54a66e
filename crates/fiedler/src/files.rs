//! Files that are handed to models with the prompt.
//!
//! Guaranteed: only [files below the allowed folders](mcp::files) are opened.
//! Refused: files and sums over the limits, binary files that are no image, and images that are too large for the APIs.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mcp::files::{FileError, Folders, read_anywhere};

/// A text file has at most so many bytes, and all files of a call together.
const MAX_TEXT_BYTES: u64 = 10 << 20;
const MAX_ALL_BYTES: u64 = 20 << 20;
/// What the strictest of the APIs takes.
const MAX_IMAGE_BYTES: u64 = 5 << 20;
/// Files of a call.
pub(crate) const MAX_FILES: usize = 100;

/// Where files may come from.
#[derive(Clone, Debug)]
pub(crate) enum Allowed {
    /// Below these folders.
    Folders(Vec<PathBuf>),
    /// Anywhere: the user named each of them on the command line.
    Anywhere,
}

/// A file that was read.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    /// As it was named.
    pub(crate) name: String,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Text(String),
    Image(Image),
}

/// An image in a form that all APIs take.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) media_type: &'static str,
    pub(crate) base64: String,
}

impl Image {
    pub(crate) fn data_url(&self) -> String {
        format!("data:{};base64,{}", self.media_type, self.base64)
    }
}

/// Reads all files; or what is wrong with which.
pub(crate) fn read_all(names: &[String], allowed: &Allowed) -> Result<Vec<Attached>, String> {
    if names.len() > MAX_FILES {
        return Err(format!("must be at most {MAX_FILES} files, not {}", names.len()));
    }
    let mut left = MAX_ALL_BYTES;
    let read = |name: &String| {
        let bytes = read(Path::new(name), allowed).map_err(|problem| format!("{name}: {problem}"))?;
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| format!("{name}: all files together must have at most {MAX_ALL_BYTES} bytes"))?;
        let content = content(bytes).map_err(|problem| format!("{name}: {problem}"))?;
        Ok(Attached { name: name.clone(), content })
    };
    names.iter().map(read).collect()
}

fn read(path: &Path, allowed: &Allowed) -> Result<Vec<u8>, FileError> {
    match allowed {
        Allowed::Anywhere => read_anywhere(path, MAX_TEXT_BYTES),
        Allowed::Folders(folders) => {
            let called = "a folder that Fiedler may read (fiedler_folders)";
            Folders { allowed: folders, called }.read(path, MAX_TEXT_BYTES)
        }
    }
}

fn content(bytes: Vec<u8>) -> Result<Content, String> {
    if let Some(media_type) = image_type(&bytes) {
        if bytes.len() as u64 > MAX_IMAGE_BYTES {
            return Err(format!("an image must have at most {MAX_IMAGE_BYTES} bytes"));
        }
        return Ok(Content::Image(Image { media_type, base64: STANDARD.encode(&bytes) }));
    }
    text(&bytes).map(Content::Text)
}

fn image_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// UTF-8, UTF-16 with a byte order mark, or Latin-1 (as browsers read it) if nothing in it looks binary.
fn text(bytes: &[u8]) -> Result<String, String> {
    let binary = || "must be text or an image (PNG, JPEG, GIF, WebP); it is binary".to_owned();
    let units = |read: fn([u8; 2]) -> u16, bytes: &[u8]| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let text: Result<String, _> = char::decode_utf16(pairs.iter().map(|pair| read(*pair))).collect();
        text.ok().filter(|_| rest.is_empty()).ok_or_else(|| "must be valid UTF-16, as its first bytes say".to_owned())
    };
    let text = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).map_err(|_| binary())?,
        [0xff, 0xfe, rest @ ..] => units(u16::from_le_bytes, rest)?,
        [0xfe, 0xff, rest @ ..] => units(u16::from_be_bytes, rest)?,
        _ => String::from_utf8(bytes.to_vec()).or_else(|_| {
            let is_control =
                |byte: &u8| (*byte < 0x20 && !b"\t\n\r\x0c\x1b".contains(byte)) || (0x7f..0xa0).contains(byte);
            if bytes.iter().any(is_control) {
                Err(binary())
            } else {
                Ok(bytes.iter().copied().map(char::from).collect())
            }
        })?,
    };
    if text.contains('\0') { Err(binary()) } else { Ok(text) }
}

#[cfg(test)]
mod tests;
