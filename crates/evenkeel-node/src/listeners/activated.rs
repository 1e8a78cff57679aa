//! Listening sockets that somebody handed to `keel` at its start, as systemd does for a socket unit.
//!
//! They are matched to listeners by address alone: their names belong to whoever made them. Such a socket stays open
//! with its owner while `keel` is not there, so that connections queue. All edge threads accept from it; where there
//! are several for one address (`SO_REUSEPORT`), each thread gets the next one. Nothing is bound or closed here.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::sockopt::socket_acceptconn;

use super::address_of;

/// The guard's names of such sockets begin so; what follows is nobody's concern.
const PREFIX: &str = "activated/";

/// All that were handed over and listen.
#[derive(Debug, Default)]
pub(crate) struct Activated {
    sockets: Vec<(SocketAddr, OwnedFd)>,
}

impl Activated {
    /// Takes those that there are out of what the guard holds.
    pub(crate) fn take(held: &mut std::collections::BTreeMap<String, OwnedFd>) -> Self {
        let ours = held.extract_if(.., |key, _| key.starts_with(PREFIX));
        let listening = ours.filter_map(|(_, socket)| Some((listening_at(&socket)?, socket)));
        Self { sockets: listening.collect() }
    }

    /// A socket for each thread at this address; `None` where nobody handed one over.
    pub(crate) fn at(&self, wanted: SocketAddr, threads: u16) -> Option<io::Result<Vec<OwnedFd>>> {
        let here: Vec<&OwnedFd> =
            self.sockets.iter().filter(|(bound, _)| *bound == wanted).map(|(_, socket)| socket).collect();
        if here.is_empty() {
            return None;
        }
        Some(here.iter().cycle().take(usize::from(threads).max(here.len())).map(|socket| socket.try_clone()).collect())
    }

    /// Addresses that none of these is bound to.
    pub(crate) fn unwanted(&self, wanted: impl Fn(SocketAddr) -> bool) -> Vec<SocketAddr> {
        let mut unwanted: Vec<_> =
            self.sockets.iter().map(|(bound, _)| *bound).filter(|bound| !wanted(*bound)).collect();
        unwanted.dedup();
        unwanted
    }
}

/// Where a socket listens; `None` where it does not, as one that was shut down.
pub(crate) fn listening_at(socket: impl AsFd) -> Option<SocketAddr> {
    let socket = socket.as_fd();
    socket_acceptconn(socket).ok().filter(|listens| *listens)?;
    address_of(socket).ok()
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
        let sockets = activated.at(at, 3).unwrap().unwrap();
        assert_eq!(sockets.len(), 3);
        assert!(sockets.iter().all(|socket| address_of(socket).unwrap() == at));
        assert!(activated.at("127.0.0.1:1".parse().unwrap(), 1).is_none());
        assert_eq!(activated.unwanted(|address| address == at), [elsewhere]);
    }

    fn bound() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }
}
