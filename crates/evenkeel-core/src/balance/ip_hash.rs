//! IP hash: by the client's address.
//!
//! Highest random weight: every candidate gets a score from the client's and its own key, and the best open one
//! is taken. When an instance goes, only its own clients move; when it comes back, only they return. Weights
//! count by the logarithmic method (`-weight / ln(score)`), which keeps that property.

use std::net::IpAddr;

use super::Candidate;

/// The place of this client's candidate, `None` if none is open. An IPv4 address written as IPv6 counts as IPv4.
pub fn ip_hash(candidates: &[Candidate], client: IpAddr) -> Option<usize> {
    let client = match client.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        // Clients of one IPv6 network share it with their other addresses: privacy extensions change the rest.
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or_default(),
    };
    let open = candidates.iter().enumerate().filter(|(_, candidate)| candidate.open);
    let scored = open.map(|(at, candidate)| (at, score(client, candidate)));
    scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
}

fn score(client: u64, candidate: &Candidate) -> f64 {
    let mixed = mix(mix(client) ^ candidate.key);
    // The upper 53 bits as a number strictly between 0 and 1; exact in a double.
    #[allow(clippy::cast_precision_loss)]
    let unit = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(candidate.weight.max(1)) / unit.ln()
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::balance::candidates;

    fn client(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    #[test]
    fn only_the_clients_of_a_lost_instance_move() {
        let all = candidates(&[1, 1, 1, 1]);
        let mut less = all.clone();
        less[2].open = false;
        for n in 0..2000 {
            let before = ip_hash(&all, client(n)).unwrap();
            let after = ip_hash(&less, client(n)).unwrap();
            assert!(before == after || before == 2);
            assert_ne!(after, 2);
        }
    }

    #[test]
    fn shares_follow_weights() {
        let all = candidates(&[1, 3]);
        let second = (0..8000).filter(|&n| ip_hash(&all, client(n)) == Some(1)).count();
        assert!((5700..6300).contains(&second), "{second} of 8000 with weight 3 of 4");
    }

    #[test]
    fn both_spellings_of_an_address_are_one_client() {
        let all = candidates(&[1, 1, 1]);
        for n in 0..50u32 {
            let v4 = Ipv4Addr::from_bits(n * 77);
            assert_eq!(ip_hash(&all, IpAddr::V4(v4)), ip_hash(&all, IpAddr::V6(v4.to_ipv6_mapped())));
        }
        assert_eq!(ip_hash(&[], client(1)), None);
    }
}
