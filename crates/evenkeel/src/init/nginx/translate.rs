//! From nginx's directives to listeners, routes and services.
//!
//! A group of addresses becomes a service, a `location` with `proxy_pass` a route for each of its server's names.
//! What has no counterpart becomes a note with its line; directives that only tune nginx itself, or that set what
//! the edge sets anyway, are passed over in silence. A `location` whose meaning would change is left out rather
//! than translated wrongly, and one that was protected is closed. It owns what it collects and reads nothing but the
//! directives.

use std::collections::BTreeMap;

use super::{
    super::{
        answers::{Answers, free},
        found::{self, Found, Listener, Page, Route, Service},
    },
    address::{address, bind, is_host, member},
    choice::Choice,
    guards::{self, Guard},
    rails::{self, Declared},
    stream,
    syntax::Directive,
    transform,
    trust::{self, Trust},
};

/// The keyword that opens a group of addresses in nginx's file.
pub(super) const GROUP: &str = "upstream";

/// Where clients reach a server that has only addresses with TLS: not from outside, since there they were promised it.
pub(super) const WITHOUT_TLS: &str = "127.0.0.1:8080";

/// A port that the console listens at, unless it is told otherwise.
pub(super) const CONSOLE: u16 = 9400;

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
    let mut work = Work { source: source.to_owned(), without_tls: has_tls(directives), ..Work::default() };
    work.declared.read(directives);
    work.groups(directives);
    work.level(directives, &[], &Trust::default());
    work.settle_trust();
    work.drop_unreachable();
    let compress = transform::compresses(directives);
    work.services.iter_mut().for_each(|service| service.compress = compress && service.compress);
    let services: Vec<&str> = work.services.iter().map(|service| service.name.as_str()).collect();
    let mut notes = Vec::new();
    let what = if services.is_empty() {
        "leads no request to an instance".to_owned()
    } else {
        let start = "keel can start and supervise these instances itself: replace `instances` by `run`.";
        notes.push(start.to_owned());
        let others = work.listeners.values().filter(|listener| !listener.is_http()).count();
        let others = if others > 0 { format!(" and {others} listeners of TCP and UDP") } else { String::new() };
        format!("{} routes{others} to {}", work.routes.len(), services.join(", "))
    };
    if !work.closed.is_empty() {
        notes.push(ENCODED_SLASHES.to_owned());
    }
    if work.left_out.is_empty() {
        notes.push(format!("Everything else that {source} says about requests was translated."));
    } else {
        notes.push(format!("Left out from {source}, by line:"));
        work.left_out.sort();
        work.left_out.dedup();
        notes.extend(work.left_out.iter().map(|(line, text)| format!("line {line}: {text}")));
    }
    if services.is_empty() {
        notes.extend(
            work.closed.drain(..).map(|place| format!("Closed in {source}, and nothing here leads there: {place}")),
        );
        return Found { source: source.to_owned(), what, notes, ..Found::default() };
    }
    let (listeners, routes, closed) = (work.listeners, work.routes, work.closed);
    let answers = work.answers.used(&routes);
    let services = work.services.into_iter().chain(answers).collect();
    Found { source: source.to_owned(), what, listeners, routes, services, notes, closed }
}

/// What a reader must know of closed places.
const ENCODED_SLASHES: &str = "An encoded slash separates nothing in the path of a route, as it does in nginx: `/admin%2Fx` is not \
                               below `/admin` here. A service that decodes it has to protect such places itself.";

/// What is collected on the way.
#[derive(Default)]
pub(super) struct Work {
    /// The file's name.
    pub(super) source: String,
    /// Name in the file, and name of the service.
    groups: BTreeMap<String, String>,
    pub(super) listeners: BTreeMap<String, Listener>,
    routes: Vec<Route>,
    pub(super) services: Vec<Service>,
    pub(super) declared: Declared,
    /// Addresses with TLS are left out.
    pub(super) without_tls: bool,
    answers: Answers,
    /// Whom each listener's servers believe.
    trusts: BTreeMap<String, Vec<Trust>>,
    /// Places that nobody gets into.
    pub(super) closed: Vec<String>,
    /// Line and words.
    left_out: Vec<(usize, String)>,
}

