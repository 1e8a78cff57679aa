//! IP hash: by the client's address.
//!
//! Every candidate gets a score from the client's and its own key, and the best open one is taken: see
//! [`rendezvous`]. When an instance goes, only its own clients move; when it comes back, only they return.

use std::net::IpAddr;

use super::{
    Candidate,
    hash::{client_hash, rendezvous},
};

/// The place of this client's candidate, `None` if none is open. An IPv4 address written as IPv6 counts as IPv4.
pub fn ip_hash(candidates: &[Candidate], client: IpAddr) -> Option<usize> {
    rendezvous(candidates, client_hash(client))
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
