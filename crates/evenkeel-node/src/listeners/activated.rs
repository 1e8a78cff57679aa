//! Listening sockets that somebody handed to `keel` at its start, as systemd does for a socket unit.
//!
//! They are matched to listeners by address alone: their names belong to whoever made them. Such a socket stays open
//! with its owner while `keel` is not there, so that connections queue. All edge threads accept from it; where there
//! are several for one address (`SO_REUSEPORT`), each thread gets the next one. Nothing is bound or closed here.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        SocketType,
        sockopt::{socket_acceptconn, socket_type},
    },
};

use super::{Kind, address_of};

/// The guard's names of such sockets begin so; what follows is nobody's concern.
const PREFIX: &str = "activated/";

/// All that were handed over and work.
#[derive(Debug, Default)]
pub(crate) struct Activated {
    sockets: Vec<((SocketAddr, Kind), OwnedFd)>,
}

impl Activated {
    /// Takes those that there are out of what the guard holds.
    pub(crate) fn take(held: &mut std::collections::BTreeMap<String, OwnedFd>) -> Self {
        let ours = held.extract_if(.., |key, _| key.starts_with(PREFIX));
        let listening = ours.filter_map(|(_, socket)| Some((bound_at(&socket)?, socket)));
        Self { sockets: listening.collect() }
    }

    /// A socket for each thread at this address; `None` where nobody handed one over.
    pub(crate) fn at(&self, wanted: (SocketAddr, Kind), threads: u16) -> Option<io::Result<Vec<OwnedFd>>> {
        let here: Vec<&OwnedFd> =
            self.sockets.iter().filter(|(bound, _)| *bound == wanted).map(|(_, socket)| socket).collect();
        if here.is_empty() {
            return None;
        }
        Some(here.iter().cycle().take(usize::from(threads).max(here.len())).map(|socket| socket.try_clone()).collect())
    }

    /// Addresses that none of these is bound to.
    pub(crate) fn unwanted(&self, wanted: impl Fn(SocketAddr, Kind) -> bool) -> Vec<SocketAddr> {
        let unwanted = self.sockets.iter().map(|(bound, _)| *bound).filter(|(bound, kind)| !wanted(*bound, *kind));
        let mut unwanted: Vec<_> = unwanted.map(|(bound, _)| bound).collect();
        unwanted.dedup();
        unwanted
    }
}

/// Where a socket is bound and what comes to it; `None` where nothing does, as one that was shut down.
pub(crate) fn bound_at(socket: impl AsFd) -> Option<(SocketAddr, Kind)> {
    let socket = socket.as_fd();
    let kind = match socket_type(socket).ok()? {
        SocketType::STREAM if socket_acceptconn(socket).ok()? => Kind::Stream,
        SocketType::DGRAM if !is_shut(socket) => Kind::Datagram,
        _ => return None,
    };
    Some((address_of(socket).ok()?, kind))
}

/// Whether a socket of datagrams was shut down, which its address does not show (poll(2): both directions are).
fn is_shut(socket: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    let answered = poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    answered.is_ok() && asked[0].revents().contains(PollFlags::HUP)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::TcpListener};

    use rustix::net::{Shutdown, shutdown};

    use super::*;

    #[test]
    fn sockets_are_matched_by_address_and_shared_by_threads() {
        let (one, other, dead) = (bound(), bound(), bound());
        let (at, elsewhere) = (one.local_addr().unwrap(), other.local_addr().unwrap());
        shutdown(&dead, Shutdown::Both).unwrap();
        let mut held = BTreeMap::from([
            ("activated/web/0".to_owned(), OwnedFd::from(one)),
            ("activated/web/1".to_owned(), OwnedFd::from(other)),
            ("activated/web/2".to_owned(), OwnedFd::from(dead)),
            ("listener/web/0".to_owned(), OwnedFd::from(bound())),
        ]);
        let activated = Activated::take(&mut held);
        assert_eq!(held.keys().collect::<Vec<_>>(), ["listener/web/0"]);
        let sockets = activated.at((at, Kind::Stream), 3).unwrap().unwrap();
        assert_eq!(sockets.len(), 3);
        assert!(sockets.iter().all(|socket| address_of(socket).unwrap() == at));
        assert!(activated.at(("127.0.0.1:1".parse().unwrap(), Kind::Stream), 1).is_none());
        assert!(activated.at((at, Kind::Datagram), 1).is_none());
        assert_eq!(activated.unwanted(|address, _| address == at), [elsewhere]);
    }

    fn bound() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }
}
