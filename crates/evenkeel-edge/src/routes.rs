//! The route table of one listener: host, then longest path, then order.
//!
//! Exact hosts come before `*.suffix` ones (the longest suffix first), and those before routes for every host.
//! Within a host the longest path prefix wins, and among equals the one that stands first in the file. A route
//! whose header conditions do not hold is passed over. Paths are compared in their normal form
//! ([`evenkeel_core::path`]), so that no spelling of a path gets around its route. Finding a route allocates nothing,
//! unless the path is long and not in its normal form.

use std::{collections::HashMap, sync::Arc};

use evenkeel_core::{
    path::{self, BadPath},
    snapshot::Route,
};

use crate::{actions::ActionsView, http::redirect::RedirectView};

/// A lower-case field name and the value it must have.
type Condition = (Box<[u8]>, Box<[u8]>);

/// Where a route leads.
#[derive(Debug)]
pub enum Destination {
    /// To the service at this index in the view.
    Service(usize),
    /// Elsewhere: the edge answers so. Such a route has actions.
    Elsewhere(RedirectView),
}

/// Where matching requests go.
#[derive(Debug)]
pub struct RouteView {
    /// Path prefix in its normal form, without a trailing slash; empty for all.
    path: Box<[u8]>,
    /// Empty for all.
    methods: Vec<Box<[u8]>>,
    headers: Vec<Condition>,
    /// Where they go.
    pub destination: Destination,
    /// An `Idempotency-Key` makes a request repeatable.
    pub idempotency_key: bool,
    /// What is done beside; mostly nothing.
    pub actions: Option<Box<ActionsView>>,
}

impl RouteView {
    /// Compiles one route that leads there.
    pub fn new(route: &Route, destination: Destination, actions: Option<ActionsView>) -> Self {
        let path = path::normal(route.path.as_bytes()).unwrap_or_else(|_| route.path.clone().into_bytes());
        let path = path.strip_suffix(b"/").unwrap_or(&path).into();
        let header = |(name, value): &(String, String)| (name.as_bytes().into(), value.as_bytes().into());
        Self {
            path,
            methods: route.methods.iter().map(|method| method.as_bytes().into()).collect(),
            headers: route.headers.iter().map(header).collect(),
            destination,
            idempotency_key: route.idempotency_key,
            actions: actions.map(Box::new),
        }
    }

    /// Index of its service in the view; `None`: it leads elsewhere.
    pub fn service(&self) -> Option<usize> {
        match self.destination {
            Destination::Service(place) => Some(place),
            Destination::Elsewhere(_) => None,
        }
    }

    fn matches_method(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|one| **one == *method)
    }

    fn matches_path(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(&*self.path) else {
            return false;
        };
        matches!(rest.first(), None | Some(b'/' | b'?'))
    }
}

/// The routes of one listener.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: HashMap<Box<[u8]>, Vec<Arc<RouteView>>>,
    suffix: HashMap<Box<[u8]>, Vec<Arc<RouteView>>>,
    any: Vec<Arc<RouteView>>,
}

/// Longest name that DNS allows; a longer host matches only routes for every host.
const LONGEST_HOST: usize = 255;

/// Longest path that is brought into its normal form on the stack.
const ROOM_BYTES: usize = 512;

