//! AES with 128-bit keys (FIPS 197), as a key stream in counter mode (RFC 3711 section 4.1.1).
//!
//! By tables, as the kernel's programs have no AES instructions. Columns are words as they lie in memory of a
//! little-endian machine; [`expand`] makes round keys of the same kind.

use super::{Scratch, WORDS};
use core::sync::atomic::{Ordering, compiler_fence};

/// Words of all round keys.
pub const ROUND_KEYS: usize = 44;

/// What an octet of each row does to a column: SubBytes and MixColumns in one.
static TABLES: [[u32; 256]; 4] = tables();

/// XORs the key stream for [`Scratch::counter`] into `blocks` blocks of 16 octets from word `first` on, at most 255.
///
/// The blocks' counters differ in their last octet alone, so most of the first two rounds is the same for all of
/// them and is done once.
#[inline(always)]
pub fn counter_mode(keys: &[u32; ROUND_KEYS], scratch: &mut Scratch, first: usize, blocks: usize) {
    let [a, b, c, d] = scratch.counter;
    let (a, b, c, d) = (a ^ keys[0], b ^ keys[1], c ^ keys[2], d ^ keys[3]);
    // Round 1, without the last octet.
    let varying = row::<0>(a) ^ row::<1>(b) ^ row::<2>(c) ^ keys[4];
    let f = row::<0>(b) ^ row::<1>(c) ^ row::<2>(d) ^ row::<3>(a) ^ keys[5];
    let g = row::<0>(c) ^ row::<1>(d) ^ row::<2>(a) ^ row::<3>(b) ^ keys[6];
    let h = row::<0>(d) ^ row::<1>(a) ^ row::<2>(b) ^ row::<3>(c) ^ keys[7];
    // Round 2, without the first column.
    let base = [
        row::<1>(f) ^ row::<2>(g) ^ row::<3>(h) ^ keys[8],
        row::<0>(f) ^ row::<1>(g) ^ row::<2>(h) ^ keys[9],
        row::<0>(g) ^ row::<1>(h) ^ row::<3>(f) ^ keys[10],
        row::<0>(h) ^ row::<2>(f) ^ row::<3>(g) ^ keys[11],
    ];
    for block in 0..BLOCKS_MAX {
        if block >= blocks {
            break;
        }
        // Keys stay where they are: the compiler would keep copies on the kernel's small stack.
        compiler_fence(Ordering::SeqCst);
        let column = varying ^ row::<3>(d ^ (block as u32) << 24);
        let stream = rest(
            keys,
            [
                base[0] ^ row::<0>(column),
                base[1] ^ row::<3>(column),
                base[2] ^ row::<2>(column),
                base[3] ^ row::<1>(column),
            ],
        );
        let at = (first + 4 * block) & (WORDS - 1);
        scratch.words[at] ^= stream[0];
        scratch.words[at + 1] ^= stream[1];
        scratch.words[at + 2] ^= stream[2];
        scratch.words[at + 3] ^= stream[3];
    }
}

/// The longest payload, in blocks.
const BLOCKS_MAX: usize = super::PAYLOAD_MAX / 16;

/// Rounds 3 to 10.
#[inline(always)]
fn rest(keys: &[u32; ROUND_KEYS], mut columns: [u32; 4]) -> [u32; 4] {
    columns = round::<12>(keys, columns);
    columns = round::<16>(keys, columns);
    columns = round::<20>(keys, columns);
    columns = round::<24>(keys, columns);
    columns = round::<28>(keys, columns);
    columns = round::<32>(keys, columns);
    columns = round::<36>(keys, columns);
    let [a, b, c, d] = columns;
    [
        last(a, b, c, d) ^ keys[40],
        last(b, c, d, a) ^ keys[41],
        last(c, d, a, b) ^ keys[42],
        last(d, a, b, c) ^ keys[43],
    ]
}

#[inline(always)]
fn round<const AT: usize>(keys: &[u32; ROUND_KEYS], [a, b, c, d]: [u32; 4]) -> [u32; 4] {
    [
        row::<0>(a) ^ row::<1>(b) ^ row::<2>(c) ^ row::<3>(d) ^ keys[AT],
        row::<0>(b) ^ row::<1>(c) ^ row::<2>(d) ^ row::<3>(a) ^ keys[AT + 1],
        row::<0>(c) ^ row::<1>(d) ^ row::<2>(a) ^ row::<3>(b) ^ keys[AT + 2],
        row::<0>(d) ^ row::<1>(a) ^ row::<2>(b) ^ row::<3>(c) ^ keys[AT + 3],
    ]
}

