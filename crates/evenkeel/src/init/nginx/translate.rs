//! From nginx's directives to listeners, routes and services.
//!
//! A group of addresses becomes a service, a `location` with `proxy_pass` a route for each of its server's names.
//! What has no counterpart becomes a note with its line; directives that only tune nginx itself, or that set what
//! the edge sets anyway, are passed over in silence. A `location` whose meaning would change is left out rather
//! than translated wrongly. It owns what it collects and reads nothing but the directives.

use std::collections::BTreeMap;

use super::{
    super::found::{self, Found, Route, Service, Source},
    address::{address, bind, is_host, member},
    choice::Choice,
    rails::{self, Declared},
    syntax::Directive,
    transform,
};

/// The keyword that opens a group of addresses in nginx's file.
const GROUP: &str = "upstream";

/// Where clients reach a server that has only addresses with TLS: not from outside, since there they were promised it.
const WITHOUT_TLS: &str = "127.0.0.1:8080";

/// What says nothing about where requests go: nginx's own processes, logs, and headers that the edge sets itself.
const SILENT: [&str; 30] = [
    "access_log",
    "charset",
    "default_type",
    "error_log",
    "events",
    "http",
    "include_mime_types",
    "index",
    "keepalive",
    "keepalive_requests",
    "keepalive_timeout",
    "log_format",
    "log_not_found",
    "multi_accept",
    "pid",
    "proxy_http_version",
    "proxy_redirect",
    "root",
    "sendfile",
    "server_names_hash_bucket_size",
    "server_tokens",
    "tcp_nodelay",
    "tcp_nopush",
    "types",
    "types_hash_max_size",
    "use",
    "user",
    "worker_connections",
    "worker_processes",
    "zone",
];

/// The stack; without services where the file leads no request to an instance.
pub(super) fn translate(source: &str, directives: &[Directive]) -> Found {
    let mut work = Work::default();
    work.declared.read(directives);
    work.without_tls = has_tls(directives);
    work.groups(directives);
    work.level(directives);
    work.drop_unreachable();
    let compress = transform::compresses(directives);
    work.services.iter_mut().for_each(|service| service.compress = compress);
    let services: Vec<&str> = work.services.iter().map(|service| service.name.as_str()).collect();
    let mut notes = Vec::new();
    let what = if services.is_empty() {
        "leads no request to an instance".to_owned()
    } else {
        let start = "keel can start and supervise these instances itself: replace `instances` by `run`.";
        notes.push(start.to_owned());
        format!("{} routes to {}", work.routes.len(), services.join(", "))
    };
    if work.left_out.is_empty() {
        notes.push(format!("Everything that {source} says about requests was translated."));
    } else {
        notes.push(format!("Left out from {source}, by line:"));
        work.left_out.sort();
        notes.extend(work.left_out.iter().map(|(line, text)| format!("line {line}: {text}")));
    }
    let (listeners, routes, services) = (work.listeners, work.routes, work.services);
    Found { source: source.to_owned(), what, listeners, routes, services, notes }
}

#[derive(Default)]
struct Work {
    /// Name in the file, and name of the service.
    groups: BTreeMap<String, String>,
    /// Bound addresses by listener.
    listeners: BTreeMap<String, String>,
    routes: Vec<Route>,
    services: Vec<Service>,
    declared: Declared,
    /// Addresses with TLS are left out.
    without_tls: bool,
    /// Line and words.
    left_out: Vec<(usize, String)>,
}

impl Work {
    fn leave_out(&mut self, directive: &Directive, why: &str) {
        let mut text = directive.name.clone();
        for arg in &directive.args {
            text.push(' ');
            text.push_str(arg);
        }
        let text: String = text.chars().take(120).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        self.left_out.push((directive.line, format!("{text}{why}")));
    }

    /// All groups first: a server may name one that stands below it.
    fn groups(&mut self, directives: &[Directive]) {
        for directive in directives {
            match directive.name.as_str() {
                "http" => self.groups(directive.inside()),
                GROUP => self.group(directive),
                _ => {}
            }
        }
    }

    fn group(&mut self, group: &Directive) {
        let (mut instances, mut choice) = (Vec::new(), Choice::default());
        for directive in group.inside() {
            match directive.name.as_str() {
                "server" => match member(directive) {
                    Ok((address, _)) if instances.iter().any(|(other, _)| *other == address) => {}
                    Ok(instance) => {
                        choice.address(directive);
                        instances.push(instance);
                    }
                    Err(why) => self.leave_out(directive, why),
                },
                name if SILENT.contains(&name) || choice.takes(directive) => {}
                _ => self.leave_out(directive, ""),
            }
        }
        if instances.is_empty() {
            return self.leave_out(group, "no address of it can be used");
        }
        let weighted = instances.iter().any(|(_, weight)| *weight != 1);
        let balance = choice.settle(weighted);
        let name = self.free_name(group.arg());
        self.groups.insert(group.arg().to_owned(), name.clone());
        self.services.push(Service { more: choice.more, ..fixed(&name, instances, Some(balance)) });
    }