impl RouteTable {
    /// Builds a table from routes in the order of the file.
    pub fn new<'a>(routes: impl Iterator<Item = (&'a Route, Arc<RouteView>)>) -> Self {
        let mut table = Self::default();
        for (route, view) in routes {
            let list = match route.host.as_deref() {
                None => &mut table.any,
                Some(host) => match host.strip_prefix("*.") {
                    Some(suffix) => table.suffix.entry(suffix.to_ascii_lowercase().into_bytes().into()).or_default(),
                    None => table.exact.entry(host.to_ascii_lowercase().into_bytes().into()).or_default(),
                },
            };
            list.push(view);
        }
        // A stable sort keeps the order of the file among paths of the same length.
        for list in table.exact.values_mut().chain(table.suffix.values_mut()).chain([&mut table.any]) {
            list.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        }
        table
    }

    /// The route of a request. `host` has no port; `path` begins with a slash and may carry a query; `header_is` says
    /// whether the request has a header field of this lower-case name with exactly this value.
    ///
    /// # Errors
    /// Where the path has no normal form.
    pub fn find(
        &self,
        host: &[u8],
        method: &[u8],
        path: &[u8],
        header_is: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Result<Option<&Arc<RouteView>>, BadPath> {
        if path::is_unusual(path) {
            return self.find_unusual(host, method, path, header_is);
        }
        Ok(self.find_normal(host, method, path, header_is))
    }

    #[cold]
    fn find_unusual(
        &self,
        host: &[u8],
        method: &[u8],
        path: &[u8],
        header_is: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Result<Option<&Arc<RouteView>>, BadPath> {
        let path = path::without_query(path);
        let (mut short, mut long) = ([0; ROOM_BYTES], Vec::new());
        let room = if let Some(room) = short.get_mut(..path.len()) {
            room
        } else {
            long.resize(path.len(), 0);
            &mut long
        };
        let path = path::normalise(path, room)?;
        Ok(self.find_normal(host, method, path, header_is))
    }

    fn find_normal(
        &self,
        host: &[u8],
        method: &[u8],
        path: &[u8],
        header_is: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Option<&Arc<RouteView>> {
        let first = |list: &'_ Vec<Arc<RouteView>>| {
            list.iter().position(|route| {
                route.matches_path(path)
                    && route.matches_method(method)
                    && route.headers.iter().all(|(name, value)| header_is(name, value))
            })
        };
        let mut lower = [0u8; LONGEST_HOST];
        // A trailing dot names the same host.
        let host = host.strip_suffix(b".").unwrap_or(host);
        if let (false, Some(lower)) = (self.exact.is_empty() && self.suffix.is_empty(), lower.get_mut(..host.len())) {
            lower.copy_from_slice(host);
            lower.make_ascii_lowercase();
            if let Some(route) = self.exact.get(&*lower).and_then(|list| first(list).map(|at| &list[at])) {
                return Some(route);
            }
            if !self.suffix.is_empty() {
                let mut rest = &*lower;
                while let Some(dot) = rest.iter().position(|&b| b == b'.') {
                    rest = &rest[dot + 1..];
                    if let Some(route) = self.suffix.get(rest).and_then(|list| first(list).map(|at| &list[at])) {
                        return Some(route);
                    }
                }
            }
        }
        first(&self.any).map(|at| &self.any[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: Option<&str>, path: &str, headers: &[(&str, &str)]) -> Route {
        Route {
            listener: None,
            host: host.map(str::to_owned),
            path: path.to_owned(),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            service: String::new(),
            idempotency_key: false,
            methods: Vec::new(),
            actions: evenkeel_core::snapshot::Actions::default(),
        }
    }

    fn table(routes: &[Route]) -> RouteTable {
        RouteTable::new(
            routes.iter().enumerate().map(|(i, r)| (r, Arc::new(RouteView::new(r, Destination::Service(i), None)))),
        )
    }

    fn find(table: &RouteTable, host: &str, path: &str) -> Option<usize> {
        let found = table.find(host.as_bytes(), b"GET", path.as_bytes(), |_, _| false);
        found.unwrap().and_then(|route| route.service())
    }

    #[test]
    fn host_then_longest_path_then_order() {
        let table = table(&[
            route(None, "/", &[]),
            route(Some("*.example.com"), "/", &[]),
            route(Some("shop.example.com"), "/api", &[]),
            route(Some("shop.example.com"), "/api/v1/", &[]),
            route(Some("shop.example.com"), "/api", &[]),
            route(Some("*.eu.example.com"), "/", &[]),
        ]);
        assert_eq!(find(&table, "SHOP.example.com", "/api/v1/x"), Some(3));
        assert_eq!(find(&table, "shop.example.com.", "/api/v1"), Some(3));
        assert_eq!(find(&table, "shop.example.com", "/api?x=1"), Some(2));
        // Not at a segment boundary, so the wildcard gets it.
        assert_eq!(find(&table, "shop.example.com", "/apix"), Some(1));
        assert_eq!(find(&table, "a.b.example.com", "/"), Some(1));
        assert_eq!(find(&table, "a.eu.example.com", "/"), Some(5));
        assert_eq!(find(&table, "example.com", "/"), Some(0));
        assert_eq!(find(&table, &"x".repeat(300), "/"), Some(0));
        assert_eq!(find(&table, "example.com", "*"), None);
    }

    #[test]
    fn headers_must_match() {
        let table = table(&[route(None, "/", &[("x-canary", "1")]), route(None, "/", &[])]);
        assert_eq!(find(&table, "a", "/"), Some(1));
        let canary = |name: &[u8], value: &[u8]| name == b"x-canary" && value == b"1";
        assert_eq!(table.find(b"a", b"GET", b"/", canary).unwrap().and_then(|r| r.service()), Some(0));
    }
}
