//! `stream`: servers of TCP and UDP as listeners that lead to one service.
//!
//! Only what means the same is translated: one address, one destination, no TLS and no choice by name. A server that
//! refuses clients by their address is not imported at all, since no page could answer in its place. It reads nothing
//! but directives.

use super::{
    super::found::{Listener, Service},
    address::{address, bind},
    guards,
    syntax::Directive,
    translate::{CONSOLE, GROUP, Work},
};

/// Makes listeners of the servers in a `stream` block.
pub(super) fn translate(work: &mut Work, block: &Directive) {
    let guarded = guards::in_force(&[], block.inside());
    for directive in block.inside() {
        match directive.name.as_str() {
            "server" => server(work, directive, block.inside(), &guarded),
            GROUP | "log_format" | "access_log" | "error_log" => {}
            "include" => work.leave_out(directive, "included files are not followed: run `keel init` on a whole file"),
            _ if guards::is_about_access(directive) => {}
            _ => work.leave_out(directive, ""),
        }
    }
}

fn server(work: &mut Work, server: &Directive, around: &[Directive], outer: &[guards::Guard]) {
    let of = |name: &str| server.inside().iter().find(|one| one.name == name);
    let guarded = guards::in_force(outer, server.inside());
    let Some(pass) = of("proxy_pass") else { return work.leave_out(server, "it leads to no instance") };
    if let Some(guard) = guarded.first() {
        let text =
            format!("a server of TCP or UDP: not imported, {} line {}: `{}`", work.source, guard.line, guard.words);
        return work.closed.push(text);
    }
    for listen in server.inside().iter().filter(|one| one.name == "listen") {
        let has = |flag: &str| listen.args.iter().any(|arg| arg == flag);
        let bound = bind(listen.arg()).filter(|_| !has("ssl") && !has("proxy_protocol") && of("ssl_preread").is_none());
        let Some(mut bound) = bound.filter(|bound| !pass.arg().contains('$') && bound.port() != CONSOLE) else {
            work.leave_out(
                listen,
                "see `protocol` of a listener; TLS, names and PROXY headers are not carried over here",
            );
            continue;
        };
        if bound.is_ipv6() && bound.ip().is_unspecified() {
            bound.set_ip(std::net::Ipv4Addr::UNSPECIFIED.into());
        }
        let protocol = if has("udp") { "udp" } else { "tcp" };
        let taken = |one: &Listener| {
            one.bind == bound.to_string() && one.more.iter().any(|(_, value)| value.contains(protocol))
        };
        if work.listeners.values().any(taken) {
            continue;
        }
        let Some(service) = service(work, pass, around, protocol) else { continue };
        let more = vec![("protocol", format!("\"{protocol}\"")), ("service", format!("\"{service}\""))];
        let name = format!("{protocol}-{}", bound.port());
        let name = super::super::answers::free(&name, |name| work.listeners.contains_key(name));
        work.listeners.insert(name, Listener { bind: bound.to_string(), more });
    }
    for directive in server.inside() {
        match directive.name.as_str() {
            "listen" | "proxy_pass" | "access_log" | "error_log" | "proxy_buffer_size" | "tcp_nodelay" => {}
            "proxy_timeout" => work.leave_out(directive, "see `tunnel_idle` in `limits` of a service"),
            "proxy_connect_timeout" => work.leave_out(directive, "see `connect_timeout` in `limits` of a service"),
            _ if guards::is_about_access(directive) => {}
            _ => work.leave_out(directive, ""),
        }
    }
}

/// The service that a `proxy_pass` names; one for each protocol, since they are checked in different ways.
fn service(work: &mut Work, pass: &Directive, around: &[Directive], protocol: &str) -> Option<String> {
    let group = around.iter().find(|one| one.name == GROUP && one.arg() == pass.arg());
    let (instances, balance) = if let Some(group) = group {
        let (instances, choice) = work.members(group);
        let (balance, more) = choice.settle(instances.iter().any(|(_, weight)| *weight != 1));
        if !more.is_empty() {
            work.leave_out(group, "how an address is chosen has no counterpart for connections; see `balance`");
        }
        (instances, more.is_empty().then_some(balance))
    } else {
        (address(pass.arg()).map(|address| (address, 1)).into_iter().collect(), None)
    };
    if instances.is_empty() {
        work.leave_out(pass, "no address with a port");
        return None;
    }
    let check = if protocol == "udp" { "{ udp = true }" } else { "{ tcp = true, interval = \"1s\" }" };
    let wanted = pass.arg().split(':').next().unwrap_or_default();
    let wanted = if group.is_some() { wanted.to_owned() } else { format!("{protocol}-{wanted}") };
    let mut made = Service { balance, more: vec![("check", check.to_owned())], ..Service::fixed("x", instances) };
    let same = |other: &&Service| {
        format!("{:?}{:?}{:?}", other.source, other.more, other.balance)
            == format!("{:?}{:?}{:?}", made.source, made.more, made.balance)
    };
    if let Some(other) = work.services.iter().find(same) {
        return Some(other.name.clone());
    }
    made.name = work.free_name(&wanted);
    work.services.push(made);
    Some(work.services.last()?.name.clone())
}
