//! Addresses as nginx writes them, as a stack file takes them.
//!
//! Names are never looked up. What a stack file could not have (Unix sockets, ranges of ports, variables) is no
//! address here, and whoever asked says so in a note.

use std::net::SocketAddr;

use super::syntax::Directive;

/// Address and weight of a group's `server`.
pub(super) fn member(server: &Directive) -> Result<(String, u32), &'static str> {
    let has = |flag: &str| server.args.iter().any(|arg| arg == flag);
    if has("down") {
        return Err("it is marked as down");
    }
    if has("backup") {
        return Err("an address that is used only without the others; see `fallback`");
    }
    let weight = server.args.iter().find_map(|arg| arg.strip_prefix("weight="));
    let weight = weight.map_or(Some(1), |weight| weight.parse().ok().filter(|weight| (1..=1000).contains(weight)));
    let address = address(server.arg()).ok_or("no address that a stack file could have")?;
    Ok((address, weight.ok_or("its weight is not from 1 to 1000")?))
}

/// `host:port`; port 80 goes without saying.
pub(super) fn address(text: &str) -> Option<String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (format!("[{host}]"), after.strip_prefix(':').unwrap_or("80"))
    } else {
        let (host, port) = text.split_once(':').unwrap_or((text, "80"));
        (is_host(host).then(|| host.to_owned())?, port)
    };
    port.parse::<u16>().ok().filter(|port| *port > 0).map(|port| format!("{host}:{port}"))
}

/// A `listen` address: a port, an address, or both; names are not looked up.
pub(super) fn bind(text: &str) -> Option<SocketAddr> {
    let text = text.strip_prefix("*:").unwrap_or(text);
    let parsed = if let Ok(port) = text.parse::<u16>() {
        Some(SocketAddr::from(([0, 0, 0, 0], port)))
    } else if let Ok(address) = text.parse::<SocketAddr>() {
        Some(address)
    } else if let Some(port) = text.strip_prefix("localhost:") {
        port.parse().ok().map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)))
    } else {
        let ip = if text == "*" { "0.0.0.0" } else { text.trim_matches(['[', ']']) };
        ip.parse::<std::net::IpAddr>().ok().map(|ip| SocketAddr::new(ip, 80))
    };
    parsed.filter(|address| address.port() > 0)
}

/// What a stack file takes as a host.
pub(in crate::init) fn is_host(text: &str) -> bool {
    let fits = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.len() <= 253 && text.split('.').all(fits)
}
