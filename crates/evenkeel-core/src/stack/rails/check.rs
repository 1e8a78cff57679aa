//! What is wrong with a route's `redirect`, `rate`, `split`, `mirror`, `methods` and `connect`, beyond their types.
//!
//! Names of services are checked where all names are. It owns nothing.

use super::{By, Rate};
use crate::{
    snapshot,
    stack::{Route, Service},
};

/// A fault: the keys below the route, what is wrong, and what would be right.
pub(in crate::stack) type Fault = (Vec<String>, String, Option<&'static str>);

/// Everything that is wrong.
pub(in crate::stack) fn faults(route: &Route) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |keys: &[&str], message: String, help: Option<&'static str>| {
        faults.push((keys.iter().map(|&key| key.to_owned()).collect(), message, help));
    };
    for (place, method) in route.methods.iter().enumerate() {
        if !is_token(method) || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let help = Some("as \"GET\": methods are written in capitals, and GET does not include HEAD");
            add(&["methods", &place.to_string()], format!("`{method}` is not a method"), help);
        }
    }
    if let Some(redirect) = &route.redirect {
        let compiled = snapshot::Redirect { to: redirect.to.clone(), status: redirect.status };
        if let Err(error) = compiled.parts() {
            let help = Some("as redirect = \"https://{host}{uri}\", or { to = \"/login\", status = 302 }");
            add(&["redirect"], error.to_string(), help);
        }
        for key in beside_redirect(route) {
            let help = Some("a redirect is the whole answer: no service is asked");
            add(&[key], format!("`{key}` and `redirect` in one route"), help);
        }
    } else if route.service.is_empty() {
        let help = Some("add service = \"…\", or redirect = \"https://{host}{uri}\"");
        add(&[], "the route leads nowhere: it has neither `service` nor `redirect`".to_owned(), help);
    }
    for (place, rate) in route.rate.0.iter().enumerate() {
        if let Some((message, help)) = fault_of_rate(rate) {
            add(&["rate", &place.to_string()], message, help);
        }
    }
    check_split(route, &mut add);
    if let Some(mirror) = &route.mirror {
        if mirror.percent == 0 || mirror.percent > 100 {
            add(&["mirror", "percent"], "`percent` must be from 1 to 100".to_owned(), None);
        }
        if mirror.service == route.service {
            add(&["mirror", "service"], "a service cannot be its own mirror".to_owned(), None);
        }
    }
    faults
}

/// What keeps a service from getting copies.
pub(in crate::stack) fn fault_of_mirrored(service: &Service) -> Option<&'static str> {
    let others = [service.page.is_some(), service.fastcgi.is_some(), service.proxy_protocol.is_some()];
    others.contains(&true).then_some("copies go over plain HTTP: not to `page`, `fastcgi` or with `proxy_protocol`")
}

/// Keys that mean nothing beside a redirect.
fn beside_redirect(route: &Route) -> Vec<&'static str> {
    let all = [
        ("service", !route.service.is_empty()),
        ("rate", !route.rate.0.is_empty()),
        ("split", !route.split.is_empty()),
        ("mirror", route.mirror.is_some()),
        ("connect", route.connect),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(key, _)| key).collect()
}

fn fault_of_rate(rate: &Rate) -> Option<(String, Option<&'static str>)> {
    if rate.requests == 0 {
        return Some(("`requests` must be at least 1".to_owned(), Some("to refuse everything, use a page with 403")));
    }
    if rate.per.as_ms() == 0 || rate.per.as_ms() > 24 * 3_600_000 {
        return Some(("`per` must be from 1ms to 24h".to_owned(), None));
    }
    if rate.by == By::Request {
        let help = Some("by = \"address\", \"header:NAME\", \"cookie:NAME\" or \"route\"");
        return Some(("`request` tells no client from another".to_owned(), help));
    }
    fault_of_name(&rate.by)
}

fn fault_of_name(by: &By) -> Option<(String, Option<&'static str>)> {
    let (By::Header(name) | By::Cookie(name)) = by else { return None };
    let help = Some("as \"header:x-api-key\" or \"cookie:sid\"");
    (!is_token(name)).then(|| (format!("`{name}` is not the name of a field or cookie"), help))
}

/// A token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 100 && text.bytes().all(fits)
}