impl Work {
    pub(super) fn leave_out(&mut self, directive: &Directive, why: &str) {
        let text: String = directive.words().chars().take(120).collect();
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
        let (instances, choice) = self.members(group);
        if instances.is_empty() {
            return self.leave_out(group, "no address of it can be used");
        }
        let (balance, more) = choice.settle(instances.iter().any(|(_, weight)| *weight != 1));
        let name = self.free_name(group.arg());
        self.groups.insert(group.arg().to_owned(), name.clone());
        let fixed = Service::fixed(&name, instances);
        self.services.push(Service { more, balance: Some(balance), compress: true, ..fixed });
    }

    /// Addresses of a group, and how one of them is chosen.
    pub(super) fn members(&mut self, group: &Directive) -> (Vec<(String, u32)>, Choice) {
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
        (instances, choice)
    }

    /// What stands in `http` or, in a file that is included there, at the top.
    fn level(&mut self, directives: &[Directive], around: &[Guard], trust: &Trust) {
        // An included file here has servers mostly; what it could protect is not known.
        let guards =
            guards::in_force(around, directives).into_iter().filter(|guard| !guard.words.starts_with("include "));
        let (guards, trust): (Vec<Guard>, Trust) = (guards.collect(), trust.within(directives));
        for directive in directives {
            match directive.name.as_str() {
                "http" => self.level(directive.inside(), &guards, &trust),
                "server" => {
                    self.trust_of(directive, &trust);
                    self.server(directive, &guards);
                }
                "stream" => stream::translate(self, directive),
                GROUP => {}
                "limit_req_zone" | "split_clients" if rails::is_known(directive) => {}
                "include" if guards::is_harmless(directive) => {}
                "include" => {
                    self.leave_out(directive, "included files are not followed: run `keel init` on a whole file");
                }
                _ => self.setting(directive),
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

    /// Names of the listeners of a server.
    pub(super) fn listen(&mut self, server: &Directive) -> Vec<String> {
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
                    if !self.listeners.values().any(|other| other.bind == v4) {
                        self.leave_out(listen, "written as an address of IPv4; change `bind` for both");
                    }
                    names.push(self.listener(&v4));
                }
                Some(bind) if bind.port() == CONSOLE => self.leave_out(listen, "the console of keel has this port"),
                Some(bind) => names.push(self.listener(&bind.to_string())),
                None => self.leave_out(listen, "no address with a port"),
            }
        }
        names.dedup();
        names
    }

    pub(super) fn listener(&mut self, bind: &str) -> String {
        let same = |listener: &Listener| listener.is_http() && listener.bind == bind;
        if let Some((name, _)) = self.listeners.iter().find(|(_, other)| same(other)) {
            return name.clone();
        }
        let port = bind.rsplit(':').next().unwrap_or_default();
        let first = !self.listeners.values().any(Listener::is_http);
        let wanted = if first { "web".to_owned() } else { format!("web-{port}") };
        let name = free(&wanted, |name| self.listeners.contains_key(name));
        self.listeners.insert(name.clone(), Listener { bind: bind.to_owned(), more: Vec::new() });
        name
    }

    /// A page that says only this status.
    pub(super) fn closed_page(&mut self, status: u16) -> String {
        self.answers.closed(status, |name| self.services.iter().any(|service| service.name == name))
    }

    /// Any other page.
    pub(super) fn page(&mut self, wanted: &str, page: Page) -> String {
        self.answers.page(wanted, page, |name| self.services.iter().any(|service| service.name == name))
    }

