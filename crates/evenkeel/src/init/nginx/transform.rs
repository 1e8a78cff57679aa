//! From nginx's headers, paths and compression to the keys of a route and a service.
//!
//! Directives about headers are inherited as a whole or not at all: a location that has one of its own has none of those
//! around it (<https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_set_header>). A value with a variable that a
//! stack file has no word for is left to whoever asked, who says so. It reads nothing but directives.

use super::{super::toml::string, address::is_host, syntax::Directive};

/// Headers that the edge sets or keeps itself.
const EDGE_SETS: [&str; 9] = [
    "host",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "upgrade",
    "connection",
    "x-request-id",
];

/// Keys of a route with their values.
pub(super) type Keys = Vec<(&'static str, String)>;

/// What a directive about headers becomes.
#[derive(Clone)]
pub(in crate::init) enum Header {
    /// The edge does that anyway.
    Silent,
    /// `Host` for the instance.
    Host(String),
    Set(String, String),
    Add(String, String),
    Remove(String),
}

/// What a directive about headers becomes; `None`: a stack file cannot say that.
fn header(directive: &Directive) -> Option<Header> {
    let name = directive.arg().to_owned();
    let lower = name.to_ascii_lowercase();
    let value = directive.args.get(1).map(String::as_str);
    match (directive.name.as_str(), value) {
        ("proxy_set_header", Some(value)) if lower == "host" => {
            let (host, port) = value.rsplit_once(':').unwrap_or((value, "80"));
            let fixed = is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0);
            let kept = ["$host", "$http_host", "$server_name", "$proxy_host"].iter().any(|one| value.starts_with(one));
            fixed.then(|| Header::Host(value.to_owned())).or(kept.then_some(Header::Silent))
        }
        ("proxy_set_header", Some(_)) if EDGE_SETS.contains(&lower.as_str()) => Some(Header::Silent),
        ("proxy_set_header", Some("")) | ("proxy_hide_header", None) if is_free(&lower) => Some(Header::Remove(lower)),
        // What is not known here must not come from a client in its place.
        ("proxy_set_header", Some(text)) if is_free(&lower) => {
            Some(value_of(text).map_or(Header::Remove(lower), |value| Header::Set(name, value)))
        }
        ("add_header", Some(text)) if is_free(&lower) => Some(Header::Add(name, value_of(text)?)),
        _ => None,
    }
}

