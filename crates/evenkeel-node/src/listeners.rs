//! Listening sockets: bound here, held by the guard, used by the edge.
//!
//! Each edge thread has a socket of its own on every listener's address (`SO_REUSEPORT`, socket(7)), so that the
//! kernel spreads connections and threads share nothing. Since that option lets any process of the same user bind
//! the same address as well, an address is first tried without it: a port that somebody listens on is an error
//! that names who does, not a silent division of the traffic. Where somebody handed over a socket of that address, as
//! systemd does, it is used instead (see `activated`). Sockets of datagrams are held in the same way; their addresses
//! are others than those of connections.

mod activated;
mod holder;

pub(crate) use activated::{Activated, bound_at};

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use evenkeel_core::{snapshot::Protocol, stack::Listener};

use crate::error::NodeError;

/// Connections that the kernel keeps for us while all threads are busy or an edge is being replaced.
const BACKLOG: i32 = 4096;

/// What comes to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Connections.
    Stream,
    /// Datagrams.
    Datagram,
}

impl Kind {
    /// What comes to the sockets of a listener.
    pub(crate) fn of(listener: &Listener) -> Self {
        match listener.protocol {
            Protocol::Http | Protocol::Tcp => Self::Stream,
            Protocol::Udp => Self::Datagram,
        }
    }
}

/// The guard's name for one thread's socket.
pub(crate) fn key(name: &str, thread: u16) -> String {
    format!("listener/{name}/{thread}")
}

/// Name and thread of a held socket's key.
pub(crate) fn parse_key(key: &str) -> Option<(&str, u16)> {
    let (name, thread) = key.strip_prefix("listener/")?.rsplit_once('/')?;
    Some((name, thread.parse().ok()?))
}

/// Where a socket is bound.
pub(crate) fn address_of(socket: impl AsFd) -> io::Result<SocketAddr> {
    SocketAddr::try_from(getsockname(socket)?).map_err(io::Error::from)
}

/// A socket for each thread: what was handed over for this address, or else newly bound.
pub(crate) fn open_all(
    name: &str,
    (wanted, kind): (SocketAddr, Kind),
    threads: u16,
    ours: &BTreeMap<String, SocketAddr>,
    activated: &Activated,
) -> Result<(SocketAddr, Vec<OwnedFd>), NodeError> {
    match activated.at((wanted, kind), threads) {
        Some(sockets) => Ok((wanted, sockets.map_err(|error| explain(name, (wanted, kind), &error))?)),
        None => bind_all(name, (wanted, kind), threads, ours),
    }
}

/// Binds those that are missing beside sockets that are held already, all at one address.
pub(crate) fn bind_more(
    name: &str,
    (bound, kind): (SocketAddr, Kind),
    count: usize,
) -> Result<Vec<OwnedFd>, NodeError> {
    (0..count).map(|_| open(bound, kind, true).map_err(|error| explain(name, (bound, kind), &error))).collect()
}

/// Binds one socket for each thread. `ours` are the addresses of this kind that are bound already, which are no obstacle.
pub(crate) fn bind_all(
    name: &str,
    (wanted, kind): (SocketAddr, Kind),
    threads: u16,
    ours: &BTreeMap<String, SocketAddr>,
) -> Result<(SocketAddr, Vec<OwnedFd>), NodeError> {
    let fail = |error: io::Error| explain(name, (wanted, kind), &error);
    if !ours.values().any(|bound| bound.port() == wanted.port()) {
        drop(open(wanted, kind, false).map_err(fail)?);
    }
    let mut sockets = vec![open(wanted, kind, true).map_err(fail)?];
    // Port 0 lets the kernel choose; all threads share what it chose for the first.
    let bound = address_of(&sockets[0]).map_err(fail)?;
    for _ in 1..threads {
        sockets.push(open(bound, kind, true).map_err(fail)?);
    }
    Ok((bound, sockets))
}

/// Who listens on the port of `address`, as "`nginx` (process 4711)"; `None` where that cannot be seen.
pub fn port_holder(address: SocketAddr) -> Option<String> {
    holder::of(address, Kind::Stream).map(|holder| holder.to_string())
}

