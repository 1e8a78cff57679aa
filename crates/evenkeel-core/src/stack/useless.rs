//! What a stack file says that does nothing, or not what it seems to do: its writer is told, and the file is accepted.
//!
//! Looked for only where nothing is wrong, so that one mistake is not told twice. What can never work is not here but where
//! it is refused.

use super::{Service, Stack, StickyCookie, choice::Sticky, reach, stream::with_fallbacks, tree::Tree};
use crate::snapshot::Balance;

/// Takes a warning: where, what, and what would be right.
type Warn<'a> = dyn FnMut(&[&str], String, String) + 'a;

/// Finds everything.
pub(super) fn check(stack: &Stack, tree: &Tree<'_>, warn: &mut Warn<'_>) {
    for name in reach::unreached(stack) {
        let message =
            format!("nothing leads to service `{name}`: no route, no listener, no service whose `fallback` it is");
        let help = "add [[routes]] with it, or leave it out; one that fetches its work has a command as its `check`";
        warn(&["services", name], message, help.to_owned());
    }
    for (name, service) in &stack.services {
        idle_keys(name, service, tree, warn);
        weights(name, service, warn);
        ejection(name, service, tree, warn);
    }
    cookies(stack, warn);
}

/// What is for instances that the edge chooses among.
const OF_INSTANCES: [&str; 11] = [
    "balance",
    "hash_by",
    "hash_bound",
    "sticky",
    "slow_start",
    "min_capacity",
    "check",
    "limits",
    "retries",
    "hold",
    "eject",
];

/// What is for processes that are run here.
const OF_RUN: [&str; 3] = ["replicas", "restart", "deploy"];

/// What is for them and for checks by a command.
const OF_COMMANDS: [&str; 4] = ["env", "dir", "user", "memory"];

/// Keys that mean nothing for this kind of service.
fn idle_keys(name: &str, service: &Service, tree: &Tree<'_>, warn: &mut Warn<'_>) {
    let by_command = service.check.as_ref().is_some_and(|check| check.exec.is_some());
    let (keys, why, help): (Vec<&str>, _, _) = if service.page.is_some() {
        let rest = ["start_timeout", "stop", "proxy_protocol"];
        let keys = OF_INSTANCES.into_iter().chain(OF_RUN).chain(OF_COMMANDS).chain(rest);
        (keys.collect(), "the edge answers with the page itself", "leave it out")
    } else if service.instances.is_some() {
        let keys = OF_RUN.into_iter().chain(OF_COMMANDS.into_iter().filter(|_| !by_command));
        (keys.collect(), "something else runs the `instances`", "leave it out, or give `run` in place of `instances`")
    } else {
        return;
    };
    for key in keys.into_iter().filter(|key| tree.has(&["services", name, key])) {
        warn(&["services", name, key], format!("`{key}` does nothing here: {why}"), help.to_owned());
    }
}

/// Weights that nobody looks at.
fn weights(name: &str, service: &Service, warn: &mut Warn<'_>) {
    let weighted = service.fixed().iter().position(|instance| instance.weight != 1);
    if let Some(place) = weighted.filter(|_| service.balance == Balance::RoundRobin) {
        let path = ["services", name, "instances", &place.to_string(), "weight"];
        let help = "balance = \"weighted-round-robin\" or \"least-connections\"";
        warn(&path, "`round-robin` does not look at weights".to_owned(), help.to_owned());
    }
}

/// A bound on ejection that allows none.
fn ejection(name: &str, service: &Service, tree: &Tree<'_>, warn: &mut Warn<'_>) {
    let most =
        if service.is_run() { service.replicas.max() } else { u32::try_from(service.fixed().len()).unwrap_or(0) };
    let (percent, path) = (u32::from(service.eject.max_percent), ["services", name, "eject", "max_percent"]);
    let is_on = percent > 0 && (service.eject.consecutive > 0 || service.eject.percent > 0);
    // Of a single instance none is ever ejected, and of a name's addresses the number is not known.
    if most > 1 && is_on && percent * most < 100 && tree.has(&path) {
        let message = format!("no instance is ever ejected: one of {most} is more than {percent} %");
        let help = format!("at least {}, or 0 to say that none is", 100_u32.div_ceil(most));
        warn(&path, message, help);
    }
}

/// Services that share a cookie's name and a host: each overwrites what the other one set.
fn cookies(stack: &Stack, warn: &mut Warn<'_>) {
    let cookie = |service: &'_ Service| match &service.sticky {
        Some(Sticky::Cookie(StickyCookie { cookie, .. })) => Some(cookie.clone()),
        _ => None,
    };
    let sticky = stack.services.iter().filter_map(|(name, service)| Some((name, cookie(service)?)));
    let sticky: Vec<(&String, String, Vec<Option<&str>>)> =
        sticky.map(|(name, cookie)| (name, cookie, hosts_of(stack, name))).collect();
    for (place, (name, cookie, hosts)) in sticky.iter().enumerate() {
        let meet = |others: &[Option<&str>]| hosts.iter().any(|one| others.iter().any(|other| overlap(*one, *other)));
        let same = sticky[..place].iter().find(|(_, other, others)| other == cookie && meet(others));
        if let Some((other, ..)) = same {
            let message =
                format!("services `{other}` and `{name}` answer for one host and set the same cookie `{cookie}`");
            let help = "give each a name of its own: they overwrite each other's, and clients lose their instances";
            warn(&["services", name, "sticky"], message, help.to_owned());
        }
    }
}

/// Hosts of the routes that lead to a service; `None` is every host.
fn hosts_of<'a>(stack: &'a Stack, name: &str) -> Vec<Option<&'a str>> {
    let leads = |route: &&super::Route| {
        let others = route.split.iter().map(|split| split.service.as_str());
        with_fallbacks(stack, others.chain([route.service.as_str()])).contains(name)
    };
    stack.routes.iter().filter(leads).map(|route| route.host.as_deref()).collect()
}

/// Whether some host fits both.
fn overlap(one: Option<&str>, other: Option<&str>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return true };
    let (one, other) = (one.to_ascii_lowercase(), other.to_ascii_lowercase());
    let covers = |wide: &str, narrow: &str| wide.strip_prefix('*').is_some_and(|suffix| narrow.ends_with(suffix));
    one == other || covers(&one, &other) || covers(&other, &one)
}
