//! Routes that no request gets to, and redirects that lead back to themselves.
//!
//! Routes match by host, then longest path, then order, so a route is shadowed only by one of the same host and path that
//! stands above it and asks for no more. It decides about a file, never about a request.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{Listener, Redirect, Route, Stack};
use crate::{
    path,
    snapshot::{self, Protocol, RedirectPart},
};

/// Takes a fault: where, what, and what would be right.
type Fault<'a> = dyn FnMut(&[&str], String, Option<String>) + 'a;

/// Finds every fault.
pub(super) fn check(stack: &Stack, fault: &mut Fault<'_>) {
    let keys: Vec<Key> = stack.routes.iter().map(Key::of).collect();
    let mut above: BTreeMap<&Key, Vec<usize>> = BTreeMap::new();
    for (index, (route, key)) in stack.routes.iter().zip(&keys).enumerate() {
        let at = index.to_string();
        let before = above.entry(key).or_default();
        if let Some(other) = before.iter().find(|other| covers(&stack.routes[**other], route)) {
            let message =
                format!("no request gets here: route {} has the same host and path and takes them all", other + 1);
            let help = if stack.routes[*other] == *route {
                "leave one of them out"
            } else {
                "put the narrower route above it"
            };
            fault(&["routes", &at], message, Some(help.to_owned()));
        }
        before.push(index);
        if route.redirect.as_ref().is_some_and(|redirect| leads_back(stack, &keys, index, redirect)) {
            let message = "the redirect leads back to its own route: clients would go in circles".to_owned();
            let help = "lead elsewhere, as \"https://{host}{uri}\", or narrow the route's `host` or `path`";
            fault(&["routes", &at, "redirect"], message, Some(help.to_owned()));
        }
    }
}

/// What the edge sorts routes by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// In lower case.
    host: Option<String>,
    /// In its normal form, without a slash at its end.
    path: Vec<u8>,
}

impl Key {
    fn of(route: &Route) -> Self {
        let mut path = path::normal(route.path.as_bytes()).unwrap_or_else(|_| route.path.clone().into_bytes());
        if path.ends_with(b"/") {
            path.pop();
        }
        Self { host: route.host.as_ref().map(|host| host.to_ascii_lowercase()), path }
    }

    fn has_host(&self, host: &str) -> bool {
        match &self.host {
            None => true,
            Some(own) => match own.strip_prefix('*') {
                Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
                None => own == host,
            },
        }
    }

    fn has_path(&self, path: &[u8]) -> bool {
        path.strip_prefix(self.path.as_slice()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    }

    /// Among routes that match, the one with the greatest comes first: exact hosts, then the longest suffix, then the path.
    fn rank(&self) -> (usize, usize) {
        let host = match &self.host {
            None => 0,
            Some(host) if host.starts_with('*') => host.len(),
            Some(_) => usize::MAX,
        };
        (host, self.path.len())
    }
}

/// Whether every request that `below` would take is one that `above` takes before it.
fn covers(above: &Route, below: &Route) -> bool {
    let listener = above.listener.is_none() || above.listener == below.listener;
    let methods = above.methods.is_empty()
        || !below.methods.is_empty() && below.methods.iter().all(|one| above.methods.contains(one));
    listener && methods && asks_no_more(above, below)
}

/// Whether a request with the header fields that `than` asks for has those that `route` does.
fn asks_no_more(route: &Route, than: &Route) -> bool {
    let has = |(name, value): (&String, &String)| {
        than.headers.iter().any(|(other, its)| other.eq_ignore_ascii_case(name) && its == value)
    };
    route.headers.iter().all(has)
}

/// Whether a client that follows the redirect of this route is redirected by it again. Only what is certain: an address that
/// names another host may lead to another machine.
fn leads_back(stack: &Stack, keys: &[Key], index: usize, redirect: &Redirect) -> bool {
    let Some(target) = Target::of(&stack.routes[index], &keys[index], redirect) else { return false };
    let (route, key) = (&stack.routes[index], &keys[index]);
    // What a proxy in front says may be another thing the next time, as where it led the client to TLS.
    if route.headers.keys().any(|name| name.to_ascii_lowercase().starts_with("x-forwarded-")) {
        return false;
    }
    let method = target.method;
    let takes_method = |route: &Route| route.methods.is_empty() || route.methods.iter().any(|one| one == method);
    if !key.has_host(&target.host) || !key.has_path(&target.path) || !takes_method(route) {
        return false;
    }
    let listeners = listeners_of(&stack.listeners, route, target.port);
    listeners.into_iter().any(|listener| {
        // Others that would take it before.
        !stack.routes.iter().zip(keys).enumerate().any(|(place, (other, its))| {
            let before = its.rank() > key.rank() || its.rank() == key.rank() && place < index;
            let there = other.listener.as_deref().is_none_or(|name| name == listener);
            before
                && there
                && its.has_host(&target.host)
                && its.has_path(&target.path)
                && takes_method(other)
                && asks_no_more(other, route)
        })
    })
}

/// Names of the listeners that have this route, and this port where one is asked for.
fn listeners_of<'a>(listeners: &'a BTreeMap<String, Listener>, route: &Route, port: Option<u16>) -> Vec<&'a str> {
    let fits = |(name, listener): &(&String, &Listener)| {
        listener.protocol == Protocol::Http
            && route.listener.as_ref().is_none_or(|own| own == *name)
            && port.is_none_or(|port| SocketAddr::port(&listener.bind) == port)
    };
    listeners.iter().filter(fits).map(|(name, _)| name.as_str()).collect()
}

