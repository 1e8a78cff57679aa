//! What of `rewrite`, `request_headers`, `response_headers`, `error_pages` and `compress` is refused, and what to write
//! instead.
//!
//! Nothing gets through that ends a line, begins another field, or changes where a message ends and who it is for: what
//! is written by hand must not be able to do what a hostile client is not allowed to do.

use std::collections::BTreeMap;

use super::{Compress, ErrorPage, HeaderChanges, Rewrite};
use crate::stack::{Page, Route, Service, Stack};

/// Takes a fault: where, what, and what would be right.
type Fault<'a> = dyn FnMut(&[&str], String, Option<String>) + 'a;

/// Finds every fault.
pub(in crate::stack) fn check(stack: &Stack, fault: &mut Fault<'_>) {
    for (name, listener) in &stack.listeners {
        error_pages(&["listeners", name, "error_pages"], &listener.error_pages, fault);
        for (key, _) in listener.error_pages.iter().filter(|(_, page)| page.of_instances) {
            let help = "say so in `error_pages` of the service".to_owned();
            fault(
                &["listeners", name, "error_pages", key],
                "`of_instances` is a key of services".to_owned(),
                Some(help),
            );
        }
    }
    for (index, route) in stack.routes.iter().enumerate() {
        of_route(&index.to_string(), route, fault);
    }
    for (name, service) in &stack.services {
        of_service(name, service, fault);
    }
}

fn of_route(at: &str, route: &Route, fault: &mut Fault<'_>) {
    if let Some(its) = &route.rewrite {
        rewrite(at, &route.path, its, fault);
    }
    headers(&["routes", at, "request_headers"], &route.request_headers, Direction::Request, fault);
    headers(&["routes", at, "response_headers"], &route.response_headers, Direction::Response, fault);
}

fn of_service(name: &str, service: &Service, fault: &mut Fault<'_>) {
    error_pages(&["services", name, "error_pages"], &service.error_pages, fault);
    if let Some(its) = &service.compress {
        compress(name, its, fault);
    }
    if service.page.is_some() && (service.compress.is_some() || !service.error_pages.is_empty()) {
        let help = "leave out `compress` and `error_pages`".to_owned();
        fault(&["services", name, "page"], "a page is answered as it is".to_owned(), Some(help));
    }
}

/// Whether the bytes may stand in a path on the wire and name the same thing to everybody.
fn is_plain_path(text: &str) -> bool {
    let fits = |byte: u8| matches!(byte, 0x21..=0x7e) && !b"?#\\\"<>^`{|}".contains(&byte);
    let plain = |segment: &str| !matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    text.starts_with('/') && !text.contains("//") && text.bytes().all(fits) && text.split('/').all(plain)
}

/// Whether `path` is `prefix` or lies below it.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn rewrite(at: &str, route_path: &str, rewrite: &Rewrite, fault: &mut Fault<'_>) {
    let keys = [
        ("strip_prefix", &rewrite.strip_prefix, "as `/api`"),
        ("add_prefix", &rewrite.add_prefix, "as `/v2`"),
        ("path", &rewrite.path, "as `/index`"),
    ];
    for (key, text, example) in keys {
        let Some(text) = text else { continue };
        let path = ["routes", at, "rewrite", key];
        if !is_plain_path(text) {
            let help = format!("{example}: starts with `/`, without query, empty segments, `.` and `..`");
            fault(&path, format!("`{text}` is not a path"), Some(help));
        } else if key != "path" && text == "/" {
            fault(&path, "`/` changes nothing".to_owned(), Some(format!("{example}, or leave it out")));
        } else if key == "strip_prefix" && !is_below(route_path, text) && !is_below(text, route_path) {
            let message = format!("no request of this route begins with `{text}`: its path is `{route_path}`");
            fault(&path, message, Some("give the route's path, or a part of it".to_owned()));
        }
    }
    if rewrite.path.is_some() && (rewrite.strip_prefix.is_some() || rewrite.add_prefix.is_some()) {
        let help = Some("use `path`, or `strip_prefix` and `add_prefix`".to_owned());
        fault(&["routes", at, "rewrite"], "`path` replaces the whole path, prefixes too".to_owned(), help);
    }
    if let Some(host) = rewrite.host.as_ref().filter(|host| !is_authority(host)) {
        let help = Some("as `app.internal` or `app.internal:8080`".to_owned());
        fault(&["routes", at, "rewrite", "host"], format!("`{host}` is not a host"), help);
    }
}

/// A host, with a port or without, as it may stand in `Host`.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bracketed.map_or_else(|| name(host), |host| host.parse::<std::net::Ipv6Addr>().is_ok());
    host && text.len() <= 255 && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Which heads are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Request,
    Response,
}

