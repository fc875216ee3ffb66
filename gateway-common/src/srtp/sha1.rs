//! SHA-1 (FIPS 180-4) of whole blocks, for HMAC (RFC 2104) with states that are computed beforehand.

use core::sync::atomic::{Ordering, compiler_fence};

/// State that every message begins with.
pub const INITIAL: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// Words of a block.
pub const BLOCK: usize = 16;

/// A word times this is the word twice over: shifted right it is the word rotated, with something above it that no
/// 32-bit sum sees. The kernel's instruction set knows no rotation, which takes four instructions without this.
const TWICE: u64 = 0x1_0000_0001;

const K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

/// One round: `$e` becomes what the next round calls a. `$a` and `$b` are words twice over; of the others the lower
/// half counts.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident, $mixed:expr, $w:ident, $word:expr) => {
        let sum = ($e as u32).wrapping_add($w[BLOCK]).wrapping_add($word).wrapping_add($mixed as u32);
        $e = u64::from(sum.wrapping_add(($a >> 27) as u32)).wrapping_mul(TWICE);
        $b >>= 2;
        compiler_fence(Ordering::SeqCst);
    };
}

/// Five rounds, after which each name stands for itself again.
macro_rules! five_rounds {
    ($mix:ident $word:ident $t:literal; $a:ident $b:ident $c:ident $d:ident $e:ident $w:ident $block:ident) => {
        round!($a $b $c $d $e, $mix($b, $c, $d), $w, $word($w, $block, $t));
        round!($e $a $b $c $d, $mix($a, $b, $c), $w, $word($w, $block, $t + 1));
        round!($d $e $a $b $c, $mix($e, $a, $b), $w, $word($w, $block, $t + 2));
        round!($c $d $e $a $b, $mix($d, $e, $a), $w, $word($w, $block, $t + 3));
        round!($b $c $d $e $a, $mix($c, $d, $e), $w, $word($w, $block, $t + 4));
    };
}

/// What [`compress`] works in: the message schedule, and the constant of the rounds. That is here because the compiler
/// adds what it knows last, behind the rotation that the next round waits for.
pub type Room = [u32; BLOCK + 1];

/// Takes one block, as it lies in memory, into the state. `w` is used whatever is in it: in memory, and round by round,
/// for the compiler would rather compute all eighty words first than keep sixteen, for which the kernel's stack has no
/// room.
#[inline(always)]
pub fn compress(state: &mut [u32; 5], block: &[u32; BLOCK], w: &mut Room) {
    let [mut a, mut b] = [state[0], state[1]].map(|word| u64::from(word).wrapping_mul(TWICE));
    let [mut c, mut d, mut e] = [state[2], state[3], state[4]].map(u64::from);
    w[BLOCK] = K[0];
    five_rounds!(choose given 0; a b c d e w block);
    five_rounds!(choose given 5; a b c d e w block);
    five_rounds!(choose given 10; a b c d e w block);
    round!(a b c d e, choose(b, c, d), w, given(w, block, 15));
    round!(e a b c d, choose(a, b, c), w, scheduled(w, block, 16));
    round!(d e a b c, choose(e, a, b), w, scheduled(w, block, 17));
    round!(c d e a b, choose(d, e, a), w, scheduled(w, block, 18));
    round!(b c d e a, choose(c, d, e), w, scheduled(w, block, 19));
    w[BLOCK] = K[1];
    five_rounds!(parity scheduled 20; a b c d e w block);
    five_rounds!(parity scheduled 25; a b c d e w block);
    five_rounds!(parity scheduled 30; a b c d e w block);
    five_rounds!(parity scheduled 35; a b c d e w block);
    w[BLOCK] = K[2];
    five_rounds!(majority scheduled 40; a b c d e w block);
    five_rounds!(majority scheduled 45; a b c d e w block);
    five_rounds!(majority scheduled 50; a b c d e w block);
    five_rounds!(majority scheduled 55; a b c d e w block);
    w[BLOCK] = K[3];
    five_rounds!(parity scheduled 60; a b c d e w block);
    five_rounds!(parity scheduled 65; a b c d e w block);
    five_rounds!(parity scheduled 70; a b c d e w block);
    five_rounds!(parity scheduled 75; a b c d e w block);
    state[0] = state[0].wrapping_add(a as u32);
    state[1] = state[1].wrapping_add(b as u32);
    state[2] = state[2].wrapping_add(c as u32);
    state[3] = state[3].wrapping_add(d as u32);
    state[4] = state[4].wrapping_add(e as u32);
}

#[inline(always)]
fn given(w: &mut Room, block: &[u32; BLOCK], t: usize) -> u32 {
    let word = u32::from_be(block[t % BLOCK]);
    w[t % BLOCK] = word;
    word
}

/// FIPS 180-4 section 6.1.2, step 1, in sixteen words that roll.
#[inline(always)]
fn scheduled(w: &mut Room, _block: &[u32; BLOCK], t: usize) -> u32 {
    let mixed = w[(t + 13) % BLOCK] ^ w[(t + 8) % BLOCK] ^ w[(t + 2) % BLOCK] ^ w[t % BLOCK];
    let word = (u64::from(mixed).wrapping_mul(TWICE) >> 31) as u32;
    w[t % BLOCK] = word;
    word
}

#[inline(always)]
fn choose(b: u64, c: u64, d: u64) -> u64 {
    d ^ (b & (c ^ d))
}

#[inline(always)]
fn parity(b: u64, c: u64, d: u64) -> u64 {
    b ^ c ^ d
}

#[inline(always)]
fn majority(b: u64, c: u64, d: u64) -> u64 {
    (b & c) | (d & (b | c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_fips_180_has_its_digest() {
        let mut block = [0; BLOCK];
        block[0] = u32::from_ne_bytes(*b"abc\x80");
        block[15] = 24u32.to_be();
        let mut state = INITIAL;
        compress(&mut state, &block, &mut [0; BLOCK + 1]);
        assert_eq!(state, [0xa999_3e36, 0x4706_816a, 0xba3e_2571, 0x7850_c26c, 0x9cd0_d89d]);
    }
}
