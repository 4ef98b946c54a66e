//! Packs: what one session adds to the record, compressed as one stream that grows piece by piece.
//!
//! What an agent sends resembles what it sent before far more than it resembles anything else, so a piece is compressed
//! with all earlier pieces of its pack as context: a zstd frame that is flushed after each piece and never ended. A
//! pack is closed when its raw size passes [`FULL`], which bounds what reading one block costs. Each piece is
//! decompressed again and compared before it counts as written.

use std::io;
use std::sync::LazyLock;

use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::stream::raw::{CParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

/// Raw bytes after which a pack takes no further piece.
pub(crate) const FULL: usize = 512 * 1024;

/// First byte of a pack's first piece: zstd, primed with [`DICTIONARY`]. Frozen; another dictionary is another number.
const CODEC_ZSTD_DICTIONARY_1: u8 = 1;

/// What API traffic looks like, so that even the first piece of a pack has something to refer to.
const DICTIONARY: &[u8] = include_bytes!("dictionary.txt");

const LEVEL: i32 = 3;

/// How much room a vector that is full gets.
const ROOM: usize = 16 * 1024;

/// The dictionary as the compressor and the decompressor want it, prepared once for all packs.
static TO_COMPRESS: LazyLock<EncoderDictionary<'static>> = LazyLock::new(|| EncoderDictionary::copy(DICTIONARY, LEVEL));
static TO_DECOMPRESS: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(DICTIONARY));

/// What an open pack takes beside its window, which both sides hold: the compressor's tables and its room for a block.
const OPEN_BYTES: usize = 1024 * 1024;

/// The stream of one open pack.
pub(crate) struct PackWriter {
    encoder: Encoder<'static>,
    decoder: Decoder<'static>,
    pieces: u64,
    raw: usize,
}

/// One flushed piece of a pack.
pub(crate) struct Piece {
    /// 0 for the pack's first.
    pub(crate) number: u64,
    /// Where its raw bytes begin in the pack.
    pub(crate) offset: usize,
    /// The compressed bytes.
    pub(crate) data: Vec<u8>,
}

impl PackWriter {
    pub(crate) fn new() -> io::Result<Self> {
        let mut encoder = Encoder::with_prepared_dictionary(&TO_COMPRESS)?;
        // The window covers a whole pack and no more, and the tables fit it: zstd's defaults for an unknown size take
        // tens of megabytes for each open pack.
        encoder.set_parameter(CParameter::WindowLog(19))?;
        encoder.set_parameter(CParameter::HashLog(15))?;
        encoder.set_parameter(CParameter::ChainLog(16))?;
        encoder.set_parameter(CParameter::ContentSizeFlag(false))?;
        Ok(Self { encoder, decoder: Decoder::with_prepared_dictionary(&TO_DECOMPRESS)?, pieces: 0, raw: 0 })
    }

    /// Begins a new pack with the memory of this one: what zstd needs for one is large and dear to ask the system for.
    pub(crate) fn begin_anew(mut self) -> io::Result<Self> {
        self.encoder.reinit()?;
        self.decoder.reinit()?;
        Ok(Self { pieces: 0, raw: 0, ..self })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.raw >= FULL
    }

    /// Roughly what it takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        OPEN_BYTES + self.raw * 5 / 2
    }

    /// Compresses one piece and proves that it comes back. After an error the writer must be dropped.
    pub(crate) fn append(&mut self, raw: &[u8]) -> io::Result<Piece> {
        let mut data = Vec::with_capacity(raw.len() / 3 + 256);
        if self.pieces == 0 {
            data.push(CODEC_ZSTD_DICTIONARY_1);
        }
        let start = data.len();
        compress(&mut self.encoder, raw, &mut data)?;
        let mut back = Vec::with_capacity(raw.len() + 64);
        decompress(&mut self.decoder, &data[start..], &mut back)?;
        if back != raw {
            return Err(io::Error::other("zstd gave other bytes than it was given"));
        }
        let piece = Piece { number: self.pieces, offset: self.raw, data };
        self.pieces += 1;
        self.raw += raw.len();
        Ok(piece)
    }
}

