//! From HAProxy's sections to listeners, routes and services.
//!
//! Every `bind` becomes a listener, every group of servers that somebody is led to a service, and the rules of a section
//! its routes. Sections that refuse clients by what routes do not know lead to a page there; those of plain TCP, which has
//! no pages, are not imported then. It owns what it collects and reads nothing but sections.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        answers::{Answers, Closed},
        found::{self, Found, Listener, Route, Service},
        nginx::{Changes, Header, is_free},
        toml::{key, string},
    },
    conditions::Ask,
    listeners::{Listeners, asks_certificate, has_tls},
    pool,
    rules::{self, Act},
    syntax::{Line, Section},
    table::{End, Group, Place, Row, Table},
};

/// What says nothing about where requests go, or what the edge does anyway.
const SILENT: [&str; 34] = [
    "mode",
    "log",
    "option",
    "no",
    "timeout",
    "maxconn",
    "retries",
    "balance",
    "hash-type",
    "server",
    "bind",
    "acl",
    "default-server",
    "cookie",
    "http-check",
    "description",
    "id",
    "capture",
    "log-format",
    "log-format-sd",
    "log-tag",
    "unique-id-format",
    "unique-id-header",
    "compression",
    "fullconn",
    "backlog",
    "stick-table",
    "default_backend",
    "errorfile",
    "error-log-format",
    "persist",
    "disabled",
    "enabled",
    "stats",
];

/// The stack; without services where the file leads nobody to an instance.
pub(super) fn translate(source: &str, sections: &[Section]) -> Found {
    let mut work = Work { source: source.to_owned(), ..Work::default() };
    work.has_tls = sections.iter().any(has_tls);
    let lines = sections.iter().flat_map(|section| &section.lines);
    work.texts = lines.map(|line| (line.number, line.text())).collect();
    for section in sections {
        work.others(section);
    }
    for section in sections.iter().filter(|section| ["backend", "listen"].contains(&section.kind.as_str())) {
        work.group(section);
    }
    for section in sections.iter().filter(|section| ["frontend", "listen"].contains(&section.kind.as_str())) {
        work.section(section);
    }
    work.found()
}

#[derive(Default)]
struct Work {
    source: String,
    has_tls: bool,
    /// Lines by their number.
    texts: BTreeMap<usize, String>,
    groups: BTreeMap<String, Group>,
    /// Changes to header fields by group.
    changes: BTreeMap<String, Vec<Change>>,
    services: Vec<Service>,
    /// Names of cookies: each service needs one of its own.
    cookies: BTreeSet<String>,
    listeners: Listeners,
    routes: Vec<Route>,
    answers: Answers,
    closed: Vec<String>,
    notes: Vec<(usize, String)>,
}

/// A change to a field of requests, or of answers.
type Change = (bool, Header);

impl Work {
    fn note(&mut self, line: &Line, why: &str) {
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        self.notes.push((line.number, format!("{}{why}", line.text())));
    }

    fn said(&self, line: usize) -> String {
        let text = self.texts.get(&line).map_or("nobody would answer", String::as_str);
        if line == 0 { format!("{}: {text}", self.source) } else { format!("{} line {line}: `{text}`", self.source) }
    }

    /// Lines that are nobody's business here are noted, once for each.
    fn others(&mut self, section: &Section) {
        match section.kind.as_str() {
            "defaults" | "frontend" | "backend" | "listen" => {}
            "global" | "userlist" | "ring" | "traces" | "log-profile" => return,
            kind => return self.notes.push((section.line, format!("{kind} {}", section.name))),
        }
        for line in &section.lines {
            let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
            match words[..] {
                ["errorfile" | "errorloc" | "errorfiles" | "http-error", ..] => self.note(line, "see `error_pages`"),
                ["stats", "enable" | "uri", ..] => self.note(line, "see `keel status` and `keel top`"),
                ["tcp-request", "inspect-delay", ..] | ["tcp-request", _, "accept", ..] | ["stick", "on", "src"] => {}
                ["http-request" | "http-response", ..] if header(line).is_some() => {}
                ["http-request", "set-header" | "add-header", field, ..] if is_ours(field) => {}
                [first, ..] if SILENT.contains(&first) || rules::is_rule(line) => {}
                _ => self.note(line, ""),
            }
        }
    }

