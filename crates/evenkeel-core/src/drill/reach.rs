//! Which route leads to a service, so that a drill's clients reach the instances that it harms.
//!
//! The same order as the edge's: host, then longest path, then order in the file. It owns no state and never
//! looks at more than the stack file; routes that need particular headers are passed over, since a drill sends none.

use crate::stack::{Route, Stack};

/// How clients reach a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Name of the listener.
    pub(super) listener: String,
    /// Value of the `Host` header; `None` for the listener's address.
    pub(super) host: Option<String>,
    /// The route's path.
    pub(super) path: String,
}

/// The service that gets `GET path` on this listener for this host.
pub(super) fn leads_to<'s>(stack: &'s Stack, listener: &str, host: Option<&str>, path: &str) -> Option<&'s str> {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    let mut best: Option<(&Route, (u8, usize, usize))> = None;
    for route in &stack.routes {
        let fits = route.listener.as_deref().is_none_or(|name| name == listener)
            && takes_a_get(route)
            && lies_below(path, &route.path);
        let Some(host_rank) = host_rank(route.host.as_deref(), host).filter(|_| fits) else {
            continue;
        };
        let rank = (host_rank, route.host.as_deref().map_or(0, str::len), route.path.trim_end_matches('/').len());
        // Only a better one replaces an earlier one: order in the file decides between equals.
        if best.is_none_or(|(_, other)| rank > other) {
            best = Some((route, rank));
        }
    }
    best.map(|(route, _)| route.service.as_str())
}

/// All ways to a service, in the order of the file, but those without a rate limit first, since a drill's clients come
/// from one address; the first listener stands for a route on every listener.
pub(super) fn ways_to(stack: &Stack, service: &str) -> Vec<Way> {
    let first = stack.listeners.keys().next();
    let mut routes: Vec<&Route> =
        stack.routes.iter().filter(|route| route.service == service && takes_a_get(route)).collect();
    routes.sort_by_key(|route| !route.rate.is_empty());
    routes
        .into_iter()
        .filter_map(|route| {
            let listener = route.listener.as_ref().or(first)?.clone();
            let host = route.host.as_ref().map(|host| match host.strip_prefix("*.") {
                Some(rest) => format!("drill.{rest}"),
                None => host.clone(),
            });
            Some(Way { listener, host, path: route.path.clone() })
        })
        .collect()
}

/// Whether it takes a plain `GET`.
fn takes_a_get(route: &Route) -> bool {
    route.headers.is_empty() && (route.methods.is_empty() || route.methods.iter().any(|method| method == "GET"))
}

/// `/api` covers `/api` and `/api/orders`, not `/apis`.
fn lies_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// 2 for the very host, 1 for a wildcard that covers it, 0 for a route without host; `None` where it does not fit.
fn host_rank(wanted: Option<&str>, host: Option<&str>) -> Option<u8> {
    let Some(wanted) = wanted else { return Some(0) };
    let host = host?;
    if wanted.eq_ignore_ascii_case(host) {
        return Some(2);
    }
    let suffix = wanted.strip_prefix('*')?;
    let (at, length) = (host.len().checked_sub(suffix.len())?, host.len());
    (at > 0 && host.get(at..length)?.eq_ignore_ascii_case(suffix)).then_some(1)
}
