//! Guard rails: what a route does with a request before any instance is involved.
//!
//! In this order: `CONNECT` only where it is allowed, the redirect, the rate limits, and then which of several services
//! gets the request, and which one a copy. Called only where the route has actions or the target is not a path, so that
//! other requests pay nothing. State lives in the route's view; nothing here waits.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    rc::Rc,
    time::Duration,
};

use evenkeel_core::snapshot::{RateKey, SplitBy};

use super::{
    affinity::cookie_of,
    client::{Client, Refusal},
    framing::Body,
    head_request::{Reject, RequestHead},
    origin,
    request::Extras,
};
use crate::{
    actions::ActionsView,
    clients::ClientKey,
    http::rates::Who,
    pick::has_healthy,
    routes::{Destination, RouteView},
};

/// The way that a request takes.
#[derive(Debug)]
pub(crate) struct Way {
    /// The service at this place in the view gets it.
    pub(crate) place: usize,
    pub(crate) extras: Option<Box<Extras>>,
}

/// What the answer to a refused request says beside its status.
#[derive(Debug)]
pub(crate) enum Told {
    /// Where to go instead.
    Location(Vec<u8>),
    /// When to come again, in seconds.
    RetryAfter(u64),
}

/// Finds the way of a request, or the answer to it.
#[cold]
pub(crate) fn pass(client: &Client, head: &RequestHead<'_, '_>, route: &RouteView) -> Result<Way, Refusal> {
    let actions = route.actions.as_deref();
    if head.method == b"CONNECT" {
        may_connect(head, actions.is_some_and(|actions| actions.config.connect))?;
    }
    let own = match &route.destination {
        Destination::Service(place) => *place,
        Destination::Elsewhere(redirect) => {
            let target = if head.path.starts_with(b"/") { head.path } else { b"/" };
            let location = redirect.location(head.host(), target);
            let location = location.ok_or(Reject::new(400, "the request names no host to be sent to"))?;
            client.thread.cell().redirected.add(1);
            return Err(Refusal::told(Reject::new(redirect.status, "sent elsewhere"), Told::Location(location)));
        }
    };
    let Some(actions) = actions else {
        return Ok(Way { place: own, extras: None });
    };
    limit(client, head, actions).map_err(|wait| {
        client.place.services()[own].cell().limited.add(1);
        Refusal::told(Reject::new(429, "too many requests"), Told::RetryAfter(seconds(wait)))
    })?;
    Ok(choose(client, head, actions, own))
}

/// RFC 9110 section 9.3.6. A body would have no meaning, so that one could be taken for bytes of the tunnel.
fn may_connect(head: &RequestHead<'_, '_>, allowed: bool) -> Result<(), Reject> {
    if !allowed {
        return Err(Reject::new(501, "CONNECT is not supported"));
    }
    if head.minor == 0 || head.body != Body::Empty {
        return Err(Reject::new(400, "CONNECT with a body, or in HTTP/1.0"));
    }
    Ok(())
}

/// Takes a token of each limit, or of none. `Err`: how long it takes until there is one.
fn limit(client: &Client, head: &RequestHead<'_, '_>, actions: &ActionsView) -> Result<(), Duration> {
    let now = client.thread.now();
    for (place, limit) in actions.limits.iter().enumerate() {
        if let Err(wait) = limit.take(who(client, head, &limit.config.by), now) {
            for taken in &actions.limits[..place] {
                taken.give_back(who(client, head, &taken.config.by), now);
            }
            limit.refused(origin::of(client, head));
            return Err(wait);
        }
    }
    Ok(())
}

fn who<'a>(client: &Client, head: &RequestHead<'a, '_>, by: &RateKey) -> Who<'a> {
    let value = match by {
        RateKey::Header(name) => head.field(name.as_bytes()),
        RateKey::Cookie(name) => cookie_of(head, name),
        RateKey::Address | RateKey::Route => None,
    };
    value
        .filter(|value| !value.is_empty())
        .map_or_else(|| Who::Client(ClientKey::of(origin::of(client, head))), Who::Value)
}

/// Which service gets the request, and which one a copy.
fn choose(client: &Client, head: &RequestHead<'_, '_>, actions: &ActionsView, own: usize) -> Way {
    let services = client.place.services();
    let mut extras = Extras::default();
    let mut place = own;
    if !actions.split.is_empty()
        && let Some(other) = actions.split_at(split_place(client, head, actions))
        && has_healthy(&services[other])
    {
        place = other;
        extras.main = Some(Rc::clone(&services[own]));
    }
    if let Some(other) = actions.next_mirror()
        && other != place
        && !head.upgrades
        && head.method != b"CONNECT"
    {
        extras.mirror = Some(Rc::clone(&services[other]));
    }
    let needed = extras.main.is_some() || extras.mirror.is_some();
    Way { place, extras: needed.then(|| Box::new(extras)) }
}

/// Where among a hundred the request stands. Hashed with fixed keys: the same on every thread, every edge and after every
/// start.
fn split_place(client: &Client, head: &RequestHead<'_, '_>, actions: &ActionsView) -> u8 {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let hash = match &actions.config.split_by {
        SplitBy::Request => None,
        SplitBy::Address => Some(hasher.hash_one(ClientKey::of(origin::of(client, head)))),
        SplitBy::Header(name) => head.field(name.as_bytes()).map(|value| hasher.hash_one(value)),
        SplitBy::Cookie(name) => cookie_of(head, name).map(|value| hasher.hash_one(value)),
    };
    let place = |hash: u64| u8::try_from(hash % 100).expect("it is below 100");
    hash.map_or_else(|| actions.next_split_place(), place)
}

/// Whole seconds, at least one: `Retry-After` has no smaller unit (RFC 9110 section 10.2.3).
fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds() {
        let said = [0, 1, 1000, 1001, 60_000].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(said, [1, 1, 1, 2, 60]);
        assert_eq!(seconds(Duration::MAX), u64::MAX);
    }
}