/// The ports on which a process or its descendants listen, as far as they can be looked into.
pub(crate) fn ports_of(pid: u32) -> std::collections::BTreeSet<u16> {
    holder::ports_of(pid)
}

fn open(address: SocketAddr, kind: Kind, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match kind {
        Kind::Stream => socket_with(family, SocketType::STREAM, flags, None)?,
        Kind::Datagram => socket_with(family, SocketType::DGRAM, flags, None)?,
    };
    if kind == Kind::Stream {
        // Of datagrams it would let in whoever else asks for it too.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    if kind == Kind::Stream {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn explain(name: &str, (address, kind): (SocketAddr, Kind), error: &io::Error) -> NodeError {
    let (why, fix) = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let who = holder::of(address, kind).map_or_else(|| "another process".to_owned(), |who| who.to_string());
            let fix = format!("Stop it, or give `listeners.{name}.bind` another port.");
            (format!("{who} listens there already"), fix)
        }
        io::ErrorKind::PermissionDenied => (
            "ports below 1024 need a privilege".to_owned(),
            "Run as root, grant CAP_NET_BIND_SERVICE (setcap cap_net_bind_service=+ep keel), or take a port from 1024 on."
                .to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            "this machine does not have that address".to_owned(),
            "Use one of its own addresses (ip address), or 0.0.0.0 for all of them.".to_owned(),
        ),
        _ => (error.to_string(), format!("Correct `listeners.{name}.bind` in the stack file.")),
    };
    NodeError::Listener { name: name.to_owned(), address, why, fix }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn threads_share_an_address_that_the_kernel_chose() {
        let (bound, sockets) =
            bind_all("web", ("127.0.0.1:0".parse().unwrap(), Kind::Stream), 3, &BTreeMap::new()).unwrap();
        assert_ne!(bound.port(), 0);
        for socket in &sockets {
            assert_eq!(address_of(socket).unwrap(), bound);
        }
        // A second stack is refused although SO_REUSEPORT would let it in; ourselves we do not refuse.
        assert!(bind_all("web", (bound, Kind::Stream), 1, &BTreeMap::new()).is_err());
        assert!(bind_all("web", (bound, Kind::Stream), 1, &BTreeMap::from([("web".to_owned(), bound)])).is_ok());
    }

    #[test]
    fn datagrams_have_ports_of_their_own() {
        let connections = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = (connections.local_addr().unwrap(), Kind::Datagram);
        let (bound, sockets) = bind_all("dns", wanted, 2, &BTreeMap::new()).unwrap();
        assert_eq!(bound, wanted.0);
        assert!(sockets.iter().all(|socket| bound_at(socket) == Some((bound, Kind::Datagram))));
        let error = bind_all("dns", wanted, 1, &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        // As the guard does at its end: who is shut down receives nothing ever again.
        let _ = rustix::net::shutdown(&sockets[0], rustix::net::Shutdown::Both);
        assert_eq!(bound_at(&sockets[0]), None);
        assert!(bound_at(&sockets[1]).is_some());
    }

    #[test]
    fn the_ports_of_a_process_are_found() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let mut idle = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(ports_of(std::process::id()).contains(&port));
        assert!(ports_of(idle.id()).is_empty(), "a child does not listen");
        idle.kill().unwrap();
        idle.wait().unwrap();
    }

    #[test]
    fn a_taken_port_names_its_holder() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let error = bind_all("web", (address, Kind::Stream), 2, &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains("listeners.web.bind"), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_explained() {
        let error = bind_all("web", ("192.0.2.1:0".parse().unwrap(), Kind::Stream), 1, &BTreeMap::new());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("does not have that address"), "{error}");
    }

    #[test]
    fn keys_read_back() {
        assert_eq!(parse_key(&key("web", 11)), Some(("web", 11)));
        assert_eq!(parse_key("snapshot"), None);
        assert_eq!(parse_key("listener/web"), None);
    }
}