    /// What stands in `http` or, in a file that is included there, at the top.
    fn level(&mut self, directives: &[Directive]) {
        for directive in directives {
            match directive.name.as_str() {
                "http" => self.level(directive.inside()),
                "server" => self.server(directive),
                GROUP => {}
                "limit_req_zone" | "split_clients" if rails::is_known(directive) => {}
                "include" if directive.arg().ends_with("mime.types") => {}
                "include" => {
                    self.leave_out(directive, "included files are not followed: run `keel init` on a whole file");
                }
                name if SILENT.contains(&name) || self.is_compression(directive) => {}
                _ => self.leave_out(directive, ""),
            }
        }
    }

    /// Whether a directive is about compression, which is translated as a whole.
    fn is_compression(&mut self, directive: &Directive) -> bool {
        if directive.arg() == "on" && ["gzip", "brotli"].contains(&directive.name.as_str()) {
            self.leave_out(directive, "translated as `compress = true`, which has codings and types of its own");
        }
        directive.name.starts_with("gzip") || directive.name.starts_with("brotli")
    }

    fn server(&mut self, server: &Directive) {
        let mut listeners = self.listen(server);
        let hosts = self.hosts(server);
        if listeners.is_empty() {
            self.leave_out(server, "none of its addresses can be bound, so clients reach it at 127.0.0.1:8080 for now");
            listeners.push(self.listener(WITHOUT_TLS));
        }
        let places = places(&listeners, &hosts);
        for directive in server.inside() {
            match directive.name.as_str() {
                "listen" | "server_name" => {}
                "location" => self.location(directive, &places, server.inside()),
                "return" => self.redirect(directive, "/", &places),
                // Locations without one of their own have it from here.
                "limit_req" if self.declared.rate(directive).is_some() => {}
                _ => self.setting(directive),
            }
        }
    }

    /// Names of the listeners of a server.
    fn listen(&mut self, server: &Directive) -> Vec<String> {
        let listens: Vec<&Directive> = server.inside().iter().filter(|directive| directive.name == "listen").collect();
        if listens.is_empty() {
            // "If the directive is not present then either *:80 is used": ngx_http_core_module, listen.
            return vec![self.listener("0.0.0.0:80")];
        }
        let mut names = Vec::new();
        for listen in listens {
            if is_tls(listen) {
                self.leave_out(listen, "TLS is described but not built into this version");
                continue;
            }
            match bind(listen.arg()) {
                // The same port on IPv6: one listener would stand in the way of the other.
                Some(bind) if bind.is_ipv6() && bind.ip().is_unspecified() => {
                    let v4 = format!("0.0.0.0:{}", bind.port());
                    if !self.listeners.values().any(|other| *other == v4) {
                        self.leave_out(listen, "written as an address of IPv4; change `bind` for both");
                    }
                    names.push(self.listener(&v4));
                }
                Some(bind) => names.push(self.listener(&bind.to_string())),
                None => self.leave_out(listen, "no address with a port"),
            }
        }
        names.dedup();
        names
    }

    fn listener(&mut self, bind: &str) -> String {
        if let Some((name, _)) = self.listeners.iter().find(|(_, other)| *other == bind) {
            return name.clone();
        }
        let port = bind.rsplit(':').next().unwrap_or_default();
        let wanted = if self.listeners.is_empty() { "web".to_owned() } else { format!("web-{port}") };
        let name = free(&wanted, |name| self.listeners.contains_key(name));
        self.listeners.insert(name.clone(), bind.to_owned());
        name
    }

    /// Hosts of a server; `None` stands for every host.
    fn hosts(&mut self, server: &Directive) -> Vec<Option<String>> {
        let mut hosts = Vec::new();
        for directive in server.inside().iter().filter(|directive| directive.name == "server_name") {
            for host in &directive.args {
                if host.is_empty() || host == "_" {
                    hosts.push(None);
                } else if let Some(rest) = host.strip_prefix('.').filter(|rest| is_host(rest)) {
                    hosts.extend([Some(rest.to_owned()), Some(format!("*.{rest}"))]);
                } else if is_host(host.strip_prefix("*.").unwrap_or(host)) {
                    hosts.push(Some(host.clone()));
                } else {
                    self.leave_out(directive, &format!("`{host}` is a pattern"));
                }
            }
        }
        let named = server.inside().iter().any(|directive| directive.name == "server_name");
        if hosts.is_empty() && !named {
            hosts.push(None);
        }
        hosts
    }

