//! What the types alone cannot say: names that must exist, numbers that must fit each other, addresses that need
//! a port. All faults are found, not just the first.

use std::collections::BTreeSet;

use crate::snapshot::Protocol;

use super::{
    Check, Listener, Route, Service, Stack,
    check::fault_of_probe,
    choice, console,
    diagnostics::{Diagnostic, Severity},
    drills,
    listener::ClientLimits,
    names::nearest,
    objectives, order, rails, secrets, stream, transform,
    tree::Tree,
    useless,
};

/// Fills in what an empty file means and returns every fault; where there is none, every warning. `useless` is what is
/// meant to have an effect and has none, although nothing is wrong with it otherwise.
pub(super) fn validate(stack: &mut Stack, tree: &Tree, useless: Severity) -> Vec<Diagnostic> {
    fill_in(stack);
    let mut faults = Faults { tree, useless, found: Vec::new() };
    check_head(stack, &mut faults);
    for (name, listener) in &stack.listeners {
        check_listener(name, listener, stack, &mut faults);
    }
    for (index, route) in stack.routes.iter().enumerate() {
        check_route(index, route, stack, &mut faults);
    }
    for (name, service) in &stack.services {
        check_service(name, service, stack, &mut faults);
    }
    secrets::check(stack, &mut |path, message, help| faults.add(path, message, help));
    transform::check(stack, &mut |path, message, help| faults.add(path, message, help));
    choice::check(stack, &mut |path, message, help| faults.add(path, message, help));
    stream::check(stack, &mut |path, message, help| faults.add(path, message, help));
    console::check(stack, &mut |path, message, help| faults.add(path, message, help));
    order::check(stack, &mut |path, message, help| faults.useless(path, message, help));
    objectives::check(stack, &mut |path, message, help| faults.add(path, message, help));
    check_drills(stack, &mut faults);
    drills::check_schedule(stack, &mut |path, message, help| faults.add(path, message, help));
    if stack.journal.size < super::Journal::LEAST {
        let message = format!("`{}` is too small for a journal", stack.journal.size);
        faults.add(&["journal", "size"], message, Some(format!("at least {}", super::Journal::LEAST)));
    }
    if faults.found.iter().all(|fault| fault.severity == Severity::Warning) {
        useless::check(stack, tree, &mut |path, message, help| {
            faults.say(Severity::Warning, path, message, Some(help));
        });
    }
    faults.found.sort_by_key(|fault| fault.span.as_ref().map_or(0, |span| span.start));
    faults.found
}

/// One listener and one route go without saying where they can mean only one thing.
fn fill_in(stack: &mut Stack) {
    if stack.listeners.is_empty() {
        let bind = std::net::SocketAddr::from(([127, 0, 0, 1], 8080));
        let listener = Listener {
            bind,
            protocol: Protocol::Http,
            service: None,
            proxy_protocol: false,
            trusted: Vec::new(),
            strict: crate::snapshot::Strictness::default(),
            limits: ClientLimits::default(),
            error_pages: std::collections::BTreeMap::new(),
        };
        stack.listeners.insert("web".to_owned(), listener);
    }
    stream::fill_in(stack);
    for service in stack.services.values_mut().filter(|service| service.files.is_some()) {
        service.check.get_or_insert_with(Service::default_check_of_files);
    }
}

/// Collects faults and knows where each path stands.
struct Faults<'a> {
    tree: &'a Tree<'a>,
    /// How much it matters that something has no effect.
    useless: Severity,
    found: Vec<Diagnostic>,
}

