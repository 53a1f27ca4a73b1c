//! Drawing, and ways to spoil bytes.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// The draws of one execution.
#[must_use]
pub fn of(seed: u64, execution: u64) -> StdRng {
    // SplitMix64's step: neighbours have nothing in common.
    let mut mixed = seed ^ execution.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    StdRng::seed_from_u64(mixed ^ (mixed >> 27))
}

/// Numbers at the borders of what lengths and codes can be.
const BORDERS: [u32; 14] = [
    0,
    1,
    3,
    4,
    8,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
];

/// One of a list.
pub(crate) fn one<'a, T>(draws: &mut StdRng, of: &'a [T]) -> &'a T {
    &of[draws.random_range(0..of.len())]
}

/// Mostly short text; some of it with what separates things, and characters of every length.
pub(crate) fn text(draws: &mut StdRng) -> String {
    const PIECES: [&str; 16] = [
        "a",
        "Z",
        "0",
        "-1",
        "queueId",
        " ",
        "\"",
        "\\",
        "{",
        "}",
        "\n",
        "ü",
        "中",
        "😀",
        "\u{7f}",
        "99999999999999999999",
    ];
    let pieces = draws.random_range(0..6);
    (0..pieces).map(|_| *one(draws, &PIECES)).collect()
}

pub(crate) fn bytes(draws: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; draws.random_range(0..=most)];
    match draws.random_bool(0.5) {
        true => draws.fill(&mut bytes[..]),
        // Compressible.
        false => {
            let byte = draws.random();
            bytes.fill(byte);
        }
    }
    bytes
}

/// Spoils bytes in one to three ways; they may come out as they were.
pub(crate) fn spoil(draws: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..draws.random_range(1..=3) {
        if bytes.is_empty() {
            return;
        }
        let place = draws.random_range(0..bytes.len());
        match draws.random_range(0..8) {
            0 => bytes[place] = draws.random(),
            1 => bytes[place] ^= 1 << draws.random_range(0..8),
            2 => bytes.truncate(place),
            // A length or a code takes another value.
            3 | 4 => {
                let word = one(draws, &BORDERS).to_be_bytes();
                let end = bytes.len().min(place + 4);
                bytes[place..end].copy_from_slice(&word[..end - place]);
            }
            5 => {
                let end = bytes.len().min(place + draws.random_range(1..40));
                bytes.drain(place..end);
            }
            6 => {
                let end = bytes.len().min(place + draws.random_range(1..40));
                let again = bytes[place..end].to_vec();
                let to = draws.random_range(0..=bytes.len());
                bytes.splice(to..to, again);
            }
            _ => {
                let noise = self::bytes(draws, 16);
                bytes.splice(place..place, noise);
            }
        }
    }
}
