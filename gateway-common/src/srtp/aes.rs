//! AES with 128-bit keys (FIPS 197), as a key stream in counter mode (RFC 3711 section 4.1.1).
//!
//! By tables, as the kernel's programs have no AES instructions. Columns are words as they lie in memory of a
//! little-endian machine; [`expand`] makes round keys of the same kind. On their way through the rounds they are held in
//! 64 bits, as addresses are: an octet then becomes an offset in two instructions.

use super::{Scratch, WORDS};
use core::hint::black_box;
use core::sync::atomic::{Ordering, compiler_fence};

/// Words of all round keys.
pub const ROUND_KEYS: usize = 44;

/// What an octet does to a column, SubBytes and MixColumns in one: four words for each, those of the rows from the last to
/// the first. Interleaved, so that all are found from one address.
static TABLE: [u32; 4 * 256] = table();

/// XORs the key stream for [`Scratch::counter`] into `blocks` blocks of 16 octets from word `first` on, at most 255.
///
/// The blocks' counters differ in their last octet alone, so most of the first two rounds is the same for all of
/// them and is done once.
#[inline(always)]
pub fn counter_mode(keys: &[u32; ROUND_KEYS], scratch: &mut Scratch, first: usize, blocks: usize) {
    let key = |index: usize| u64::from(keys[index]);
    let [a, b, c, d] = scratch.counter.map(u64::from);
    let (a, b, c, d) = (a ^ key(0), b ^ key(1), c ^ key(2), d ^ key(3));
    // Round 1, without the last octet.
    let varying = row::<0>(a) ^ row::<1>(b) ^ row::<2>(c) ^ key(4);
    let f = row::<0>(b) ^ row::<1>(c) ^ row::<2>(d) ^ row::<3>(a) ^ key(5);
    let g = row::<0>(c) ^ row::<1>(d) ^ row::<2>(a) ^ row::<3>(b) ^ key(6);
    let h = row::<0>(d) ^ row::<1>(a) ^ row::<2>(b) ^ row::<3>(c) ^ key(7);
    // Round 2, without the first column.
    let base = [
        row::<1>(f) ^ row::<2>(g) ^ row::<3>(h) ^ key(8),
        row::<0>(f) ^ row::<1>(g) ^ row::<2>(h) ^ key(9),
        row::<0>(g) ^ row::<1>(h) ^ row::<3>(f) ^ key(10),
        row::<0>(h) ^ row::<2>(f) ^ row::<3>(g) ^ key(11),
    ];
    for block in 0..BLOCKS_MAX {
        if block >= blocks {
            break;
        }
        // Keys stay where they are: the compiler would keep copies on the kernel's small stack.
        compiler_fence(Ordering::SeqCst);
        // Hidden, as the verifier of Linux 6.1 loses the bounds of what XOR gives.
        let octet = black_box((d >> 24) as u8 ^ block as u8);
        let column = varying ^ u64::from(TABLE[4 * usize::from(octet)]);
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
fn rest(keys: &[u32; ROUND_KEYS], mut columns: [u64; 4]) -> [u32; 4] {
    let mut at = 12;
    while at < 40 {
        columns = round(keys, at, columns);
        at += 4;
    }
    let [a, b, c, d] = columns;
    [
        last(a, b, c, d) ^ keys[40],
        last(b, c, d, a) ^ keys[41],
        last(c, d, a, b) ^ keys[42],
        last(d, a, b, c) ^ keys[43],
    ]
}

#[inline(always)]
fn round(keys: &[u32; ROUND_KEYS], at: usize, [a, b, c, d]: [u64; 4]) -> [u64; 4] {
    [
        row::<0>(a) ^ row::<1>(b) ^ row::<2>(c) ^ row::<3>(d) ^ u64::from(keys[at]),
        row::<0>(b) ^ row::<1>(c) ^ row::<2>(d) ^ row::<3>(a) ^ u64::from(keys[at + 1]),
        row::<0>(c) ^ row::<1>(d) ^ row::<2>(a) ^ row::<3>(b) ^ u64::from(keys[at + 2]),
        row::<0>(d) ^ row::<1>(a) ^ row::<2>(b) ^ row::<3>(c) ^ u64::from(keys[at + 3]),
    ]
}

/// What the octet of row `ROW` in a column adds to the column that it is shifted to.
#[inline(always)]
fn row<const ROW: usize>(column: u64) -> u64 {
    u64::from(word::<ROW>(column, ROW))
}

/// The word of a row for the octet of row `ROW` in a column. The mask comes after the shift even where all above is 0:
/// verifiers do not know that.
#[inline(always)]
fn word<const ROW: usize>(column: u64, row: usize) -> u32 {
    let four_times = if ROW == 0 { column << 2 } else { column >> (8 * ROW - 2) };
    TABLE[(four_times & 0x3fc) as usize + 3 - row]
}

/// A column of the last round, which mixes none: each word has the substituted octet itself in two of its places.
#[inline(always)]
fn last(a: u64, b: u64, c: u64, d: u64) -> u32 {
    word::<0>(a, 2) & 0xff
        | word::<1>(b, 3) & 0xff00
        | word::<2>(c, 0) & 0xff_0000
        | word::<3>(d, 1) & 0xff00_0000
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

const fn table() -> [u32; 4 * 256] {
    let mut table = [0; 4 * 256];
    let mut octet = 0;
    while octet < 256 {
        let s = substitute(octet as u8);
        let word = u32::from_le_bytes([double(s), s, s, double(s) ^ s]);
        let mut row = 0;
        while row < 4 {
            table[4 * octet + 3 - row] = word.rotate_left(8 * row as u32);
            row += 1;
        }
        octet += 1;
    }
    table
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