    fn location(&mut self, location: &Directive, places: &[Place], around: &[Directive]) {
        let Some(path) = self.path(location) else { return };
        let rates = self.rates(location, around);
        for directive in location.inside() {
            match directive.name.as_str() {
                "location" => self.location(directive, places, around),
                "return" => self.redirect(directive, &path, places),
                "limit_req" if self.declared.rate(directive).is_some() => {}
                "proxy_pass" => {
                    let Some(service) = self.destination(directive) else { continue };
                    let (_, uri) = authority_and_uri(directive.arg());
                    let keys = transform::keys(location, around, uri);
                    let more = rates.iter().cloned().chain(self.split(directive)).chain(keys).collect::<Vec<_>>();
                    self.route(places, &path, &service, &more);
                }
                _ => self.setting(directive),
            }
        }
        let passes = |directive: &Directive| {
            ["proxy_pass", "location"].contains(&directive.name.as_str()) || rails::redirect(directive).is_some()
        };
        if !location.inside().iter().any(passes) {
            self.leave_out(location, "it leads to no instance");
        } else if location.args[0] == "=" {
            self.leave_out(location, "translated, but it covers what lies below it too");
        }
    }

    /// The path of a location that is a prefix.
    fn path(&mut self, location: &Directive) -> Option<String> {
        let path = match &location.args[..] {
            [path] if path.starts_with('/') => path,
            [prefix, path] if prefix == "^~" && path.starts_with('/') => path,
            [equal, path] if equal == "=" && path.starts_with('/') => path,
            _ => {
                self.leave_out(location, "a pattern or a name; routes match whole parts of a path");
                return None;
            }
        };
        let path = path.trim_end_matches('/');
        if path.contains(['?', '#', ' ']) {
            self.leave_out(location, "no path");
            return None;
        }
        Some(if path.is_empty() { "/".to_owned() } else { path.to_owned() })
    }

    /// The service that a `proxy_pass` names.
    fn destination(&mut self, pass: &Directive) -> Option<String> {
        if let Some(split) = self.declared.split(pass.arg()).cloned() {
            let all = split.parts.iter().map(|(group, _)| group).chain([&split.rest]);
            if let Some(unknown) = all.into_iter().find(|group| !self.groups.contains_key(*group)) {
                self.leave_out(pass, &format!("`{unknown}` is no group of addresses"));
                return None;
            }
            return self.groups.get(&split.rest).cloned();
        }
        let target = pass.arg();
        if !target.starts_with("http://") || target.contains('$') {
            self.leave_out(pass, "only plain http:// addresses without variables");
            return None;
        }
        let (authority, uri) = authority_and_uri(target);
        if !transform::is_path(uri) {
            self.leave_out(pass, "it rewrites the path in a way that routes do not");
            return None;
        }
        if let Some(service) = self.groups.get(authority) {
            return Some(service.clone());
        }
        let Some(address) = address(authority) else {
            self.leave_out(pass, "no address with a port");
            return None;
        };
        let name = self.free_name(authority.split(':').next().unwrap_or_default());
        self.groups.insert(authority.to_owned(), name.clone());
        self.services.push(fixed(&name, vec![(address, 1)], None));
        Some(name)
    }