    /// A group of servers with its own rules.
    fn group(&mut self, section: &Section) {
        let port = section.lines.iter().find(|line| line.word(0) == "bind");
        let port = port.and_then(|line| line.word(1).rsplit_once(':')?.1.parse().ok());
        let taken = |name: &str| self.services.iter().any(|one| one.name == name);
        let name = super::super::answers::free(&found::name(&section.name, "app"), taken);
        let cookie = pool::cookie(section).map(str::to_owned);
        let again = cookie.is_some_and(|cookie| !self.cookies.insert(cookie));
        let suffix = if again { format!("-{name}") } else { String::new() };
        let made = pool::services(section, (&name, &suffix), port, &mut self.notes);
        let mut group = Group { service: made.first().map(|service| service.name.clone()), ..Group::default() };
        self.services.extend(made);
        if section.kind == "backend" {
            let (rules, left_out) = rules::of(section, self.has_tls);
            for (line, why) in &left_out {
                self.note(line, why);
            }
            group.rules = rules;
            self.changes.insert(section.name.clone(), headers(section));
        }
        group.has_servers = group.service.is_some();
        self.groups.insert(section.name.clone(), group);
    }

    /// A section that clients connect to.
    fn section(&mut self, section: &Section) {
        let (mut rules, left_out) = rules::of(section, self.has_tls);
        for (line, why) in &left_out {
            self.note(line, why);
        }
        let own = self.groups.get(&section.name).is_some_and(|group| group.has_servers) && section.kind == "listen";
        if own && section.last(&["default_backend"]).is_none() {
            let line = Line { words: vec![section.kind.clone(), section.name.clone()], number: section.line };
            let condition = super::conditions::Condition::always();
            rules.push(rules::Rule { act: Act::Lead(section.name.clone()), condition, line, of_request: false });
        }
        if rules.is_empty() {
            let line = Line { words: vec![section.kind.clone(), section.name.clone()], number: section.line };
            return self.note(&line, "it leads to no instance");
        }
        if section.is_tcp() {
            return self.tcp(section, &rules);
        }
        if let Some(line) = asks_certificate(section) {
            let condition = super::conditions::Condition::unknown();
            rules.insert(0, rules::Rule { act: Act::Refuse(403), condition, line: line.clone(), of_request: false });
        }
        let names = self.listeners.of(section, &pool::client_limits(section), &mut self.notes);
        let mut table = Table { rules: &rules, groups: &self.groups, notes: BTreeSet::new() };
        let places = table.places();
        let notes = table.notes;
        self.notes.extend(notes);
        let Some(places) = places else {
            self.listeners.0.retain(|name, _| !names.contains(name));
            let line = Line { words: vec![section.kind.clone(), section.name.clone()], number: section.line };
            return self.note(&line, "more hosts and paths than could be told apart");
        };
        let own = headers(section);
        for place in &places {
            self.place(place, &names, &own);
        }
    }

    /// A section of connections: one listener, one service.
    fn tcp(&mut self, section: &Section, rules: &[rules::Rule]) {
        let line = Line { words: vec![section.kind.clone(), section.name.clone()], number: section.line };
        let lead = rules.iter().filter_map(|rule| if let Act::Lead(name) = &rule.act { Some(name) } else { None });
        let leads: Vec<&String> = lead.collect();
        let [name] = leads[..] else {
            return self.note(&line, "a listener of TCP leads to one service; it is not imported");
        };
        let group = self.groups.get(name);
        let all = rules.iter().chain(group.iter().flat_map(|group| &group.rules));
        let anywhere = super::conditions::Cell { host: None, path: "/" };
        let limit = |rule: &rules::Rule| {
            let holds = rule.condition.holds(anywhere);
            holds.when.is_empty() && holds.maybe.iter().all(|(_, why)| *why == super::conditions::Unknown::Limit)
        };
        let refuses = all
            .filter(|rule| matches!(rule.act, Act::Refuse(_)))
            .find(|rule| !limit(rule))
            .map(|rule| rule.line.number);
        if let Some(refuses) = refuses.or(asks_certificate(section).map(|line| line.number)) {
            let text = format!("{} {}: not imported, by {}", section.kind, section.name, self.said(refuses));
            return self.closed.push(text);
        }
        let Some(service) = group.and_then(|group| group.service.clone()) else {
            return self.note(&line, "it leads to no instance");
        };
        let mut more = vec![("protocol", string("tcp")), ("service", string(&service))];
        more.extend(pool::client_limits(section));
        self.listeners.of(section, &more, &mut self.notes);
    }