/// Whether a stack file may change a header of this name.
pub(in crate::init) fn is_free(lower: &str) -> bool {
    const FRAMING: [&str; 10] = [
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "expect",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let named = !lower.is_empty() && lower.bytes().all(token) && !EDGE_SETS.contains(&lower);
    named && !FRAMING.contains(&lower) && !lower.starts_with("proxy-") && lower != "idempotency-key"
}

/// A value in the words of a stack file.
fn value_of(text: &str) -> Option<String> {
    const WORDS: [(&str, &str); 5] = [
        ("$remote_addr", "{client}"),
        ("$http_host", "{host}"),
        ("$host", "{host}"),
        ("$request_id", "{id}"),
        ("$uri", "{path}"),
    ];
    // What looks like a word of a stack file would mean something else there.
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !text.contains('{') && text.trim() == text;
    let made = WORDS.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    (plain && !text.is_empty() && !made.contains('$')).then_some(made)
}

/// Whether a directive sets a header to what is not known here, so that nobody sets it.
pub(super) fn is_unknown(directive: &Directive) -> bool {
    let value = directive.args.get(1).filter(|value| !value.is_empty());
    let removed = matches!(header(directive), Some(Header::Remove(_)));
    directive.name == "proxy_set_header" && value.is_some() && removed
}

/// Whether a directive is about headers and becomes a key of a route.
pub(super) fn is_translated(directive: &Directive) -> bool {
    header(directive).is_some()
}

/// The directives of one name that hold in a location: its own, or those around it.
fn in_force<'a>(name: &str, location: &'a Directive, around: &'a [Directive]) -> Vec<&'a Directive> {
    let of = |all: &'a [Directive]| all.iter().filter(|one| one.name == name).collect::<Vec<_>>();
    let own = of(location.inside());
    if own.is_empty() { of(around) } else { own }
}

/// The keys of a location's route: other fields, another host and another path. `uri` is what its `proxy_pass` has behind
/// the address.
pub(super) fn keys(location: &Directive, around: &[Directive], uri: &str) -> Keys {
    let of = |name| in_force(name, location, around).into_iter().filter_map(header);
    let mut host = None;
    let (mut request, mut response) = (Changes::default(), Changes::default());
    for header in of("proxy_set_header") {
        match header {
            Header::Host(name) => host = Some(name),
            other => request.take(other),
        }
    }
    of("add_header").chain(of("proxy_hide_header")).for_each(|header| response.take(header));
    let mut parts = path(location, uri);
    parts.extend(host.map(|host| ("host", host)));
    let parts: Vec<String> = parts.iter().map(|(key, value)| format!("{key} = {}", string(value))).collect();
    let rewrite = (!parts.is_empty()).then(|| ("rewrite", format!("{{ {} }}", parts.join(", "))));
    let headers = [("request_headers", request.value()), ("response_headers", response.value())];
    let headers = headers.into_iter().filter_map(|(key, value)| Some((key, value?)));
    rewrite.into_iter().chain(headers).collect()
}

/// What becomes of the path: with an address behind which stands a path, nginx puts that in place of the location's.
fn path(location: &Directive, uri: &str) -> Vec<(&'static str, String)> {
    let exact = location.args.first().is_some_and(|first| first == "=");
    let whole = location.args.last().map_or("", String::as_str);
    let from = whole.trim_end_matches('/');
    let to = uri.trim_end_matches('/');
    if exact {
        // A route takes what lies below too, and nothing but this path may reach the instance by it.
        return vec![("path", if uri.is_empty() { whole } else { uri }.to_owned())];
    }
    if uri.is_empty() || from == to {
        return Vec::new();
    }
    let part = |key, text: &str| (!text.is_empty()).then(|| (key, text.to_owned()));
    part("strip_prefix", from).into_iter().chain(part("add_prefix", to)).collect()
}

/// Whether a stack file could have this path behind an address.
pub(super) fn is_path(uri: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    uri.is_empty()
        || uri.bytes().all(fits) && !uri.contains("//") && !uri.split('/').any(|part| part == "." || part == "..")
}

/// Changes to the header fields of one direction.
#[derive(Default)]
pub(in crate::init) struct Changes {
    remove: Vec<String>,
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
}

impl Changes {
    /// Takes one more; the first of a name counts.
    pub(in crate::init) fn take(&mut self, header: Header) {
        let has = |all: &[(String, String)], name: &str| all.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        match header {
            Header::Remove(name) if !self.remove.contains(&name) => self.remove.push(name),
            Header::Set(name, value) if !has(&self.set, &name) => self.set.push((name, value)),
            Header::Add(name, value) if !has(&self.add, &name) => self.add.push((name, value)),
            _ => {}
        }
    }

    /// As an inline table.
    pub(in crate::init) fn value(&self) -> Option<String> {
        let table = |pairs: &[(String, String)]| {
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name} = {}", string(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        };
        let mut parts = Vec::new();
        if !self.remove.is_empty() {
            let names: Vec<String> = self.remove.iter().map(|name| string(name)).collect();
            parts.push(format!("remove = [{}]", names.join(", ")));
        }
        parts.extend((!self.set.is_empty()).then(|| format!("set = {}", table(&self.set))));
        parts.extend((!self.add.is_empty()).then(|| format!("add = {}", table(&self.add))));
        (!parts.is_empty()).then(|| format!("{{ {} }}", parts.join(", ")))
    }
}

/// Whether answers are compressed for whoever reaches this level.
pub(super) fn compresses(directives: &[Directive]) -> bool {
    let on = |one: &Directive| ["gzip", "brotli"].contains(&one.name.as_str()) && one.arg() == "on";
    directives.iter().any(|one| on(one) || compresses(one.inside()))
}
