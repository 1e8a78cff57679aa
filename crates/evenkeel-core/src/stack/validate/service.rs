//! One service: where its instances come from, and what goes with what.

use std::collections::BTreeSet;

use super::{Faults, NAME_RULE, is_name, reach::is_host};
use crate::stack::{self, Check, Service, Stack, check::fault_of_probe};

pub(super) fn check_service(name: &str, service: &Service, stack: &Stack, faults: &mut Faults) {
    let path = ["services", name];
    if !is_name(name) {
        faults.add(&path, format!("`{name}` is not a name"), Some(NAME_RULE.to_owned()));
    }
    check_source(name, service, faults);
    if let Some(fallback) = &service.fallback {
        faults.must_exist(&["services", name, "fallback"], "service", fallback, stack.services.keys());
        if fallback == name {
            faults.add(&["services", name, "fallback"], "a service cannot be its own fallback", None);
        }
    }
    check_others(name, service, faults);
    if let Some(check) = &service.check {
        check_check(name, check, faults);
    }
    check_liveness(name, service, faults);
    check_deploy(name, service, faults);
    check_elastic(name, service, faults);
    check_returning(name, service, faults);
    if signal_number(&service.stop.signal).is_none() {
        let help = Some("one of TERM, INT, QUIT, HUP, USR1, USR2, WINCH".to_owned());
        faults.add(&["services", name, "stop", "signal"], format!("`{}` is not a signal", service.stop.signal), help);
    }
    if service.retries.max > 10 || service.retries.budget_percent > 100 {
        faults.add(&["services", name, "retries"], "`max` is at most 10 and `budget_percent` at most 100", None);
    }
    check_hedge(name, service, faults);
    if service.eject.percent > 100 || service.eject.max_percent > 100 || service.eject.window.as_ms() == 0 {
        faults.add(&["services", name, "eject"], "percentages are at most 100, and the window is not empty", None);
    }
    if service.restart.attempts == 0 {
        faults.add(&["services", name, "restart", "attempts"], "`attempts` must be at least 1", None);
    }
    for (key, value) in &service.env {
        check_env(name, key, value, faults);
    }
}

/// What goes with `retries.hedge_after`.
fn check_hedge(name: &str, service: &Service, faults: &mut Faults) {
    if service.retries.hedge_after.as_ms() == 0 {
        return;
    }
    let wrong = if service.retries.max == 0 {
        "a hedge is a repetition, and `max = 0` forbids those"
    } else if service.retries.hedge_after >= service.limits.response_timeout {
        "`hedge_after` must be shorter than `limits.response_timeout`"
    } else if service.sticky.is_some() {
        "where clients stay with an instance (`sticky`), no other one is asked beside it"
    } else if service.fastcgi.is_some() {
        "instances that speak FastCGI are not hedged"
    } else {
        return;
    };
    faults.add(&["services", name, "retries", "hedge_after"], wrong, None);
}

/// What goes with `liveness`.
fn check_liveness(name: &str, service: &Service, faults: &mut Faults) {
    let Some(liveness) = &service.liveness else { return };
    let path = ["services", name, "liveness"];
    let stack::Liveness { http, tcp, grpc, exec, .. } = liveness;
    let fault = fault_of_probe("liveness", http.as_deref(), (*tcp, false), grpc.as_deref(), exec.as_deref());
    check_probe(&path, fault, faults);
    if liveness.interval.as_ms() == 0 || liveness.timeout.as_ms() == 0 {
        faults.add(&path, "`interval` and `timeout` must be longer than nothing", None);
    }
    if !service.is_run() {
        let help = Some("`liveness` restarts instances of `run` or `files`".to_owned());
        faults.add(&path, "nothing here could be restarted", help);
    }
}

/// What goes with `deploy` and `before`.
fn check_deploy(name: &str, service: &Service, faults: &mut Faults) {
    for (key, message) in service.deploy.faults() {
        faults.add(&["services", name, "deploy", key], message, None);
    }
    let Some(before) = &service.before else { return };
    let path = ["services", name, "before"];
    if before.first().is_none_or(String::is_empty) {
        faults.add(&path, "`before` names no program", Some("as before = [\"./migrate\"]".to_owned()));
    }
    if !service.is_run() {
        let help = Some("`before` is a step of `keel deploy`, which needs `run` or `files`".to_owned());
        faults.add(&path, "nothing is deployed to this service", help);
    }
}

