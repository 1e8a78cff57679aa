//! What protects a place in nginx's file: by address, password, certificate, question elsewhere, or condition.
//!
//! None of it has a counterpart in a route, so whoever asks closes the place. The rules of inheritance are nginx's: a
//! level's own directives of one kind replace those around it, and `off` ends them
//! (<https://nginx.org/en/docs/http/ngx_http_access_module.html>, `ngx_http_auth_basic_module` and others). Where it
//! is not sure whether something protects, it does. It reads nothing but directives.

use super::syntax::Directive;

/// A directive that keeps somebody out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    /// What replaces it further down.
    kind: String,
    /// Where it stands.
    pub(super) line: usize,
    /// The directive as it stands there.
    pub(super) words: String,
    /// What clients get.
    pub(super) status: u16,
}

impl Guard {
    /// What stands on this line, and the status that clients get.
    pub(super) fn new(line: usize, words: &str, status: u16) -> Self {
        Self { kind: String::new(), line, words: shortened(words), status }
    }
}

/// Conditions about where a request came in, not about who sent it: what they guard is not a matter of access.
const PLACES: [&str; 9] = [
    "$scheme",
    "$host",
    "$http_host",
    "$https",
    "$server_port",
    "$server_name",
    "$http_x_forwarded_proto",
    "$request_uri",
    "$uri",
];

/// Files that are included everywhere and only set what the edge sets, or how TLS is spoken.
const HARMLESS: [&str; 9] = [
    "mime.types",
    "proxy_params",
    "proxy.conf",
    "fastcgi_params",
    "fastcgi.conf",
    "uwsgi_params",
    "scgi_params",
    "options-ssl-nginx.conf",
    "ssl-params.conf",
];

/// What guards a level with these directives, where `around` guards the one around it.
pub(super) fn in_force(around: &[Guard], directives: &[Directive]) -> Vec<Guard> {
    let own: Vec<&str> = directives.iter().filter_map(replaces).collect();
    let mut all: Vec<Guard> = around.iter().filter(|guard| !own.contains(&guard.kind.as_str())).cloned().collect();
    all.extend(access(directives));
    all.extend(directives.iter().filter_map(single));
    all.sort_by_key(|guard| guard.line);
    all
}

/// Whether anything at all in there is a guard.
pub(super) fn any(directives: &[Directive]) -> bool {
    !in_force(&[], directives).is_empty()
        || directives.iter().any(|one| refuses(one) || one.name == "limit_except" || any(one.inside()))
}

/// Whether this answers with a status that keeps everybody out.
pub(super) fn refuses(directive: &Directive) -> bool {
    directive.name == "return" && status(directive).is_some_and(|status| status >= 400)
}

/// The status of a `return`.
pub(super) fn status(directive: &Directive) -> Option<u16> {
    directive.arg().parse().ok()
}

/// Whether an included file is known to protect nothing.
pub(super) fn is_harmless(include: &Directive) -> bool {
    include.name == "include" && HARMLESS.contains(&include.arg().rsplit('/').next().unwrap_or_default())
}

/// A condition under which clients are only sent to the same place over TLS or under its proper name.
pub(super) fn only_moves(directive: &Directive) -> bool {
    let moves = |one: &Directive| {
        one.name == "return" && (status(one).is_none_or(|status| (300..400).contains(&status))) || one.name == "rewrite"
    };
    directive.name == "if" && about_place(directive) && directive.inside().iter().all(moves)
}

/// Whether a directive is about who gets in, in whatever way it is in force.
pub(super) fn is_about_access(directive: &Directive) -> bool {
    const COMPANIONS: [&str; 6] =
        ["allow", "deny", "satisfy", "limit_except", "ssl_client_certificate", "ssl_verify_depth"];
    let name = directive.name.as_str();
    COMPANIONS.contains(&name)
        || name.starts_with("auth_")
        || name.starts_with("secure_link")
        || name == "ssl_verify_client"
        || single(directive).is_some()
}

/// What a directive of this level replaces of those around it.
fn replaces(directive: &Directive) -> Option<&str> {
    match directive.name.as_str() {
        "allow" | "deny" => Some("access"),
        "ssl_verify_client" => Some("ssl_verify_client"),
        name if is_auth(name) => Some(name),
        _ => None,
    }
}

/// `auth_basic`, `auth_request`, `auth_jwt` and the like; what only tunes them has a longer name.
fn is_auth(name: &str) -> bool {
    name.strip_prefix("auth_").is_some_and(|rest| !rest.contains('_') && rest != "delay")
}

/// The rules by address of one level: the first that fits decides.
fn access(directives: &[Directive]) -> Option<Guard> {
    let rules: Vec<&Directive> =
        directives.iter().filter(|one| ["allow", "deny"].contains(&one.name.as_str())).collect();
    let end = rules.iter().position(|one| one.arg() == "all").map_or(rules.len(), |at| at + 1);
    let rules = &rules[..end];
    let first = rules.first()?;
    if !rules.iter().any(|one| one.name == "deny") {
        return None;
    }
    let words: Vec<String> = rules.iter().map(|one| one.words()).collect();
    Some(Guard { kind: "access".to_owned(), line: first.line, words: shortened(&words.join("; ")), status: 403 })
}

/// A directive that guards by itself.
fn single(directive: &Directive) -> Option<Guard> {
    let (off, name) = (directive.arg() == "off", directive.name.as_str());
    let status = match name {
        "internal" => 404,
        "ssl_verify_client" if !off => 403,
        "secure_link" | "valid_referers" | "js_access" => 403,
        name if is_auth(name) && !off => 403,
        name if name.starts_with("access_by_lua") || name.starts_with("rewrite_by_lua") => 403,
        "include" if !is_harmless(directive) => 403,
        "if" if guards(directive) => 403,
        _ => return None,
    };
    let mut words = shortened(&directive.words());
    if name == "include" {
        words.push_str(" (a file that is not read, and may protect this)");
    }
    Some(Guard { kind: name.to_owned(), line: directive.line, words, status })
}

/// Whether a condition keeps somebody out: by a status, or by sending elsewhere whoever lacks something.
fn guards(directive: &Directive) -> bool {
    let refused = directive.inside().iter().any(refuses);
    let sent = directive.inside().iter().any(|one| ["return", "rewrite"].contains(&one.name.as_str()));
    refused || sent && !about_place(directive)
}

fn about_place(directive: &Directive) -> bool {
    let mut variables = directive.args.iter().flat_map(|arg| {
        let starts = arg.match_indices('$').map(|(at, _)| &arg[at..]).filter(|rest| rest.len() > 1);
        starts.map(|rest| {
            let name =
                rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(rest.len(), |end| end + 1);
            &rest[..name]
        })
    });
    // A lone `$` ends a pattern.
    variables.all(|name| name == "$" || PLACES.contains(&name))
}

fn shortened(words: &str) -> String {
    if words.chars().count() <= 120 { words.to_owned() } else { words.chars().take(119).chain(['…']).collect() }
}