fn check_split(route: &Route, add: &mut impl FnMut(&[&str], String, Option<&'static str>)) {
    let percent: u32 = route.split.iter().map(|split| u32::from(split.percent)).sum();
    if percent > 100 {
        add(
            &["split"],
            format!("the parts are {percent} percent together"),
            Some("at most 100; the rest is `service`'s"),
        );
    }
    for (place, split) in route.split.iter().enumerate() {
        if split.service == route.service {
            let help = Some("the rest goes to `service` in any case");
            add(&["split", &place.to_string()], format!("`{}` is the route's own service", split.service), help);
        }
        if route.split[..place].iter().any(|other| other.service == split.service) {
            add(&["split", &place.to_string()], format!("`{}` stands twice", split.service), None);
        }
    }
    if route.split_by == By::Route {
        let help = Some("split_by = \"request\", \"address\", \"header:NAME\" or \"cookie:NAME\"");
        add(&["split_by"], "`route` would give everything to one service".to_owned(), help);
    } else if let Some((message, help)) = fault_of_name(&route.split_by) {
        add(&["split_by"], message, help);
    }
    if route.split.is_empty() && route.split_by != By::Request {
        add(&["split_by"], "`split_by` without `split`".to_owned(), None);
    }
}

#[cfg(test)]
mod tests {
    fn refused(route: &str) -> String {
        let services =
            "[services.a]\nrun = [\"a\"]\n[services.b]\nrun = [\"b\"]\n[services.page]\npage = { text = \"x\" }\n";
        let text = format!("[stack]\nname = \"t\"\n[[routes]]\n{route}\n{services}");
        crate::stack::parse(&text, "t.toml").map_or_else(|faults| faults.to_string(), |_| "nothing".to_owned())
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (route, said) in [
            ("path = \"/\"", "neither `service` nor `redirect`"),
            ("service = \"a\"\nredirect = \"https://{host}{uri}\"", "`service` and `redirect` in one route"),
            ("redirect = \"/x\"\nrate = { requests = 1 }", "`rate` and `redirect` in one route"),
            ("redirect = \"https://{path}\"", "a client could choose the host"),
            ("redirect = \"/{uri}\"", "a client could choose the host"),
            ("redirect = \"https://{name}/\"", "only {host}, {path} and {uri}"),
            ("redirect = { to = \"/x\", status = 200 }", "301, 302, 303, 307 or 308"),
            ("redirect = { to = \"/x\", code = 301 }", "unknown key `code`"),
            ("service = \"a\"\nmethods = [\"get\"]", "`get` is not a method"),
            ("service = \"a\"\nmethods = []", "no method is listed, which would be taken for every method"),
            ("service = \"a\"\npath = \"/a/../b\"", "write `/b`"),
            ("service = \"a\"\npath = \"/..\"", "no request has the path `/..`"),
            ("service = \"a\"\nrate = { requests = 0 }", "`requests` must be at least 1"),
            ("service = \"a\"\nrate = { requests = 1, per = \"0s\" }", "`per` must be"),
            ("service = \"a\"\nrate = { requests = 1, by = \"request\" }", "tells no client from another"),
            (
                "service = \"a\"\nrate = { requests = 1, by = \"ip\" }",
                "`ip`: expected \"address\", \"header:NAME\", \"cookie:NAME\" or \"route\"\n",
            ),
            (
                "service = \"a\"\nsplit = [{ service = \"b\", percent = 1 }]\nsplit_by = \"ip\"",
                "`ip`: expected \"request\", \"address\", \"header:NAME\" or \"cookie:NAME\"\n",
            ),
            (
                "service = \"a\"\nsplit = [{ service = \"b\", percent = 0.5 }]",
                "`0.5`, expected a whole number of percent, from 0 to 100",
            ),
            (
                "service = \"a\"\nmirror = { service = \"b\", percent = 300 }",
                "a whole number of percent, from 0 to 100",
            ),
            ("service = \"a\"\nrate = { requests = 1, by = \"header:\" }", "is not the name of a field"),
            ("service = \"a\"\nrate = { request = 1 }", "did you mean `requests`?"),
            ("service = \"a\"\nsplit = [{ service = \"b\", percent = 101 }]", "101 percent together"),
            ("service = \"a\"\nsplit = [{ service = \"a\", percent = 1 }]", "the route's own service"),
            ("service = \"a\"\nsplit = [{ service = \"c\", percent = 1 }]", "there is no service `c`"),
            ("service = \"a\"\nsplit_by = \"address\"", "`split_by` without `split`"),
            ("service = \"a\"\nmirror = { service = \"a\" }", "its own mirror"),
            ("service = \"a\"\nmirror = { service = \"c\" }", "there is no service `c`"),
            ("service = \"a\"\nmirror = { service = \"page\" }", "copies go over plain HTTP"),
            ("service = \"a\"\nmirror = { service = \"b\", percent = 0 }", "from 1 to 100"),
        ] {
            let text = refused(route);
            assert!(text.contains(said), "{route}:\n{text}");
        }
    }
}