    /// Writes the routes of a place.
    fn place(&mut self, (host, path, rows): &Place, listeners: &[String], own: &[Change]) {
        for row in rows {
            let Some(asked) = asked(&row.asks) else { continue };
            let (mut comments, mut service, mut more) = (Vec::new(), String::new(), Vec::new());
            match &row.end {
                End::Open(name) => (service, more) = self.open(name, row, path, own),
                End::Redirect(to) => more.push(("redirect", to.clone())),
                End::Answer(page) => service = self.page(page.clone()),
                End::Refused(status, line) => {
                    comments.push(format!("{}.", self.said(*line)));
                    service = self.closed_page(*status);
                }
                End::Closed(status, line, was) => {
                    let was = was.as_ref().map(|name| {
                        let (service, more) = self.open(name, row, path, own);
                        std::iter::once(("service", string(&service))).chain(more).collect::<Vec<_>>()
                    });
                    let closed = Closed {
                        because: self.said(*line),
                        beside: String::new(),
                        status: *status,
                        was: was.unwrap_or_default(),
                    };
                    comments = closed.comments();
                    let which: Vec<String> =
                        asked.iter().map(|(key, value)| format!(" with {key} = {value}")).collect();
                    self.closed.push(closed.summary(host.as_deref(), path) + &which.concat());
                    service = self.closed_page(*status);
                }
            }
            for listener in listeners {
                self.routes.push(Route {
                    comments: comments.clone(),
                    listener: Some(listener.clone()),
                    host: host.clone(),
                    path: path.clone(),
                    service: service.clone(),
                    more: asked.iter().chain(&more).cloned().collect(),
                });
            }
        }
    }

