//! Digests: 256-bit BLAKE3, plain and keyed.
//!
//! Plain digests name bytes that the record may show to anybody. Keyed ones are for bytes whose presence must not be
//! provable by somebody who merely guesses them; the key belongs to the tenant.

use std::fmt;

/// A 256-bit BLAKE3 digest. Displayed as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// The plain digest of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// The digest of `bytes` under `key`; without the key nobody can tell which bytes it stands for.
pub fn keyed(key: &[u8; 32], bytes: &[u8]) -> Digest {
    Digest(*blake3::keyed_hash(key, bytes).as_bytes())
}

impl Digest {
    /// Reads what [`Display`](fmt::Display) wrote; `None` unless it is exactly 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (hex_value(pair[0])? << 4) | hex_value(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The digest's 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

pub(crate) fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_published_one() {
        let expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(digest(b"").to_string(), expected);
        assert_eq!(Digest::from_hex(expected), Some(digest(b"")));
    }

    #[test]
    fn only_sixty_four_hex_digits_are_read_back() {
        let good = digest(b"x").to_string();
        assert_eq!(Digest::from_hex(&good.to_uppercase()), Some(digest(b"x")));
        assert_eq!(Digest::from_hex(&good[1..]), None);
        assert_eq!(Digest::from_hex(&format!("g{}", &good[1..])), None);
        assert_eq!(Digest::from_hex(&"é".repeat(32)), None);
    }

    #[test]
    fn keyed_digests_depend_on_key_and_bytes() {
        let (a, b) = ([1; 32], [2; 32]);
        assert_ne!(keyed(&a, b"x"), keyed(&b, b"x"));
        assert_ne!(keyed(&a, b"x"), keyed(&a, b"y"));
        assert_ne!(keyed(&a, b"x"), digest(b"x"));
        assert_eq!(keyed(&a, b"x"), keyed(&a, b"x"));
    }
}