/// What to do instead of changing a field that says where a message ends, who it is for, or whether it may be sent
/// again; `None` where the field may be changed.
fn protected(name: &str, direction: Direction) -> Option<&'static str> {
    // Many applications get names in a form in which `-` and `_` are one (RFC 3875 section 4.1.18).
    let name = name.to_ascii_lowercase().replace('_', "-");
    let (name, request) = (name.as_str(), direction == Direction::Request);
    Some(match name {
        "host" if request => "use `rewrite.host`",
        "connection" | "content-length" | "transfer-encoding" | "te" | "trailer" | "keep-alive" | "expect"
        | "upgrade" | "http2-settings" | "proxy" => "how a message is framed is settled for each connection anew",
        name if name.starts_with("proxy-") => "it is meant for one connection only",
        "x-request-id" => "every request has one; it is taken over from networks that the listener trusts",
        "idempotency-key" if request => "it says whether a request may be sent again",
        "content-encoding" | "content-range" if !request => "it says what the body is; see `compress`",
        _ => return None,
    })
}

fn headers(path: &[&str; 3], changes: &HeaderChanges, direction: Direction, fault: &mut Fault<'_>) {
    let tables = [("set", &changes.set), ("add", &changes.add)];
    let removed = changes.remove.iter().map(|name| ("remove", name));
    let written = tables.iter().flat_map(|(part, table)| table.keys().map(|name| (*part, name)));
    for (part, name) in removed.chain(written) {
        let at: &[&str] = if part == "remove" {
            &[path[0], path[1], path[2], part]
        } else {
            &[path[0], path[1], path[2], part, name]
        };
        if !is_token(name) {
            fault(at, format!("`{name}` is not a name of a header field"), Some("as `x-tenant`".to_owned()));
        } else if let Some(help) = protected(name, direction) {
            fault(at, format!("`{name}` cannot be changed"), Some(help.to_owned()));
        }
    }
    for (part, table) in tables {
        for (name, value) in table {
            let at = [path[0], path[1], path[2], part, name];
            let text = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if !text || value.trim() != value {
                let help = Some("visible ASCII, without spaces at its ends".to_owned());
                fault(&at, format!("the value of `{name}` is not a value of a header field"), help);
            } else if let Some(word) = crate::snapshot::FieldChanges::unknown_word(value) {
                let help = Some("there is: {client}, {host}, {path}, {id}".to_owned());
                fault(&at, format!("`{{{word}}}` stands for nothing here"), help);
            }
            let same = |other: &&String| *other != name && other.eq_ignore_ascii_case(name);
            if table.keys().take_while(|other| *other != name).any(|other| same(&other)) {
                fault(&at, format!("`{name}` stands twice, in upper and lower case"), None);
            }
        }
    }
}

/// A token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 200 && text.bytes().all(fits)
}

fn error_pages(path: &[&str; 3], pages: &BTreeMap<String, ErrorPage>, fault: &mut Fault<'_>) {
    for (key, page) in pages {
        let at = [path[0], path[1], path[2], key];
        if ErrorPage::statuses(key).is_none() {
            let help = Some("as \"404\" or \"500-599\", from 400 to 599".to_owned());
            fault(&at, format!("`{key}` is not a status or a range of them"), help);
        } else if pages
            .keys()
            .take_while(|other| *other != key)
            .any(|other| ErrorPage::statuses(other) == ErrorPage::statuses(key))
        {
            fault(&at, format!("`{key}` stands twice, as a status and as a range"), None);
        }
        let help = || Some("as { file = \"error.html\" } or { text = \"Back soon.\" }".to_owned());
        match (&page.file, &page.text) {
            (None, None) => fault(&at, "this page has neither `file` nor `text`".to_owned(), help()),
            (Some(_), Some(_)) => fault(&at, "both `file` and `text`; it needs one of them".to_owned(), help()),
            (None, Some(text)) if text.len() as u64 > Page::MOST_BYTES => {
                fault(&at, "`text` may be at most 64KiB".to_owned(), None);
            }
            _ => {}
        }
        let visible = |text: &String| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if page.content_type.as_ref().is_some_and(|kind| !visible(kind)) {
            fault(&at, "`content_type` is not a value of a header field".to_owned(), None);
        }
    }
}

fn compress(name: &str, compress: &Compress, fault: &mut Fault<'_>) {
    let path = |key| ["services", name, "compress", key];
    if compress.encodings.is_empty() {
        fault(&path("encodings"), "no content coding".to_owned(), Some("as [\"zstd\", \"br\", \"gzip\"]".to_owned()));
    }
    for (index, one) in compress.encodings.iter().enumerate() {
        if compress.encodings[..index].contains(one) {
            fault(&path("encodings"), format!("`{}` stands twice", one.as_str()), None);
        }
    }
    if compress.types.is_empty() {
        let help = Some("as [\"text/*\", \"application/json\"]".to_owned());
        fault(&path("types"), "no media type, so nothing would be compressed".to_owned(), help);
    }
    for kind in &compress.types {
        let (main, sub) = kind.split_once('/').unwrap_or((kind, ""));
        let part = |text: &str| !text.is_empty() && is_token(text);
        if !part(main) || !part(sub) || kind.matches('*').count() > 1 {
            let help = Some("as `text/*`, `application/json` or `application/*+json`".to_owned());
            fault(&path("types"), format!("`{kind}` is not a media type"), help);
        }
    }
}
