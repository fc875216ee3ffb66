//! Changes of an input that keep most of its structure, so that they get past the first line of a parser.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::ops::Range;

/// Words that parsers look for, and values at the edge of what a field holds.
const WORDS: [&[u8]; 44] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"\n",
    b"\0",
    b"\"",
    b"\\",
    b"<",
    b">",
    b"@",
    b":",
    b";",
    b",",
    b"=",
    b"?",
    b"%",
    b"%00",
    b"%ff",
    b"[",
    b"]",
    b"[::1]",
    b"*",
    b"'",
    b"sip:",
    b"tel:+",
    b"urn:service:sos",
    b";tag=",
    b";branch=z9hG4bK",
    b";lr",
    b"SIP/2.0",
    b"Content-Length: ",
    b"Via: ",
    b"a=rtpmap:",
    b"m=audio ",
    b"c=IN IP6 ",
    b"${",
    b"(?<x>",
    b"\xff",
    b"\xc3\xa9",
    b"0",
    b"-1",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
];

/// An input made of `seeds` by a few changes: the same one for the same number.
pub(crate) fn input(seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut chance = StdRng::seed_from_u64(number);
    let mut bytes = seeds.choose(&mut chance).cloned().unwrap_or_default();
    for _ in 0..chance.random_range(1..=5) {
        change(&mut bytes, seeds, &mut chance);
        // Larger ones say the same, slower.
        bytes.truncate(16 * 1024);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut StdRng) {
    let position = chance.random_range(0..=bytes.len());
    let range = range(bytes, chance);
    match chance.random_range(0..12) {
        0 => insert(bytes, position, WORDS.choose(chance).copied().unwrap_or_default()),
        1 => drop(bytes.splice(range, WORDS.choose(chance).copied().unwrap_or_default().iter().copied())),
        2 => drop(bytes.drain(range)),
        3 => {
            let copy = bytes[range].to_vec();
            insert(bytes, position, &copy);
        }
        // One piece many times: what grows with the square is felt here.
        4 => {
            let copy = bytes[range].repeat(chance.random_range(2..60));
            insert(bytes, position, &copy);
        }
        5 => {
            if let Some(octet) = bytes.get_mut(position) {
                *octet ^= 1 << chance.random_range(0..8);
            }
        }
        6 => bytes.truncate(position),
        7 => {
            let other = seeds.choose(chance).cloned().unwrap_or_default();
            let from = self::range(&other, chance);
            drop(bytes.splice(range, other[from].iter().copied()));
        }
        8 => bytes[range].reverse(),
        9 => bytes[range].make_ascii_uppercase(),
        // A line to another place.
        10 => {
            let line = line(bytes, position);
            let moved: Vec<u8> = bytes.drain(line).collect();
            let to = self::line(bytes, chance.random_range(0..=bytes.len())).start;
            insert(bytes, to, &moved);
        }
        // A number to another one.
        _ => {
            let digits = number(bytes, position);
            let value = chance.random_range(0..70_000_u32).to_string();
            drop(bytes.splice(digits, value.into_bytes()));
        }
    }
}

fn insert(bytes: &mut Vec<u8>, position: usize, piece: &[u8]) {
    let position = position.min(bytes.len());
    drop(bytes.splice(position..position, piece.iter().copied()));
}

/// A short range, mostly.
fn range(bytes: &[u8], chance: &mut StdRng) -> Range<usize> {
    let start = chance.random_range(0..=bytes.len());
    let most = if chance.random_bool(0.8) { 12 } else { 400 };
    start..(start + chance.random_range(0..=most)).min(bytes.len())
}

/// The line around `position`, with its end.
fn line(bytes: &[u8], position: usize) -> Range<usize> {
    let is_end = |octet: &u8| *octet == b'\n';
    let start = bytes[..position].iter().rposition(is_end).map_or(0, |end| end + 1);
    start..bytes[position..].iter().position(is_end).map_or(bytes.len(), |end| position + end + 1)
}

/// The first digits from `position` on.
fn number(bytes: &[u8], position: usize) -> Range<usize> {
    let start = bytes[position..].iter().position(u8::is_ascii_digit).map_or(bytes.len(), |at| position + at);
    let length = bytes[start..].iter().position(|octet| !octet.is_ascii_digit());
    start..length.map_or(bytes.len(), |length| start + length)
}
