//! Tokens that a peer must not guess or meet twice: branches, tags, Call-IDs.
//!
//! This is the seam of randomness: production seeds it once per core from the operating system, tests from a
//! number, and no room above reads randomness elsewhere.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// RFC 4648 base32, lower case: tokens survive peers that fold case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A mint of tokens. Each carries 80 bits of randomness from ChaCha (RFC 3261 section 19.3 asks for 32).
#[derive(Debug)]
pub struct Tokens {
    random: StdRng,
}

impl Tokens {
    /// Tokens that repeat run by run, for tests and simulations.
    pub fn seeded(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed) }
    }

    /// Tokens from a seed that the rim took from the operating system.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { random: StdRng::from_seed(seed) }
    }

    /// Another mint with as much randomness, for a room that keeps its own.
    pub fn split(&mut self) -> Self {
        Self { random: StdRng::from_rng(&mut self.random) }
    }

    /// Sixteen characters of `a-z2-7`: a tag, a Call-ID, what follows the cookie of a branch.
    pub fn token(&mut self) -> String {
        let mut text = String::with_capacity(16);
        for mut bits in [self.random.next_u64(), self.random.next_u64()] {
            for _ in 0..8 {
                text.push(char::from(ALPHABET[(bits % 32) as usize]));
                bits /= 32;
            }
        }
        text
    }

    /// Random octets, for keys.
    pub fn fill(&mut self, octets: &mut [u8]) {
        self.random.fill_bytes(octets);
    }

    /// A bare random number, for offsets and for keys of hashes.
    pub fn number(&mut self) -> u64 {
        self.random.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_one_mint_differ_and_two_mints_of_one_seed_agree() {
        let mut tokens = Tokens::seeded(1);
        let mut twin = Tokens::seeded(1);
        let mut seen: Vec<_> = (0..10_000).map(|_| tokens.token()).collect();
        assert!(seen.iter().all(|token| *token == twin.token()));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10_000);
    }

    #[test]
    fn a_mint_split_off_makes_other_tokens_than_the_one_it_came_from() {
        let mut tokens = Tokens::seeded(1);
        let mut other = tokens.split();
        assert_ne!(tokens.token(), other.token());
    }

    #[test]
    fn a_token_is_one_of_the_grammar_and_survives_folding_of_case() {
        let token = Tokens::from_seed([7; 32]).token();
        assert_eq!(token.len(), 16);
        assert!(token.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()));
    }
}