impl Faults<'_> {
    fn add(&mut self, path: &[&str], message: impl Into<String>, help: Option<String>) {
        self.say(Severity::Error, path, message, help);
    }

    fn useless(&mut self, path: &[&str], message: impl Into<String>, help: Option<String>) {
        self.say(self.useless, path, message, help);
    }

    fn say(&mut self, severity: Severity, path: &[&str], message: impl Into<String>, help: Option<String>) {
        self.found.push(Diagnostic { severity, message: message.into(), help, span: self.tree.span(path) });
    }

    /// A name that must be a key of something.
    fn must_exist<'n>(
        &mut self,
        path: &[&str],
        kind: &str,
        name: &str,
        known: impl Iterator<Item = &'n String> + Clone,
    ) {
        if known.clone().any(|other| other == name) {
            return;
        }
        let help = nearest(name, known.clone().map(String::as_str)).map_or_else(
            || {
                let all: Vec<&str> = known.map(String::as_str).collect();
                if all.is_empty() { format!("the file has no {kind}") } else { format!("there is: {}", all.join(", ")) }
            },
            |near| format!("did you mean `{near}`?"),
        );
        self.add(path, format!("there is no {kind} `{name}`"), Some(help));
    }
}

fn check_head(stack: &Stack, faults: &mut Faults) {
    if !is_name(&stack.stack.name) {
        faults.add(&["stack", "name"], format!("`{}` is not a name", stack.stack.name), Some(NAME_RULE.to_owned()));
    }
    if stack.services.is_empty() {
        let help = "add one, as [services.web] with run = [\"node\", \"server.js\"]".to_owned();
        faults.add(&["services"], "the file has no service", Some(help));
    }
    if !stream::leads_somewhere(stack) && stack.services.len() > 1 {
        let help = "add [[routes]] with host or path, and service".to_owned();
        faults.add(&["services"], "several services but no route: nobody could reach them", Some(help));
    }
    if stack.edge.threads.is_some_and(|threads| threads == 0 || threads > 256) {
        faults.add(&["edge", "threads"], "`edge.threads` must be from 1 to 256", None);
    }
    if stack.logs.files == 0 {
        faults.add(&["logs", "files"], "`logs.files` must be at least 1", None);
    }
}

const NAME_RULE: &str = "lower-case letters, digits and hyphens, starting with a letter, at most 40 characters";

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 40 && text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(fits)
}

fn check_listener(name: &str, listener: &Listener, stack: &Stack, faults: &mut Faults) {
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

fn check_route(index: usize, route: &Route, stack: &Stack, faults: &mut Faults) {
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

pub(super) fn is_host(text: &str) -> bool {
    let fits = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.len() <= 253 && (text.split('.').all(fits) || text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn check_service(name: &str, service: &Service, stack: &Stack, faults: &mut Faults) {
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
    let super::Liveness { http, tcp, grpc, exec, .. } = liveness;
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
    if let Some((message, help)) = service.page.as_ref().and_then(super::Page::fault) {
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
    if let Some((message, help)) = service.files.as_ref().and_then(super::Files::fault) {
        faults.add(&["services", name, "files"], message, Some(help.to_owned()));
    }
    for (index, instance) in service.fixed().iter().enumerate() {
        let at = ["services", name, "instances", &index.to_string()];
        let (host, port) = instance.address.rsplit_once(':').unwrap_or((&instance.address, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Some(socket) = instance.address.strip_prefix(super::UNIX) {
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
    if let Some((key, message, help)) = service.dns().and_then(super::Dns::fault) {
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

fn check_drills(stack: &Stack, faults: &mut Faults) {
    if !stack.drills.read.starts_with('/') {
        faults.add(&["drills", "read"], format!("`{}` is not a path", stack.drills.read), None);
    }
    if let Some(write) = &stack.drills.write {
        if !write.post.starts_with('/') {
            faults.add(&["drills", "write", "post"], format!("`{}` is not a path", write.post), None);
        }
        if !write.verify.starts_with('/') || !write.verify.contains("{key}") {
            let help = Some("as `/api/orders?key={key}`".to_owned());
            faults.add(&["drills", "write", "verify"], "must be a path with `{key}` in it", help);
        }
    }
    if let Some(name) = &stack.drills.dependency {
        faults.must_exist(&["drills", "dependency"], "service", name, stack.services.keys());
    }
}

/// The number of a signal that may ask an instance to end (signal(7), x86 and ARM).
pub(super) fn signal_number(name: &str) -> Option<i32> {
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