/// What goes with elastic `replicas`.
fn check_elastic(name: &str, service: &Service, faults: &mut Faults) {
    let Some(elastic) = service.replicas.elastic() else { return };
    let path = ["services", name, "replicas"];
    for (key, message, help) in elastic.faults() {
        faults.add(&[&path, key].concat(), message, help.map(str::to_owned));
    }
    if !service.is_run() {
        let help = Some("elastic `replicas` start and stop instances of `run` or `files`".to_owned());
        faults.add(&path, "nothing here could be started", help);
    }
    if elastic.min == 0 && service.fallback.is_some() {
        let help = Some("set `min = 1`, or leave `fallback` out".to_owned());
        faults.add(&path, "`min = 0`, but no request would ever wait for a start: `fallback` answers instead", help);
    }
    if elastic.min == 0 && service.hold.max.as_ms() == 0 {
        let help = Some("set `hold.max` to what a start takes, or `min = 1`".to_owned());
        faults.add(&path, "`min = 0`, but the first request could not wait for a start: `hold.max` is 0", help);
    }
}

/// What goes with `prefer`, `return` and `page`.
fn check_returning(name: &str, service: &Service, faults: &mut Faults) {
    if let Some(zone) = &service.prefer {
        let path = ["services", name, "prefer"];
        let zones: BTreeSet<&String> = service.fixed().iter().filter_map(|instance| instance.zone.as_ref()).collect();
        if zones.is_empty() {
            let help = "as instances = [{ address = \"10.0.0.5:8080\", zone = \"a\" }, …]".to_owned();
            faults.add(&path, "no instance of this service has a `zone`", Some(help));
        } else {
            faults.must_exist(&path, "zone", zone, zones.iter().copied());
        }
    }
    if service.returns.is_some() && service.fallback.is_none() && service.prefer.is_none() {
        let help = Some("`return` says when `fallback` or `prefer` is undone, and there is neither".to_owned());
        faults.add(&["services", name, "return"], "there is nothing to return from", help);
    }
    if let Some((message, help)) = service.page.as_ref().and_then(stack::Page::fault) {
        faults.add(&["services", name, "page"], message, help.map(str::to_owned));
    }
    if service.page.is_some() && service.fallback.is_some() {
        faults.add(&["services", name, "fallback"], "a page always answers, so it needs no fallback", None);
    }
}

fn check_env(name: &str, key: &str, value: &str, faults: &mut Faults) {
    let path = ["services", name, "env", key];
    if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
        faults.add(&path, format!("`{key}` cannot be an environment variable"), None);
    }
    if value.contains("{databases.") || value.contains("{caches.") || value.contains("{queues.") {
        faults.add(&path, "databases, caches and queues are described but not built into this version", None);
    }
}

