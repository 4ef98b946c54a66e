use std::io::Write;

use flate2::Compression;
use proptest::prelude::*;

use super::*;

const MAX: usize = 1 << 20;

fn encode(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 5, 20).write_all(body).unwrap();
            out
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        other => panic!("no encoder for {other}"),
    }
}

fn text() -> Vec<u8> {
    (0..4000).flat_map(|number| format!("event {number}: {}\n", number * 7919 % 104_729).into_bytes()).collect()
}

#[test]
fn every_coding_is_undone() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let encoded = encode(coding, &text());
        assert!(encoded.len() < text().len());
        assert_eq!(decode(coding, &encoded, MAX).unwrap(), text(), "{coding}");
        assert_eq!(decode(&coding.to_uppercase(), &encoded, MAX).unwrap(), text(), "{coding}");
    }
    assert_eq!(decode("x-gzip", &encode("gzip", b"x"), MAX).unwrap(), &b"x"[..]);
}

#[test]
fn a_bare_deflate_stream_is_undone_too() {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&text()).unwrap();
    assert_eq!(decode("deflate", &encoder.finish().unwrap(), MAX).unwrap(), text());
}

#[test]
fn lists_are_undone_from_their_end() {
    let encoded = encode("zstd", &encode("gzip", &text()));
    assert_eq!(decode("gzip, identity , zstd", &encoded, MAX).unwrap(), text());
}

#[test]
fn a_body_without_coding_is_borrowed() {
    for coding in ["", "identity", " , "] {
        assert!(matches!(decode(coding, b"x", MAX), Ok(Cow::Borrowed(b"x"))));
    }
    assert!(matches!(decode("gzip", b"", MAX), Ok(Cow::Borrowed(b""))));
    assert_eq!(decode("", b"xy", 1), Err(DecodeError::TooLarge(1)));
}

#[test]
fn a_body_that_breaks_off_yields_its_beginning() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let encoded = encode(coding, &text());
        let error = decode(coding, &encoded[..encoded.len() * 2 / 3], MAX).unwrap_err();
        assert!(matches!(error, DecodeError::Truncated(_)), "{coding}: {error}");
        let decoded = error.into_decoded();
        assert!(text().starts_with(&decoded), "{coding}");
        assert!(decoded.len() > 1000 || coding == "zstd", "{coding}: {}", decoded.len());
    }
}

#[test]
fn a_flushed_stream_that_breaks_off_yields_all_that_was_flushed() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(b"data: 1\n\n").unwrap();
    gzip.flush().unwrap();
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    zstd.write_all(b"data: 1\n\n").unwrap();
    zstd.flush().unwrap();
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
    brotli.write_all(b"data: 1\n\n").unwrap();
    brotli.flush().unwrap();
    for (coding, bytes) in [("gzip", gzip.get_ref()), ("zstd", zstd.get_ref()), ("br", brotli.get_ref())] {
        assert_eq!(decode(coding, bytes, MAX), Err(DecodeError::Truncated(b"data: 1\n\n".to_vec())), "{coding}");
    }
}

#[test]
fn a_bomb_stops_at_the_bound() {
    let zeros = vec![0; 4 * MAX];
    for coding in ["gzip", "deflate", "br", "zstd"] {
        assert_eq!(decode(coding, &encode(coding, &zeros), MAX), Err(DecodeError::TooLarge(MAX)), "{coding}");
    }
}

#[test]
fn damage_and_unknown_codings_are_named() {
    assert!(matches!(decode("gzip", b"no gzip at all", MAX), Err(DecodeError::Corrupt(_))));
    assert!(matches!(decode("zstd", b"no zstd at all", MAX), Err(DecodeError::Corrupt(_))));
    assert_eq!(decode("aes128gcm", b"x", MAX), Err(DecodeError::Unsupported("aes128gcm".into())));
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(
        coding in "(gzip|deflate|br|zstd)(, ?(gzip|deflate|br|zstd|identity))?",
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(decoded) = decode(&coding, &bytes, 4096) {
            prop_assert!(decoded.len() <= 4096);
        }
    }

    #[test]
    fn a_cut_at_any_place_yields_a_prefix(coding in "gzip|deflate|br|zstd", at in any::<prop::sample::Index>()) {
        let encoded = encode(&coding, &text());
        let cut = &encoded[..at.index(encoded.len())];
        let decoded = decode(&coding, cut, MAX).map(Cow::into_owned).unwrap_or_else(DecodeError::into_decoded);
        prop_assert!(text().starts_with(&decoded));
    }
}