/// Reads a pack's raw bytes piece by piece.
pub(crate) struct PackReader {
    decoder: Option<Decoder<'static>>,
    raw: Vec<u8>,
}

impl PackReader {
    pub(crate) fn new() -> Self {
        Self { decoder: None, raw: Vec::new() }
    }

    /// Adds the next piece, in order from the first.
    pub(crate) fn add(&mut self, data: &[u8]) -> io::Result<()> {
        let (decoder, data) = match &mut self.decoder {
            Some(decoder) => (decoder, data),
            none => {
                let (&codec, data) = data.split_first().ok_or_else(|| io::Error::other("empty pack"))?;
                if codec != CODEC_ZSTD_DICTIONARY_1 {
                    return Err(io::Error::other(format!("unknown pack codec {codec}")));
                }
                (none.insert(Decoder::with_prepared_dictionary(&TO_DECOMPRESS)?), data)
            }
        };
        decompress(decoder, data, &mut self.raw)
    }

    /// The raw bytes so far.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }
}

fn compress(encoder: &mut Encoder<'_>, raw: &[u8], data: &mut Vec<u8>) -> io::Result<()> {
    let mut input = InBuffer::around(raw);
    while input.pos() < raw.len() {
        with_room(data, |output| encoder.run(&mut input, output))?;
    }
    while with_room(data, |output| encoder.flush(output))? > 0 {}
    Ok(())
}

fn decompress(decoder: &mut Decoder<'_>, data: &[u8], raw: &mut Vec<u8>) -> io::Result<()> {
    let mut input = InBuffer::around(data);
    loop {
        with_room(raw, |output| decoder.run(&mut input, output))?;
        // A full output buffer may mean that the decoder holds more.
        if input.pos() == data.len() && raw.len() < raw.capacity() {
            return Ok(());
        }
    }
}

/// Appends to a vector, which is given more room when it is full.
fn with_room<T>(out: &mut Vec<u8>, step: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> io::Result<T>) -> io::Result<T> {
    if out.len() == out.capacity() {
        out.reserve(ROOM);
    }
    let at = out.len();
    step(&mut OutBuffer::around_pos(out, at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pieces_come_back_in_order(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..12)) {
            let mut writer = PackWriter::new().unwrap();
            let mut reader = PackReader::new();
            let mut raw = Vec::new();
            for (number, bytes) in pieces.iter().enumerate() {
                let piece = writer.append(bytes).unwrap();
                prop_assert_eq!(piece.number, number as u64);
                prop_assert_eq!(piece.offset, raw.len());
                reader.add(&piece.data).unwrap();
                raw.extend_from_slice(bytes);
                prop_assert_eq!(reader.raw(), &raw[..]);
            }
        }
    }

    #[test]
    fn a_piece_that_repeats_an_earlier_one_costs_almost_nothing() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
        let mut writer = PackWriter::new().unwrap();
        let first = writer.append(&text).unwrap().data.len();
        let second = writer.append(&text).unwrap().data.len();
        assert!(second * 100 < first, "{second} of {first}");
    }

    #[test]
    fn a_writer_that_begins_anew_writes_what_a_new_one_writes() {
        let text = b"what came before is no part of what comes now ".repeat(50);
        let mut used = PackWriter::new().unwrap();
        used.append(&text).unwrap();
        let again = used.begin_anew().unwrap().append(&text).unwrap();
        let new = PackWriter::new().unwrap().append(&text).unwrap();
        assert_eq!((again.number, again.offset, &again.data), (0, 0, &new.data));
        let mut reader = PackReader::new();
        reader.add(&again.data).unwrap();
        assert_eq!(reader.raw(), text);
    }

    #[test]
    fn a_damaged_piece_is_an_error() {
        let mut piece = PackWriter::new().unwrap().append(&b"some text that is long enough".repeat(20)).unwrap().data;
        piece[0] = 77;
        assert!(PackReader::new().add(&piece).is_err());
    }
}
