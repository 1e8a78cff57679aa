//! Listeners and routes: where clients come in, and to which service they are led.

use super::{Faults, NAME_RULE, is_name};
use crate::{
    snapshot::Protocol,
    stack::{Listener, Route, Stack, rails},
};

pub(super) fn check_listener(name: &str, listener: &Listener, stack: &Stack, faults: &mut Faults) {
    let path = ["listeners", name];
    if !is_name(name) {
        faults.add(&path, format!("`{name}` is not a name"), Some(NAME_RULE.to_owned()));
    }
    let bind = ["listeners", name, "bind"];
    if listener.bind.port() == 0 {
        faults.add(&bind, "port 0 means any port, which nobody could find", None);
    }
    let earlier = stack.listeners.iter().take_while(|(other, _)| *other != name);
    // The ports of TCP and of UDP are others.
    let is_udp = |listener: &Listener| listener.protocol == Protocol::Udp;
    let same = |other: &Listener| other.bind == listener.bind && is_udp(other) == is_udp(listener);
    for (other, _) in earlier.filter(|(_, other)| same(other)) {
        faults.add(&bind, format!("listeners `{other}` and `{name}` have the same address"), None);
    }
    if listener.bind == stack.console.bind && !is_udp(listener) {
        faults.add(&bind, "this is the console's address", Some("change it, or `[console] bind`".to_owned()));
    }
    let limits = &listener.limits;
    if limits.headers == 0 || limits.connections == 0 || limits.head.as_bytes() < 256 || limits.target.as_bytes() == 0 {
        let path = ["listeners", name, "limits"];
        faults.add(&path, "limits so small that no request fits", None);
    }
    if limits.head.as_bytes() > 1 << 20 {
        faults.add(&["listeners", name, "limits", "head"], "`head` may be at most 1MiB", None);
    }
}

pub(super) fn check_route(index: usize, route: &Route, stack: &Stack, faults: &mut Faults) {
    let at = index.to_string();
    if !route.service.is_empty() {
        faults.must_exist(&["routes", &at, "service"], "service", &route.service, stack.services.keys());
    }
    for (place, split) in route.split.iter().enumerate() {
        let path = ["routes", &at, "split", &place.to_string(), "service"];
        faults.must_exist(&path, "service", &split.service, stack.services.keys());
    }
    if let Some(mirror) = &route.mirror {
        let path = ["routes", &at, "mirror", "service"];
        faults.must_exist(&path, "service", &mirror.service, stack.services.keys());
        if let Some(message) = stack.services.get(&mirror.service).and_then(rails::fault_of_mirrored) {
            faults.add(&path, message, None);
        }
    }
    if route.methods.is_empty() && faults.tree.has(&["routes", &at, "methods"]) {
        let help = Some("leave it out for every method".to_owned());
        faults.useless(&["routes", &at, "methods"], "no method is listed, which would be taken for every method", help);
    }
    for (keys, message, help) in rails::faults(route) {
        let path: Vec<&str> = ["routes", &at].into_iter().chain(keys.iter().map(String::as_str)).collect();
        faults.add(&path, message, help.map(str::to_owned));
    }
    if let Some(listener) = &route.listener {
        faults.must_exist(&["routes", &at, "listener"], "listener", listener, stack.listeners.keys());
    }
    check_path(&at, &route.path, faults);
    if let Some(host) = &route.host
        && !is_host(host.strip_prefix("*.").unwrap_or(host))
    {
        let help = Some("as `shop.example.com` or `*.example.com`, without scheme and port".to_owned());
        faults.add(&["routes", &at, "host"], format!("`{host}` is not a host name"), help);
    }
}

/// A route's path is compared with the normal form of a request's, which has no dots.
fn check_path(at: &str, path: &str, faults: &mut Faults) {
    let key = ["routes", at, "path"];
    if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
        let help = Some("a path starts with `/` and has no query".to_owned());
        return faults.add(&key, format!("`{path}` is not a path"), help);
    }
    let has_dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
    match crate::path::normal(path.as_bytes()) {
        Err(bad) => faults.useless(&key, format!("no request has the path `{path}`: {bad}"), None),
        Ok(normal) if has_dots => {
            let help = format!("write `{}`", String::from_utf8_lossy(&normal));
            faults.useless(
                &key,
                format!("`{path}` has segments of dots, which requests lose before their route is found"),
                Some(help),
            );
        }
        Ok(_) => {}
    }
}

pub(in crate::stack) fn is_host(text: &str) -> bool {
    let fits = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.len() <= 253 && (text.split('.').all(fits) || text.parse::<std::net::Ipv6Addr>().is_ok())
}