/// Exactly one of the keys that say where instances come from, and what goes with each.
fn check_source(name: &str, service: &Service, faults: &mut Faults) {
    let path = ["services", name];
    let keys = [
        ("run", service.run.is_some()),
        ("instances", service.instances.is_some()),
        ("files", service.files.is_some()),
        ("page", service.page.is_some()),
    ];
    let given: Vec<&str> = keys.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    match given[..] {
        [] => {
            let help = "run = [\"program\", \"argument\"], instances = [\"10.0.0.5:8080\"] or files = \"public\"";
            let message = format!("service `{name}` has neither `run` nor `instances` nor `files` nor `page`");
            faults.add(&path, message, Some(help.to_owned()));
        }
        [_] => {}
        [first, second, ..] => {
            let message = format!("service `{name}` has both `{first}` and `{second}`; it needs one of them");
            faults.add(&path, message, None);
        }
    }
    if service.run.as_ref().is_some_and(|run| run.first().is_none_or(String::is_empty)) {
        faults.add(&["services", name, "run"], "`run` names no program", None);
    }
    if let Some((message, help)) = service.files.as_ref().and_then(stack::Files::fault) {
        faults.add(&["services", name, "files"], message, Some(help.to_owned()));
    }
    for (index, instance) in service.fixed().iter().enumerate() {
        let at = ["services", name, "instances", &index.to_string()];
        let (host, port) = instance.address.rsplit_once(':').unwrap_or((&instance.address, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Some(socket) = instance.address.strip_prefix(stack::UNIX) {
            check_socket(&at, socket, service, faults);
        } else if !is_host(host) || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            let help = Some("as `10.0.0.5:8080`, `[::1]:8080` or `app.internal:80`".to_owned());
            faults.add(&at, format!("`{}` is not an address with a port", instance.address), help);
        }
        if instance.weight == 0 || instance.weight > 1000 {
            faults.add(&at, "`weight` must be from 1 to 1000", None);
        }
        if service.fixed()[..index].iter().any(|other| other.address == instance.address) {
            faults.add(&at, format!("`{}` stands twice", instance.address), None);
        }
    }
}

/// The path of a Unix socket in place of an address.
fn check_socket(at: &[&str], socket: &str, service: &Service, faults: &mut Faults) {
    if service.fastcgi.is_none() {
        let help = Some("only instances of a service with `fastcgi` are reached by Unix sockets".to_owned());
        faults.add(at, format!("`unix:{socket}` cannot be reached over HTTP"), help);
    }
    // The kernel keeps 108 bytes for it, the last one a zero (unix(7)).
    if !socket.starts_with('/') || socket.len() > 107 || socket.contains('\0') {
        faults.add(at, format!("`{socket}` is not the absolute path of a socket, of at most 107 bytes"), None);
    }
}

/// What goes with `instances = { dns = … }` and `fastcgi`.
fn check_others(name: &str, service: &Service, faults: &mut Faults) {
    if let Some((key, message, help)) = service.dns().and_then(stack::Dns::fault) {
        faults.add(&["services", name, "instances", key], message, help);
    }
    for (key, message) in service.fastcgi.iter().flat_map(|fastcgi| fastcgi.faults(service.run.is_some())) {
        faults.add(&["services", name, "fastcgi", key], message, None);
    }
    if service.fastcgi.is_some() && (service.files.is_some() || service.page.is_some()) {
        faults.add(&["services", name, "fastcgi"], "`files` and `page` need no FastCGI", None);
    }
    let asks_http = |check: &Check| check.http.is_some() || check.grpc.is_some();
    let lives_by_http = service.liveness.as_ref().is_some_and(|live| live.http.is_some() || live.grpc.is_some());
    if service.fastcgi.is_some() && lives_by_http {
        let help = Some("liveness = { tcp = true } or { exec = [\"./check\", \"{port}\"] }".to_owned());
        faults.add(&["services", name, "liveness"], "instances of `fastcgi` do not speak HTTP", help);
    }
    if service.fastcgi.is_some() && service.check.as_ref().is_some_and(asks_http) {
        let help = Some("check = { tcp = true } or { exec = [\"./check\", \"{port}\"] }".to_owned());
        faults.add(&["services", name, "check"], "instances of `fastcgi` do not speak HTTP", help);
    }
}

fn check_check(name: &str, check: &Check, faults: &mut Faults) {
    let path = ["services", name, "check"];
    let Check { http, tcp, udp, grpc, exec, .. } = check;
    let fault = fault_of_probe("check", http.as_deref(), (*tcp, *udp), grpc.as_deref(), exec.as_deref());
    check_probe(&path, fault, faults);
    if check.rise == 0 || check.fall == 0 {
        faults.add(&path, "`rise` and `fall` must be at least 1", None);
    }
    if check.interval.as_ms() == 0 || check.timeout.as_ms() == 0 {
        faults.add(&path, "`interval` and `timeout` must be longer than nothing", None);
    }
    if let Some((low, high)) = check.status
        && (low < 100 || high > 599 || low > high)
    {
        faults.add(&["services", name, "check", "status"], "as [200, 399]: lowest and highest status", None);
    }
}

fn check_probe(path: &[&str], probe: Option<(String, Option<&'static str>)>, faults: &mut Faults) {
    if let Some((message, help)) = probe {
        faults.add(path, message, help.map(str::to_owned));
    }
}

/// The number of a signal that may ask an instance to end (signal(7), x86 and ARM).
pub(in crate::stack) fn signal_number(name: &str) -> Option<i32> {
    Some(match name.strip_prefix("SIG").unwrap_or(name) {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "USR1" => 10,
        "USR2" => 12,
        "TERM" => 15,
        "WINCH" => 28,
        _ => return None,
    })
}
