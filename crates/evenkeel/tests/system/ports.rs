//! Ports of a test's own.
//!
//! One that was merely free a moment ago may be somebody else's by the time it is bound: another test's, or that of a
//! client to which the kernel gave it. So ports are taken from where the kernel gives none, below the range that `keel`
//! takes those of its instances from, and each is marked on this machine for as long as this process lives.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::{linux::net::SocketAddrExt, unix::net},
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// The first port, and how many there are.
const PORTS: (u16, u16) = (10_000, 10_000);

/// A port that nobody uses and no other test gets.
pub(crate) fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Processes that run at the same time begin far from each other.
    let first = process::id().wrapping_mul(7_919);
    for _ in 0..PORTS.1 {
        let place = first.wrapping_add(TRIED.fetch_add(1, Relaxed)) % u32::from(PORTS.1);
        let port = PORTS.0 + u16::try_from(place).unwrap();
        let mark = net::SocketAddr::from_abstract_name(format!("keel-test-port-{port}")).unwrap();
        let Ok(mark) = net::UnixListener::bind_addr(&mark) else { continue };
        let at = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            std::mem::forget(mark);
            return port;
        }
    }
    panic!("every port is in use");
}
