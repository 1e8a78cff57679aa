//! Hashes that mean the same everywhere: on every thread, in every edge, in every version.
//!
//! Who a client is and which instance it belongs to is told by these numbers alone, so they are written out here
//! and not taken from a library that may change them. They are no protection against somebody who looks for
//! collisions: whoever controls the key of a request chooses its instance anyway, by sending the same key again.

use std::net::IpAddr;

use super::Candidate;

/// The finaliser of `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014), a
/// bijection in which every bit depends on every other.
pub(super) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The hash of some bytes: FNV-1a of 64 bits (Fowler, Noll, Vo; RFC 9923), finished by [`mix`], since FNV alone spreads
/// short keys that end alike badly.
pub const fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    mix(hash)
}

/// The number of a client by its address. An IPv4 address written as IPv6 counts as IPv4; of an IPv6 address the network
/// counts, since privacy extensions (RFC 8981) change the rest.
pub fn client_hash(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or_default(),
    }
}

/// Highest random weight, also called rendezvous hashing (Thaler, Ravishankar 1998): the place of the open candidate with
/// the best score for this hash, `None` if none is open. When one goes, only what it had moves, evenly to the others; when
/// it comes back, only that returns. Weights count by the logarithmic method (`-weight / ln(score)`), which keeps that.
pub fn rendezvous(candidates: &[Candidate], hash: u64) -> Option<usize> {
    let open = candidates.iter().enumerate().filter(|(_, candidate)| candidate.open);
    let scored = open.map(|(at, candidate)| (at, score(hash, candidate)));
    scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
}

fn score(hash: u64, candidate: &Candidate) -> f64 {
    let mixed = mix(mix(hash) ^ candidate.key);
    // The upper 53 bits as a number strictly between 0 and 1; exact in a double.
    #[allow(clippy::cast_precision_loss)]
    let unit = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(candidate.weight.max(1)) / unit.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_never_change() {
        // Other edges rest on these very numbers.
        assert_eq!(hash_bytes(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(hash_bytes(b"a"), mix(0xaf63_dc4c_8601_ec8c));
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn names_that_end_alike_differ_in_every_part() {
        let hashes: Vec<u64> = (1..=1000).map(|n| hash_bytes(format!("shop/{n}").as_bytes())).collect();
        for shift in [0, 16, 32, 48] {
            let parts: std::collections::BTreeSet<u64> = hashes.iter().map(|hash| (hash >> shift) & 0xffff).collect();
            assert!(parts.len() > 950, "{} different parts of 1000 at bit {shift}", parts.len());
        }
    }
}
