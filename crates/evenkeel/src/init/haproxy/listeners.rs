//! `bind` lines and what else a section says of its clients, as listeners.
//!
//! A section whose addresses all have TLS is reached from this machine only, at an address of its own, since its clients
//! were promised TLS; so is one that did nothing on its plain addresses but send clients to TLS. It reads no more than
//! the lines of a section.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{
    super::{
        answers::free,
        found::{self, Listener},
    },
    syntax::{Line, Section},
};

/// Where the addresses begin at which sections with TLS alone are reached.
const WITHOUT_TLS: u16 = 8080;

/// The listeners of all sections.
#[derive(Debug, Default)]
pub(super) struct Listeners(pub(super) BTreeMap<String, Listener>);

/// Lines that have no counterpart, each with what to look at.
pub(super) type Notes = Vec<(usize, String)>;

impl Listeners {
    /// Names of the listeners of a section, with these keys beside the address.
    pub(super) fn of(&mut self, section: &Section, more: &[(&'static str, String)], notes: &mut Notes) -> Vec<String> {
        let mut names = Vec::new();
        let moved = has_tls(section) && only_moves(section);
        let mut inside = false;
        for line in section.lines.iter().filter(|line| line.word(0) == "bind") {
            let has = |flag: &str| line.words.iter().skip(2).any(|word| word == flag);
            if has("ssl") || moved {
                let why = if moved && !has("ssl") {
                    "it only sends clients to TLS"
                } else {
                    "TLS is described but not built into this version"
                };
                notes.push((line.number, format!("{} ({why})", line.text())));
                inside = true;
                continue;
            }
            if has("accept-proxy") {
                let why =
                    "see `proxy_protocol` and `trusted` of a listener: the latter has to say where the proxies are";
                notes.push((line.number, format!("{} ({why})", line.text())));
            }
            for address in line.word(1).split(',') {
                match bind(address) {
                    Some(bind) => names.extend(self.add(section, bind, more, notes, line)),
                    None => notes.push((line.number, format!("{} (no address with a port)", line.text()))),
                }
            }
        }
        if names.is_empty() && inside {
            let udp_or_tcp = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let is_free = |bind: SocketAddr| self.0.values().all(|one| one.bind != bind.to_string());
            let bind = (WITHOUT_TLS..WITHOUT_TLS + 1000).map(udp_or_tcp).find(|bind| is_free(*bind));
            let what = format!("{} {}", section.kind, section.name);
            if let Some(bind) = bind {
                notes.push((
                    section.line,
                    format!("{what} (clients reach it at {bind} for now, since its addresses have TLS)"),
                ));
                names.push(self.insert(section, bind, more));
            }
        }
        names
    }

    fn add(
        &mut self,
        section: &Section,
        bind: SocketAddr,
        more: &[(&'static str, String)],
        notes: &mut Notes,
        line: &Line,
    ) -> Option<String> {
        let same = |one: &Listener| one.bind == bind.to_string();
        if bind.port() == 9400 || self.0.values().any(same) {
            notes.push((line.number, format!("{} (this address is taken already)", line.text())));
            return None;
        }
        Some(self.insert(section, bind, more))
    }

    fn insert(&mut self, section: &Section, bind: SocketAddr, more: &[(&'static str, String)]) -> String {
        let name = free(&found::name(&section.name, "web"), |name| self.0.contains_key(name));
        self.0.insert(name.clone(), Listener { bind: bind.to_string(), more: more.to_vec() });
        name
    }
}

/// Whether an address of the section has TLS.
pub(super) fn has_tls(section: &Section) -> bool {
    section.lines.iter().any(|line| line.word(0) == "bind" && line.words.iter().any(|word| word == "ssl"))
}

/// Whether clients must show a certificate.
pub(super) fn asks_certificate(section: &Section) -> Option<&Line> {
    let asks = |line: &&Line| {
        let verify = line.words.iter().position(|word| word == "verify").map(|at| line.word(at + 1));
        line.word(0) == "bind" && verify.is_some_and(|verify| verify != "none")
    };
    section.lines.iter().find(asks)
}

/// Whether everybody without TLS is sent to TLS.
fn only_moves(section: &Section) -> bool {
    section.all().any(|line| {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        let rest = words.strip_prefix(&["http-request"]).unwrap_or(&words);
        let Some(rest) = rest.strip_prefix(&["redirect", "scheme", "https"]) else { return false };
        let condition = rest.iter().position(|word| ["if", "unless"].contains(word)).map(|at| rest[at..].join(" "));
        let plain = ["if !{ ssl_fc }", "if ! { ssl_fc }", "unless { ssl_fc }"];
        condition.is_none_or(|condition| plain.contains(&condition.as_str()))
    })
}

/// An address that can be bound; one that stands for every address of IPv6 is written as IPv4's, as `bind` may be changed.
fn bind(text: &str) -> Option<SocketAddr> {
    let text = text.strip_prefix("ipv4@").or_else(|| text.strip_prefix("ipv6@")).unwrap_or(text);
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    let ip: IpAddr = match host.trim_matches(['[', ']']) {
        "" | "*" | "::" => Ipv4Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        other => other.parse().ok()?,
    };
    let ip = if ip == IpAddr::from(Ipv6Addr::UNSPECIFIED) { Ipv4Addr::UNSPECIFIED.into() } else { ip };
    Some(SocketAddr::new(ip, port))
}