    /// Hosts of a server; `None` stands for every host.
    pub(super) fn hosts(&mut self, server: &Directive) -> Vec<Option<String>> {
        let mut hosts = Vec::new();
        for directive in server.inside().iter().filter(|directive| directive.name == "server_name") {
            for host in &directive.args {
                if host.is_empty() {
                    self.leave_out(directive, "requests without a host go where those of an unknown one go");
                } else if host == "_" {
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

    /// The service that a `proxy_pass` names.
    pub(super) fn destination(&mut self, pass: &Directive) -> Option<String> {
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
        self.services.push(Service { compress: true, ..Service::fixed(&name, vec![(address, 1)]) });
        Some(name)
    }

    /// Takes the routes of one place. What another server says of the same one is dropped, unless that one is closed.
    pub(super) fn put(&mut self, batch: Vec<Route>) {
        let Some(first) = batch.first() else { return };
        let same = |one: &Route| one.listener == first.listener && one.host == first.host && one.path == first.path;
        let Some(at) = self.routes.iter().position(same) else { return self.routes.extend(batch) };
        if self.answers.is_shut(&first.service) {
            self.routes.retain(|one| !same(one));
            self.routes.splice(at..at, batch);
        }
    }

    /// The limits of a location: its own, or those around it.
    pub(super) fn rates(&self, location: &Directive, around: &[Directive]) -> Option<(&'static str, String)> {
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
    pub(super) fn split(&self, pass: &Directive) -> Vec<(&'static str, String)> {
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

    /// Any other directive.
    pub(super) fn setting(&mut self, directive: &Directive) {
        match directive.name.as_str() {
            // Where they keep somebody out, the place is closed, and that is said there.
            _ if guards::is_about_access(directive) || guards::is_harmless(directive) => return,
            _ if trust::is_known(directive) => return,
            _ if transform::is_unknown(directive) => {
                return self.leave_out(directive, "its value is not known here, and clients cannot say it either");
            }
            "real_ip_header" | "set_real_ip_from" => {
                return self.leave_out(directive, "see `trusted` of a listener: whose X-Forwarded-For is believed");
            }
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

    /// Whom a server believes about clients' addresses, noted for each of its listeners.
    fn trust_of(&mut self, server: &Directive, outer: &Trust) {
        let trust = outer.within(server.inside());
        for listen in server.inside().iter().filter(|one| one.name == "listen" && !is_tls(one)) {
            let asks = listen.args.iter().any(|arg| arg == "proxy_protocol");
            if let Some(bind) = bind(listen.arg()) {
                self.trusts.entry(trust::key(bind)).or_default().push(trust.of_listener(asks));
            }
            if asks && !trust.knows_proxies() {
                let why =
                    "see `proxy_protocol` and `trusted` of a listener: the latter has to say where the proxies are";
                self.leave_out(listen, why);
            }
        }
    }

    /// What all servers of a listener agree upon.
    fn settle_trust(&mut self) {
        for listener in self.listeners.values_mut().filter(|listener| listener.is_http()) {
            let all = self.trusts.get(&listener.bind).map(Vec::as_slice).unwrap_or_default();
            if let Some(first) = all.first().filter(|first| all.iter().all(|other| other == *first)) {
                listener.more.extend(first.keys());
            } else if all.len() > 1 {
                let text =
                    format!("servers at {} believe different networks; see `trusted` of a listener", listener.bind);
                self.left_out.push((0, text));
            }
        }
    }

    /// Services that no route leads to say nothing; with several services the file would be refused without.
    fn drop_unreachable(&mut self) {
        let (routes, listeners) = (&self.routes, &self.listeners);
        let named = |route: &Route, name: &str| {
            let part = format!("service = \"{name}\"");
            let comment = |line: &String| line.starts_with(' ') && line.contains(&part);
            route.service == name
                || route.comments.iter().any(comment)
                || route.more.iter().any(|(key, value)| *key == "split" && value.contains(&part))
        };
        let led = |name: &str| {
            listeners
                .values()
                .flat_map(|one| &one.more)
                .any(|(key, value)| *key == "service" && *value == format!("\"{name}\""))
        };
        self.services.retain(|service| led(&service.name) || routes.iter().any(|route| named(route, &service.name)));
        let used: Vec<String> = self.routes.iter().filter_map(|route| route.listener.clone()).collect();
        self.listeners.retain(|name, one| !one.is_http() || name == "web" && !used.is_empty() || used.contains(name));
        if self.listeners.values().filter(|listener| listener.is_http()).count() == 1 {
            self.routes.iter_mut().for_each(|route| route.listener = None);
        }
    }

    pub(super) fn free_name(&self, wanted: &str) -> String {
        let taken = |name: &str| self.answers.has(name) || self.services.iter().any(|service| service.name == name);
        free(&found::name(wanted, "app"), taken)
    }
}

/// The address of a `proxy_pass`, and the path behind it.
pub(super) fn authority_and_uri(target: &str) -> (&str, &str) {
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
pub(super) type Place = (String, Option<String>);

pub(super) fn places(listeners: &[String], hosts: &[Option<String>]) -> Vec<Place> {
    listeners.iter().flat_map(|listener| hosts.iter().map(move |host| (listener.clone(), host.clone()))).collect()
}