/// Where a request for the route's own path is sent.
struct Target<'a> {
    host: String,
    /// `None`: that of the request.
    port: Option<u16>,
    /// In its normal form.
    path: Vec<u8>,
    /// With which method clients follow.
    method: &'a str,
}

impl<'a> Target<'a> {
    /// `None`: it cannot be told, or leads to another scheme or host.
    fn of(route: &'a Route, key: &Key, redirect: &Redirect) -> Option<Self> {
        // A name that no route has, for whatever host a client asks for.
        let own = match &key.host {
            None => "host.invalid".to_owned(),
            Some(host) => host.replacen('*', "host", 1),
        };
        let from = if key.path.is_empty() { "/".into() } else { String::from_utf8_lossy(&key.path) };
        let compiled = snapshot::Redirect { to: redirect.to.clone(), status: redirect.status };
        let text: String = compiled.parts().ok()?.into_iter().fold(String::new(), |text, part| {
            text + match &part {
                RedirectPart::Text(text) => text,
                RedirectPart::Host => &own,
                RedirectPart::Path | RedirectPart::Uri => &from,
            }
        });
        let (authority, path) = match text.strip_prefix("http://") {
            Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
            None if text.starts_with('/') => ("", text.as_str()),
            None => return None,
        };
        let (host, port) = match authority.rsplit_once(':') {
            _ if authority.is_empty() => (own.as_str(), None),
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, Some(80)),
        };
        if key.host.is_none() && host != own {
            return None;
        }
        let path = path.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
        let path = path::normal(path.as_bytes()).ok()?;
        // Clients follow with GET, unless the status says that the method stays (RFC 9110 sections 15.4.2 to 15.4.9).
        let kept = route.methods.first().filter(|_| matches!(redirect.status, 307 | 308));
        Some(Self { host: host.to_ascii_lowercase(), port, path, method: kept.map_or("GET", String::as_str) })
    }
}

#[cfg(test)]
mod tests {
    fn text(routes: &str) -> String {
        format!(
            "[stack]\nname = \"t\"\n[listeners.web]\nbind = \"0.0.0.0:80\"\n[listeners.other]\nbind = \"0.0.0.0:8080\"\n\
             {routes}\n[services.a]\nrun = [\"a\"]\n"
        )
    }

    fn said(routes: &str) -> String {
        crate::stack::parse(&text(routes), "t.toml").map_or_else(|faults| faults.to_string(), |_| "nothing".to_owned())
    }

    fn routes(of: &[&str]) -> String {
        let with = |route: &&str| {
            let leads = route.contains("redirect");
            format!("[[routes]]\n{route}\n{}\n", if leads { "" } else { "service = \"a\"" })
        };
        of.iter().map(with).collect()
    }

