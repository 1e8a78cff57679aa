//! What this machine or process has run out of, when it cannot open one more socket: that speaks against no instance.
//!
//! It is said once until it has been over for a minute, however many connections meet it. What a thread does about it
//! is to close half of its idle connections; those who need one wait a little and try again. Owned by all data threads
//! together.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use evenkeel_core::scarcity::Scarcity;
use rustix::io::Errno;

use crate::{clock, messages::Notice, thread::Thread};

/// It has begun anew when it has not been met for so long, in milliseconds.
const OVER_MS: u64 = 60_000;

/// Shortest time between two rounds of closing idle connections, in milliseconds.
const ROUND_MS: u64 = 100;

/// When each was last met, in milliseconds of [`crate::clock`]; 0: never.
#[derive(Debug, Default)]
pub(crate) struct Met([AtomicU64; Scarcity::ALL.len()]);

impl Met {
    /// It is met now. Whether that is news.
    fn is_news(&self, what: Scarcity, now_ms: u64) -> bool {
        let last_ms = self.0[what as usize].swap(now_ms.max(1), Relaxed);
        last_ms == 0 || now_ms.saturating_sub(last_ms) >= OVER_MS
    }
}

/// What was missing, if that is why a socket could not be opened, accepted or connected `to` this address.
pub(crate) fn scarcity(error: &io::Error, to: Option<SocketAddr>) -> Option<Scarcity> {
    Some(match Errno::from_io_error(error)? {
        Errno::MFILE => Scarcity::Descriptors,
        Errno::NFILE => Scarcity::MachineDescriptors,
        Errno::ADDRNOTAVAIL if to.is_some_and(is_out_of_reach) => return None,
        Errno::ADDRINUSE | Errno::ADDRNOTAVAIL => Scarcity::Ports,
        // The last two are of epoll_ctl(2) and, over TCP, of connect(2).
        Errno::NOMEM | Errno::NOBUFS | Errno::NOSPC | Errno::AGAIN => Scarcity::Memory,
        _ => return None,
    })
}

/// Whether this machine has no descriptor, no memory or no port left for one more socket.
pub(crate) fn is_exhausted(error: &io::Error, to: Option<SocketAddr>) -> bool {
    scarcity(error, to).is_some()
}

/// Whether this machine has no address of its own to speak from with that one, as with `::1` where IPv6 is switched off:
/// connect(2) says the same of that as of ports. To connect a socket for datagrams sends nothing, and it has its port by
/// then.
fn is_out_of_reach(to: SocketAddr) -> bool {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let connected = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(to));
    connected.is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::ADDRNOTAVAIL))
}

/// Whether this error, of a connection `to` this address if it was one, says so. If it does, that is said, and some room
/// is made.
pub(crate) fn is_met(thread: &Thread, error: &io::Error, to: Option<SocketAddr>) -> bool {
    let Some(what) = scarcity(error, to) else { return false };
    let now_ms = clock::millis(thread.read_clock());
    if thread.shared.scarce.is_news(what, now_ms) {
        tracing::error!(%error, fix = what.fix(), "{}", what.as_str());
        thread.notify(Notice::Scarce { what, reason: error.to_string() });
    }
    if now_ms >= thread.room_made_ms.get() + ROUND_MS {
        thread.room_made_ms.set(now_ms);
        if let Some(view) = thread.view() {
            view.services.used().for_each(|service| service.instances.iter().for_each(|one| one.pool.halve()));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustix::thread::{UnshareFlags, unshare_unsafe};

    use super::*;

    #[test]
    fn said_once_until_it_has_been_over_for_a_while() {
        let met = Met::default();
        assert!(met.is_news(Scarcity::Ports, 0));
        assert!((1..200).all(|second| !met.is_news(Scarcity::Ports, second * 1000)));
        assert!(met.is_news(Scarcity::Memory, 5), "another one");
        assert!(met.is_news(Scarcity::Ports, 199_000 + OVER_MS));
    }

    #[test]
    fn an_address_that_nobody_here_can_speak_with_is_no_want_of_ports() {
        // In a network of this thread's own nothing is up, so that nobody has `::1`.
        let alone = std::thread::spawn(|| {
            // SAFETY: no table of descriptors is left, and this thread ends with the closure.
            let left = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
            left.expect("this test needs root (CAP_SYS_ADMIN) for a network of its own");
            let to = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
            let error = TcpStream::connect(to).expect_err("nobody has it");
            assert_eq!(scarcity(&error, None), Some(Scarcity::Ports), "the kernel says of both the same");
            assert_eq!(scarcity(&error, Some(to)), None);
        });
        alone.join().expect("it holds");
    }

    #[test]
    fn what_is_missing_here_is_told_from_what_an_instance_does() {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let of = |errno: Errno| scarcity(&io::Error::from_raw_os_error(errno.raw_os_error()), Some(here));
        assert_eq!(of(Errno::MFILE), Some(Scarcity::Descriptors));
        assert_eq!(of(Errno::ADDRNOTAVAIL), Some(Scarcity::Ports));
        assert_eq!((of(Errno::CONNREFUSED), of(Errno::TIMEDOUT), of(Errno::HOSTUNREACH)), (None, None, None));
        assert_eq!(scarcity(&io::ErrorKind::NotFound.into(), None), None, "not everything comes from the kernel");
    }
}
