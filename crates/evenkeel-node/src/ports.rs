//! Ports for instances: allotted on loopback, kept over restarts, never given twice.
//!
//! They are taken from a range outside the kernel's own ephemeral ports (`ip_local_port_range`, ip(7)): the edge
//! opens many connections, and one of those could otherwise sit on the port of an instance that is just being
//! started again. A port is tried by binding it, without `SO_REUSEADDR`'s leniency towards listening sockets.

use std::{
    collections::BTreeSet,
    fs,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
};

/// How many ports the range has.
const SPAN: u16 = 12_000;

/// Whether a process could listen on `port` now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port that is not in `taken`. The search starts at random, so that two stacks that start at the same
/// moment do not try the same ports. `None`: every port of the range is in use.
pub(crate) fn allot(taken: &BTreeSet<u16>) -> Option<u16> {
    let first = range_start(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default());
    let random = RandomState::new().hash_one(taken.len());
    let start = u16::try_from(random % u64::from(SPAN)).expect("a remainder is smaller than its divisor");
    (0..SPAN).map(|i| first + (start + i) % SPAN).find(|port| !taken.contains(port) && is_free(*port))
}

/// The range's first port: below the kernel's ephemeral ports where there is room, else above them.
fn range_start(ephemeral: &str) -> u16 {
    let mut bounds = ephemeral.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    let (low, high) = (bounds.next().unwrap_or(32_768), bounds.next().unwrap_or(60_999));
    match low.checked_sub(SPAN) {
        Some(start) if start >= 10_000 => start,
        _ if high <= u16::MAX - SPAN => high + 1,
        _ => 20_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_avoids_ephemeral_ports() {
        assert_eq!(range_start("32768\t60999\n"), 20_768);
        assert_eq!(range_start("1024 40000"), 40_001);
        assert_eq!(range_start("1024 65535"), 20_000);
        assert_eq!(range_start(""), 20_768);
    }

    #[test]
    fn a_port_in_use_is_not_allotted() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_free(held.local_addr().unwrap().port()));
        let first = allot(&BTreeSet::new()).unwrap();
        let second = allot(&BTreeSet::from([first])).unwrap();
        assert_ne!(first, second);
    }
}