    #[test]
    fn a_route_below_one_that_takes_everything_of_it() {
        for shadowed in [
            ["", ""],
            ["path = \"/api\"", "path = \"/api/\""],
            ["path = \"/a//b\"", "path = \"/%61/b\""],
            ["host = \"A.example\"", "host = \"a.example\"\nlistener = \"web\""],
            ["", "headers = { x-canary = \"1\" }"],
            ["methods = [\"GET\", \"HEAD\"]", "methods = [\"GET\"]"],
        ] {
            let said = said(&routes(&shadowed));
            assert!(said.contains("no request gets here: route 1"), "{shadowed:?}\n{said}");
        }
        for fine in [
            ["headers = { x-canary = \"1\" }", ""],
            ["methods = [\"GET\"]", ""],
            ["methods = [\"GET\"]", "methods = [\"GET\", \"POST\"]"],
            ["listener = \"web\"", ""],
            ["listener = \"web\"", "listener = \"other\""],
            ["path = \"/\"", "path = \"/api\""],
            ["host = \"*.example\"", "host = \"a.example\""],
            ["headers = { x-a = \"1\" }", "headers = { x-a = \"2\" }"],
        ] {
            assert_eq!(said(&routes(&fine)), "nothing", "{fine:?}");
        }
    }

    #[test]
    fn what_was_in_force_is_not_refused_for_being_useless() {
        for useless in [
            &["", "headers = { x-canary = \"1\" }"][..],
            &["redirect = \"/login\""],
            &["methods = []"],
            &["path = \"/a/../b\""],
            &["path = \"/..\""],
        ] {
            let text = text(&routes(useless));
            assert!(crate::stack::parse(&text, "t.toml").is_err(), "{useless:?}");
            let (_, told) =
                crate::stack::parse_leniently(&text, "t.toml").map_err(|faults| faults.to_string()).unwrap();
            assert!(!told.is_empty() && !told.has_errors(), "{useless:?}\n{told}");
        }
        let wrong = text("[[routes]]\nservice = \"nobody\"\n");
        assert!(crate::stack::parse_leniently(&wrong, "t.toml").is_err(), "what cannot be carried out is refused");
    }

    #[test]
    fn a_redirect_that_leads_to_itself() {
        for circles in [
            &["redirect = \"http://{host}{uri}\""][..],
            &["redirect = \"http://{host}:8080{uri}\""],
            &["listener = \"other\"\nredirect = { to = \"http://{host}:8080/x\", status = 302 }"],
            &["host = \"a.example\"\nredirect = \"http://A.example/new?from={path}\""],
            &["host = \"*.example\"\nredirect = \"http://www.{host}{uri}\""],
            &["redirect = \"/login\""],
            &["path = \"/old\"\nredirect = \"/old/new\"", "path = \"/\""],
            &["methods = [\"POST\"]\nredirect = { to = \"/x\", status = 307 }", ""],
            &["redirect = \"/login\"", "path = \"/login\"\nheaders = { x-a = \"1\" }"],
        ] {
            let said = said(&routes(circles));
            assert!(said.contains("clients would go in circles"), "{circles:?}\n{said}");
        }
        for fine in [
            &["redirect = \"https://{host}{uri}\""][..],
            &["redirect = \"http://{host}:9000{uri}\""],
            &["listener = \"other\"\nredirect = \"http://{host}{uri}\""],
            &["redirect = \"http://elsewhere.example{uri}\""],
            &["host = \"a.example\"\nredirect = \"http://www.{host}{uri}\""],
            &["redirect = \"/login\"", "path = \"/login\""],
            &["methods = [\"POST\"]\nredirect = { to = \"/x\", status = 303 }", ""],
            &["path = \"/old\"\nredirect = \"/older\"", ""],
            &["headers = { x-forwarded-proto = \"https\" }\nredirect = \"http://{host}{uri}\"", ""],
        ] {
            assert_eq!(said(&routes(fine)), "nothing", "{fine:?}");
        }
    }
}