    /// One route for each of these places.
    fn route(&mut self, places: &[Place], path: &str, service: &str, more: &[(&'static str, String)]) {
        for (listener, host) in places {
            let route = Route {
                listener: (self.listeners.len() > 1).then(|| listener.clone()),
                host: host.clone(),
                path: path.to_owned(),
                service: service.to_owned(),
                more: more.to_vec(),
            };
            if !self.routes.contains(&route) {
                self.routes.push(route);
            }
        }
    }

    /// A `return` that leads elsewhere.
    fn redirect(&mut self, directive: &Directive, path: &str, places: &[Place]) {
        match rails::redirect(directive) {
            Some(to) if to.contains("https://") && self.without_tls => {
                self.leave_out(directive, "whatever has TLS for now must do this too");
            }
            Some(to) => self.route(places, path, "", &[("redirect", to)]),
            None => self.leave_out(directive, ""),
        }
    }

    /// The limits of a location: its own, or those around it.
    fn rates(&self, location: &Directive, around: &[Directive]) -> Option<(&'static str, String)> {
        let of = |directives: &[Directive]| {
            let limits = directives.iter().filter(|directive| directive.name == "limit_req");
            limits.filter_map(|limit| self.declared.rate(limit)).collect::<Vec<_>>()
        };
        let has_own = location.inside().iter().any(|directive| directive.name == "limit_req");
        let rates = of(if has_own { location.inside() } else { around });
        match &rates[..] {
            [] => None,
            [one] => Some(("rate", one.clone())),
            many => Some(("rate", format!("[{}]", many.join(", ")))),
        }
    }

    /// The parts of a `proxy_pass` to one of several groups.
    fn split(&self, pass: &Directive) -> Vec<(&'static str, String)> {
        let Some(split) = self.declared.split(pass.arg()) else { return Vec::new() };
        let parts = split.parts.iter().filter_map(|(group, percent)| {
            let service = self.groups.get(group).filter(|service| Some(*service) != self.groups.get(&split.rest))?;
            Some(format!("{{ service = \"{service}\", percent = {percent} }}"))
        });
        let parts: Vec<String> = parts.collect();
        if parts.is_empty() {
            return Vec::new();
        }
        vec![("split", format!("[{}]", parts.join(", "))), ("split_by", format!("\"{}\"", split.by))]
    }

    /// Any other directive of a server or a location.
    fn setting(&mut self, directive: &Directive) {
        match directive.name.as_str() {
            "limit_conn" => {
                return self.leave_out(directive, "see `connections_per_client` in `limits` of a listener");
            }
            "mirror" => return self.leave_out(directive, "see `mirror` of a route"),
            "error_page" => return self.leave_out(directive, "see `error_pages` of a listener or a service"),
            _ => {}
        }
        let silent = SILENT.contains(&directive.name.as_str());
        let always = directive.name != "add_header" || directive.args.get(2).is_some_and(|arg| arg == "always");
        match transform::is_translated(directive) {
            true if always => {}
            true => self.leave_out(directive, "translated, but it stands in answers of errors too"),
            false if silent || self.is_compression(directive) => {}
            false => self.leave_out(directive, ""),
        }
    }

    /// Services that no route leads to say nothing; with several services the file would be refused without.
    fn drop_unreachable(&mut self) {
        let routes = &self.routes;
        let named = |route: &Route, name: &str| {
            let part = format!("service = \"{name}\"");
            route.service == name || route.more.iter().any(|(key, value)| *key == "split" && value.contains(&part))
        };
        self.services.retain(|service| routes.iter().any(|route| named(route, &service.name)));
        // The first of several listeners is not named in routes that were made while it was the only one.
        if self.listeners.len() > 1 {
            let used: Vec<String> = self.routes.iter().filter_map(|route| route.listener.clone()).collect();
            for route in self.routes.iter_mut().filter(|route| route.listener.is_none()) {
                route.listener = Some("web".to_owned());
            }
            self.listeners.retain(|name, _| name == "web" || used.contains(name));
        }
    }

    fn free_name(&self, wanted: &str) -> String {
        free(&found::name(wanted, "app"), |name| self.services.iter().any(|service| service.name == name))
    }
}

/// The address of a `proxy_pass`, and the path behind it.
fn authority_and_uri(target: &str) -> (&str, &str) {
    let rest = target.strip_prefix("http://").unwrap_or(target);
    rest.find('/').map_or((rest, ""), |at| rest.split_at(at))
}

/// Whether an address of the file has TLS.
fn has_tls(directives: &[Directive]) -> bool {
    directives.iter().any(|one| one.name == "listen" && is_tls(one) || has_tls(one.inside()))
}

fn is_tls(listen: &Directive) -> bool {
    listen.args.iter().any(|arg| ["ssl", "quic"].contains(&arg.as_str()))
}

/// A listener's name and a host; `None` for every host.
type Place = (String, Option<String>);

fn places(listeners: &[String], hosts: &[Option<String>]) -> Vec<Place> {
    listeners.iter().flat_map(|listener| hosts.iter().map(move |host| (listener.clone(), host.clone()))).collect()
}

fn fixed(name: &str, instances: Vec<(String, u32)>, balance: Option<&'static str>) -> Service {
    let mut service = Service::run(name, [""; 0]);
    service.source = Source::Instances(instances);
    service.balance = balance;
    service
}

/// `wanted`, or with the first number that makes it new.
fn free(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(wanted) {
        return wanted.to_owned();
    }
    let short: String = wanted.chars().take(35).collect();
    (2..100_000)
        .map(|n| format!("{short}-{n}"))
        .find(|name| !taken(name))
        .expect("no file of this size has so many names")
}
