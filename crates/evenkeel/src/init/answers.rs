//! Answers that the edge gives itself, for places that lead to no instance: closed ones, and fixed texts.
//!
//! What protected a place elsewhere and cannot be carried over must not be lost, so such a place is closed: its route
//! leads to a page, and a comment says what stood there, why, and with which keys the route is opened again. One
//! service is made for each different answer. Nothing here reads a file.

use super::found::{Page, Route, Service, Source};

/// Services that are answers.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<Service>);

impl Answers {
    /// The name of a page that says only this status. `taken` knows the names of other services.
    pub(super) fn closed(&mut self, status: u16, taken: impl Fn(&str) -> bool) -> String {
        let wanted = if status == 403 { "closed".to_owned() } else { format!("closed-{status}") };
        let text = format!("{status} {}\n", reason(status));
        self.page(&wanted, Page { status, text, content_type: None }, taken)
    }

    /// The name of a page, which is new only where there is none like it.
    pub(super) fn page(&mut self, wanted: &str, page: Page, taken: impl Fn(&str) -> bool) -> String {
        let same = |service: &&Service| matches!(&service.source, Source::Page(other) if *other == page);
        if let Some(service) = self.0.iter().find(same) {
            return service.name.clone();
        }
        let name = free(wanted, |name| taken(name) || self.has(name));
        self.0.push(Service::page(&name, page));
        name
    }

    /// Whether there is one of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|service| service.name == name)
    }

    /// Whether there is one of this name that keeps everybody out.
    pub(super) fn is_shut(&self, name: &str) -> bool {
        let refuses = |service: &Service| matches!(&service.source, Source::Page(page) if page.status >= 400);
        self.0.iter().any(|service| service.name == name && refuses(service))
    }

    /// Those that a route leads to.
    pub(super) fn used(self, routes: &[Route]) -> Vec<Service> {
        self.0.into_iter().filter(|service| routes.iter().any(|route| route.service == service.name)).collect()
    }
}

/// A place whose protection could not be carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    /// What stood there: the directives with their file and line.
    pub(super) because: String,
    /// What is to be known beside, as whole sentences; may be empty.
    pub(super) beside: String,
    /// What clients get.
    pub(super) status: u16,
    /// Where it led, as keys of a route.
    pub(super) was: Vec<(&'static str, String)>,
}

impl Closed {
    /// The comment above its route.
    pub(super) fn comments(&self) -> Vec<String> {
        let Self { because, beside, status, was } = self;
        let decide = "Decide who may come here, and see to it in the application or in front of keel.";
        let beside = if beside.is_empty() { String::new() } else { format!(" {beside}") };
        let mut lines = vec![format!(
            "CLOSED: {because}. keel cannot carry this over, so clients get {status} and no instance is asked.{beside} {decide}"
        )];
        if !was.is_empty() {
            lines.push("To open it then, put this in place of `service`:".to_owned());
            lines.extend(was.iter().map(|(key, value)| format!("  {key} = {value}")));
        }
        lines
    }

    /// The line of the summary.
    pub(super) fn summary(&self, host: Option<&str>, path: &str) -> String {
        let host = host.map_or_else(String::new, |host| format!(" of {host}"));
        format!("{path}{host}: {} by {}", self.status, self.because)
    }
}

/// What a status is called (RFC 9110 section 15).
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ if status < 400 => "Answer",
        _ => "Refused",
    }
}

/// `wanted`, or with the first number that makes it new.
pub(super) fn free(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(wanted) {
        return wanted.to_owned();
    }
    let short: String = wanted.chars().take(35).collect();
    (2..100_000)
        .map(|n| format!("{short}-{n}"))
        .find(|name| !taken(name))
        .expect("no file of this size has so many names")
}
