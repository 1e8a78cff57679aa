//! Tokens: by what a client comes back to its instance, without being told which one that is.
//!
//! A token is the number of an instance, enciphered under a key that nobody but the edges of a state directory has. So
//! it means the same in every one of them and for every start of the instance; whoever has no key can neither make the
//! token of an instance that it knows nor tell from a token whose it is. To read one costs the same however many
//! instances there are. The cipher is a balanced Feistel network over 64 bits (Luby, Rackoff 1988: "How to construct
//! pseudorandom permutations from pseudorandom functions"), with SipHash-2-4 (Aumasson, Bernstein 2012) as its function.

use std::fmt;

/// Rounds of the network. Four make a permutation that cannot be told from a random one as long as few are seen; more
/// keep that true for more.
const ROUNDS: u32 = 6;

/// The key. It is not printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenKey(u64, u64);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

impl TokenKey {
    /// Its length in bytes.
    pub const BYTES: usize = 16;

    /// From random bytes.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        let (low, high) = bytes.split_at(8);
        let word = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("half a key is a word"));
        Self(word(low), word(high))
    }

    /// The token of the instance of this number ([`super::Candidate::key`]).
    pub fn seal(self, key: u64) -> u64 {
        let (mut left, mut right) = halves(key);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mask(round, right));
        }
        joined(left, right)
    }

    /// The number that a token was made of. Of what is no token, any number.
    pub fn open(self, token: u64) -> u64 {
        let (mut left, mut right) = halves(token);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.mask(round, left), left);
        }
        joined(left, right)
    }

    fn mask(self, round: u32, half: u32) -> u32 {
        halves(sip(self, joined(round, half))).1
    }
}

#[allow(clippy::cast_possible_truncation)] // The halves are what is wanted.
const fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn joined(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// SipHash-2-4 of a word in little-endian order.
fn sip(TokenKey(k0, k1): TokenKey, word: u64) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    // The last block has the length in its highest byte.
    for block in [word, 8 << 56] {
        v[3] ^= block;
        (0..2).for_each(|_| sip_round(&mut v));
        v[0] ^= block;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| sip_round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *c = c.wrapping_add(*d);
    *b = b.rotate_left(13) ^ *a;
    *d = d.rotate_left(16) ^ *c;
    *a = a.rotate_left(32).wrapping_add(*d);
    *c = c.wrapping_add(*b);
    *d = d.rotate_left(21) ^ *a;
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Appendix A of the paper has the key, its reference implementation the result.
    #[test]
    fn a_published_example() {
        let key = TokenKey::new(std::array::from_fn(|n| u8::try_from(n).unwrap()));
        let word = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(sip(key, word).to_le_bytes(), [0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93]);
        assert!(!format!("{key:?}").contains(|c: char| c.is_ascii_digit()));
    }

    #[test]
    fn tokens_never_change() {
        // Cookies of clients rest on this very number.
        assert_eq!(TokenKey::new([7; 16]).seal(1), 0x7573_22b1_6038_5490);
    }

    proptest! {
        #[test]
        fn every_token_opens_with_its_key_alone(bytes: [u8; 16], other: [u8; 16], number: u64) {
            let key = TokenKey::new(bytes);
            let token = key.seal(number);
            prop_assert_eq!(key.open(token), number);
            prop_assert_eq!(key.seal(key.open(number)), number);
            prop_assert!(other == bytes || TokenKey::new(other).open(token) != number);
            // One bit of the number changes about half of the token.
            let changed = (token ^ key.seal(number ^ 1)).count_ones();
            prop_assert!((8..=56).contains(&changed), "{} bits", changed);
        }
    }
}
