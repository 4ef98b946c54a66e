//! Turns well-formed bytes into others: some nearly right, some far from it.

use e2e::random::Random;

/// Bytes at which something ends, begins or goes wrong.
const SPECIAL: &[u8] = b"\0\r\n \t\"\\{}[]:,;=&?#%/@0-\x7f\x80\xbf\xc3\xe2\xf0\xff";

/// Changes `bytes` in one to eight places. `words` are pieces that mean something to the target.
pub(crate) fn mutate(bytes: &mut Vec<u8>, words: &[&[u8]], random: &mut Random) {
    for _ in 0..=random.between(0, 8) {
        change(bytes, words, random);
    }
}

fn change(bytes: &mut Vec<u8>, words: &[&[u8]], random: &mut Random) {
    let at = random.between(0, bytes.len() + 1);
    let to = (at + random.between(0, 40)).min(bytes.len());
    match random.between(0, 9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.between(0, 8),
        1 if at < bytes.len() => bytes[at] = SPECIAL[random.between(0, SPECIAL.len())],
        2 => drop(bytes.drain(at..to)),
        3 => bytes.truncate(at),
        // Twice in a row, or once more elsewhere.
        4 => {
            let piece = bytes[at..to].to_vec();
            let place = if random.one_in(2) { to } else { random.between(0, bytes.len() + 1) };
            bytes.splice(place..place, piece);
        }
        5 => {
            let noise: Vec<u8> = (0..random.between(1, 9)).map(|_| random.next_u64() as u8).collect();
            bytes.splice(at..at, noise);
        }
        6 => {
            let mut piece: Vec<u8> = bytes.drain(at..to).collect();
            piece.reverse();
            bytes.splice(at..at, piece);
        }
        _ if !words.is_empty() => {
            let word = words[random.between(0, words.len())];
            let until = if random.one_in(3) { to } else { at };
            bytes.splice(at..until, word.iter().copied());
        }
        _ => {}
    }
}

/// The same bytes in pieces of random sizes, empty ones included.
pub(crate) fn pieces<'a>(mut bytes: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    let longest = random.between(1, 50);
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(random.between(0, longest + 1).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