/// What the octet of row `ROW` in a column adds to the column that it is shifted to.
#[inline(always)]
fn row<const ROW: usize>(column: u32) -> u32 {
    TABLES[ROW][(column >> (8 * ROW) & 0xff) as usize]
}

/// A column of the last round, which mixes none: each table has the substituted octet itself in two of its places.
#[inline(always)]
fn last(a: u32, b: u32, c: u32, d: u32) -> u32 {
    TABLES[2][(a & 0xff) as usize] & 0xff
        | TABLES[3][(b >> 8 & 0xff) as usize] & 0xff00
        | TABLES[0][(c >> 16 & 0xff) as usize] & 0xff_0000
        | TABLES[1][(d >> 24) as usize] & 0xff00_0000
}

/// FIPS 197 section 5.2.
pub fn expand(key: &[u8; 16]) -> [u32; ROUND_KEYS] {
    let mut words = [0u32; ROUND_KEYS];
    for (word, octets) in words.iter_mut().zip(key.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*octets);
    }
    let mut constant = 1u8;
    for index in 4..ROUND_KEYS {
        let mut word = words[index - 1];
        if index % 4 == 0 {
            let [a, b, c, d] = word.rotate_right(8).to_le_bytes().map(substitute);
            word = u32::from_le_bytes([a ^ constant, b, c, d]);
            constant = double(constant);
        }
        words[index] = words[index - 4] ^ word;
    }
    words
}

const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut octet = 0;
    while octet < 256 {
        let s = substitute(octet as u8);
        let word = u32::from_le_bytes([double(s), s, s, double(s) ^ s]);
        let mut row = 0;
        while row < 4 {
            tables[row][octet] = word.rotate_left(8 * row as u32);
            row += 1;
        }
        octet += 1;
    }
    tables
}

/// FIPS 197 section 5.1.1: the inverse in GF(2^8), then the affine transformation.
const fn substitute(octet: u8) -> u8 {
    // The inverse is the 254th power: the product of the 2nd, 4th, … 128th.
    let (mut inverse, mut power, mut count) = (1, octet, 1);
    while count < 8 {
        power = multiply(power, power);
        inverse = multiply(inverse, power);
        count += 1;
    }
    let x = inverse;
    x ^ x.rotate_left(1) ^ x.rotate_left(2) ^ x.rotate_left(3) ^ x.rotate_left(4) ^ 0x63
}

const fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = double(a);
        b >>= 1;
    }
    product
}

/// FIPS 197 section 4.2.1.
const fn double(octet: u8) -> u8 {
    octet << 1 ^ if octet >> 7 == 1 { 0x1b } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stream_is_that_of_rfc_3711_appendix_b_2() {
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
        let keys = expand(&key.try_into().unwrap());
        let mut scratch = Scratch::new();
        scratch.counter = words(&hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd0000")).try_into().unwrap();
        counter_mode(&keys, &mut scratch, 3, 3);
        let expected = [
            "e03ead0935c95e80e166b16dd92b4eb4",
            "d23513162b02d0f72a43a2fe4a5f97ab",
            "41e95b3bb0a2e8dd477901e4fca894c0",
        ];
        assert_eq!(scratch.words[3..15], words(&hex(&expected.concat())));
        assert!(scratch.words[..3].iter().chain(&scratch.words[15..]).all(|word| *word == 0));
    }

    #[test]
    fn more_blocks_than_a_payload_has_stay_in_place() {
        let keys = expand(&[7; 16]);
        let (mut scratch, mut some) = (Scratch::new(), Scratch::new());
        counter_mode(&keys, &mut scratch, 0, BLOCKS_MAX);
        counter_mode(&keys, &mut some, 0, usize::MAX);
        assert_eq!(scratch.words, some.words);
    }

    fn words(octets: &[u8]) -> Vec<u32> {
        octets.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect()
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }
}
