//! Ports that we choose before anything is started: whether one is free, and who has it.
//!
//! The answer may be wrong a moment later; binding for good is the node process's work and has errors of its own.
//! This serves defaults (the next free port) and messages that name the option to use.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::failure::Failure;

/// How many ports after the default are tried.
const TRIES: u16 = 100;

/// A port on loopback: the one asked for, which must be free, or the first free one from `default` on.
pub(crate) fn choose(asked: Option<u16>, default: u16, fix: &str) -> Result<u16, Failure> {
    if let Some(port) = asked {
        return must_be_free(loopback(port), fix).map(|()| port);
    }
    let mut ports = default..default.saturating_add(TRIES);
    ports.find(|port| is_free(loopback(*port))).ok_or_else(|| taken(loopback(default), fix))
}

/// Refuses an address where nobody could listen now.
pub(crate) fn must_be_free(address: SocketAddr, fix: &str) -> Result<(), Failure> {
    if is_free(address) { Ok(()) } else { Err(taken(address, fix)) }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

fn taken(address: SocketAddr, fix: &str) -> Failure {
    let cause = match TcpListener::bind(address) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 are for root, or for programs with CAP_NET_BIND_SERVICE".to_owned()
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address".to_owned()
        }
        _ => match evenkeel_node::port_holder(address) {
            Some(holder) => format!("{holder} listens there"),
            None => "another process listens there; `ss -ltnp` run as root names it".to_owned(),
        },
    };
    Failure::new(format!("port {} cannot be used", address.port())).at(address).because(cause).fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::Paint;

    #[test]
    fn a_taken_port_is_refused_when_asked_for_and_skipped_when_not() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let failure = choose(Some(port), 8080, "choose another with --port").unwrap_err();
        let text = failure.render(Paint::plain());
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(text.contains("--port"), "{text}");
        let missing = must_be_free("192.0.2.1:9400".parse().unwrap(), "").unwrap_err().render(Paint::plain());
        assert!(missing.contains("no such address"), "{missing}");
        if let Ok(next) = choose(None, port, "") {
            assert!(next > port, "{next}");
        }
    }
}