    /// The service of a group, and what its routes change.
    fn open(&self, name: &str, row: &Row, path: &str, own: &[Change]) -> (String, Vec<(&'static str, String)>) {
        let service = self.groups.get(name).and_then(|group| group.service.clone()).expect("only such a group is open");
        let mut more = Vec::new();
        if row.exact {
            more.push(("rewrite", format!("{{ path = {} }}", string(path))));
        }
        let (mut requests, mut answers) = (Changes::default(), Changes::default());
        for (of_request, header) in own.iter().chain(self.changes.get(name).into_iter().flatten()) {
            if *of_request { &mut requests } else { &mut answers }.take(header.clone());
        }
        more.extend(requests.value().map(|value| ("request_headers", value)));
        more.extend(answers.value().map(|value| ("response_headers", value)));
        (service, more)
    }

    fn page(&mut self, page: found::Page) -> String {
        self.answers.page("answer", page, |name| self.services.iter().any(|one| one.name == name))
    }

    fn closed_page(&mut self, status: u16) -> String {
        self.answers.closed(status, |name| self.services.iter().any(|one| one.name == name))
    }

    fn found(mut self) -> Found {
        self.drop_unreachable();
        let services: Vec<&str> = self.services.iter().map(|service| service.name.as_str()).collect();
        let mut notes = Vec::new();
        let what = if services.is_empty() {
            "leads nobody to an instance".to_owned()
        } else {
            notes.push("keel can start and supervise these instances itself: replace `instances` by `run`.".to_owned());
            notes.push(
                "Paths match at whole parts: what was for `path_beg /api` is for /api and /api/x here, not for /apix."
                    .to_owned(),
            );
            format!("{} listeners to {}", self.listeners.0.len(), services.join(", "))
        };
        if !self.notes.is_empty() {
            notes.push(format!("Left out from {}, by line:", self.source));
            self.notes.sort();
            self.notes.dedup();
            notes.extend(self.notes.iter().map(|(line, text)| format!("line {line}: {text}")));
        }
        let source = self.source.clone();
        if services.is_empty() {
            let closed = self.closed.drain(..);
            notes.extend(closed.map(|place| format!("Closed in {source}, and nothing here leads there: {place}")));
            return Found { source, what, notes, ..Found::default() };
        }
        let services = self.services.into_iter().chain(self.answers.used(&self.routes)).collect();
        let listeners = self.listeners.0;
        Found { source, what, listeners, routes: self.routes, services, notes, closed: self.closed }
    }

    /// Services that nobody is led to, and listeners that lead nowhere.
    fn drop_unreachable(&mut self) {
        let quoted = |name: &str| format!("service = {}", string(name));
        let named = |route: &Route, name: &str| {
            route.service == name
                || route.comments.iter().any(|line| line.starts_with(' ') && line.contains(&quoted(name)))
        };
        let led = |one: &Listener, name: &str| {
            one.more.iter().any(|(key, value)| *key == "service" && *value == string(name))
        };
        let is_used = |name: &str| {
            self.routes.iter().any(|route| named(route, name)) || self.listeners.0.values().any(|one| led(one, name))
        };
        let mut used: Vec<String> =
            self.services.iter().map(|one| one.name.clone()).filter(|name| is_used(name)).collect();
        let spare = |one: &Service| {
            let value = one
                .more
                .iter()
                .find(|(key, _)| *key == "fallback")
                .map(|(_, value)| value.trim_matches('"').to_owned());
            value.filter(|_| used.contains(&one.name))
        };
        let spares: Vec<String> = self.services.iter().filter_map(spare).collect();
        used.extend(spares);
        self.services.retain(|one| used.contains(&one.name));
        let from = |name: &String| self.routes.iter().any(|route| route.listener.as_ref() == Some(name));
        let used: Vec<String> = self.listeners.0.keys().filter(|name| from(name)).cloned().collect();
        self.listeners.0.retain(|name, one| !one.is_http() || used.contains(name));
        if self.listeners.0.values().filter(|one| one.is_http()).count() == 1 {
            self.routes.iter_mut().for_each(|route| route.listener = None);
        }
    }
}

/// What a route asks for, as keys; `None` where nobody could fulfil it.
fn asked(asks: &[Ask]) -> Option<Vec<(&'static str, String)>> {
    let (mut methods, mut headers): (Option<Vec<String>>, BTreeMap<&String, &String>) = (None, BTreeMap::new());
    for ask in asks {
        match ask {
            Ask::Methods(all) => {
                methods = Some(match methods {
                    None => all.clone(),
                    Some(before) => before.into_iter().filter(|one| all.contains(one)).collect(),
                });
            }
            Ask::Header(name, value) if headers.insert(name, value).is_some_and(|other| other != value) => return None,
            Ask::Header(..) => {}
        }
    }
    if methods.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    let methods = methods.map(|all| ("methods", pool::names(&all)));
    let headers: Vec<String> =
        headers.iter().map(|(name, value)| format!("{} = {}", key(name), string(value))).collect();
    let headers = (!headers.is_empty()).then(|| ("headers", format!("{{ {} }}", headers.join(", "))));
    Some(methods.into_iter().chain(headers).collect())
}

/// Changes to header fields that go without a condition.
fn headers(section: &Section) -> Vec<Change> {
    section.all().filter_map(header).collect()
}

/// A field that the edge sets.
fn is_ours(field: &str) -> bool {
    field.to_ascii_lowercase().starts_with("x-forwarded-") || field.eq_ignore_ascii_case("x-real-ip")
}

/// `http-request set-header NAME VALUE` and its like. A value that is not known takes the field away from requests, so
/// that no client can say it in its place.
fn header(line: &Line) -> Option<Change> {
    let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
    let of_request = *words.first()? == "http-request";
    let name = words.get(2)?.to_ascii_lowercase();
    if words.iter().any(|word| ["if", "unless"].contains(word)) || !is_free(&name) || !words[0].starts_with("http-re") {
        return None;
    }
    let value = words.get(3).map(|value| value.replace("%[src]", "{client}").replace("%ci", "{client}"));
    let known = value.filter(|value| {
        let plain = value.replace("{client}", "");
        !value.is_empty() && plain.bytes().all(|byte| (b' '..=b'~').contains(&byte) && !b"%{$".contains(&byte))
    });
    let known = known.filter(|value| value.trim() == value);
    match (words[1], known) {
        ("del-header", _) if words.len() == 3 => Some((of_request, Header::Remove(name))),
        ("set-header", Some(value)) => Some((of_request, Header::Set(words[2].to_owned(), value))),
        ("add-header", Some(value)) => Some((of_request, Header::Add(words[2].to_owned(), value))),
        ("set-header", None) if of_request => Some((true, Header::Remove(name))),
        _ => None,
    }
}
