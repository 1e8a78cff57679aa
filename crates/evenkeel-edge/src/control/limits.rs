//! Rate limits, as the control thread sees them: when one begins to refuse requests, and when it has stopped.
//!
//! Data threads count refusals and keep the address of somebody who was refused; here that is read now and then, so that
//! a flood of refused requests makes one event, not thousands. It decides about no request.

use std::{collections::HashMap, sync::Arc, time::Duration};

use evenkeel_core::{link::EventKind, snapshot::RateKey, time::Moment};

use crate::http::rates::Limit;

/// A limit that has refused nobody for this long has ended.
const QUIET: Duration = Duration::from_secs(10);

/// What was seen of limits that refused somebody.
#[derive(Debug, Default)]
pub(super) struct LimitWatch(HashMap<*const Limit, Seen>);

#[derive(Debug)]
struct Seen {
    /// Keeps the address from becoming another limit's.
    limit: Arc<Limit>,
    refusals: u64,
    /// Refusals up to the one with which it began to refuse, and when the last was seen, while it refuses.
    since: Option<(u64, Moment)>,
}

impl LimitWatch {
    /// Looks at the limits in use; tells service and event.
    pub(super) fn tick(
        &mut self,
        limits: impl Iterator<Item = Arc<Limit>>,
        now: Moment,
        mut tell: impl FnMut(&str, EventKind),
    ) {
        for limit in limits {
            let refusals = limit.refusals();
            if refusals == 0 {
                continue;
            }
            let key = Arc::as_ptr(&limit);
            let seen = self.0.entry(key).or_insert_with(|| Seen { limit, refusals: 0, since: None });
            if refusals > seen.refusals {
                let from = seen.since.map_or(seen.refusals, |(from, _)| from);
                if seen.since.replace((from, now)).is_none() {
                    tell(&seen.limit.service, began(&seen.limit));
                }
                seen.refusals = refusals;
            }
        }
        self.0.retain(|_, seen| {
            if let Some((from, last)) = seen.since
                && now.since(last) >= QUIET
            {
                let refused = seen.refusals - from;
                tell(&seen.limit.service, EventKind::RateLimitEnded { route: seen.limit.route.clone(), refused });
                seen.since = None;
            }
            // Nobody but this watch knows a limit of a route that is gone.
            seen.since.is_some() || Arc::strong_count(&seen.limit) > 1
        });
    }
}

fn began(limit: &Limit) -> EventKind {
    let rate = &limit.config;
    let by = match &rate.by {
        RateKey::Address => "address".to_owned(),
        RateKey::Header(name) => format!("header {name}"),
        RateKey::Cookie(name) => format!("cookie {name}"),
        RateKey::Route => "the whole route".to_owned(),
    };
    let per = Duration::from_millis(rate.per_ms);
    EventKind::RateLimited {
        route: limit.route.clone(),
        client: limit.refused_last().map_or_else(|| "unknown".to_owned(), |client| client.to_string()),
        limit: format!("{} requests in {per:?} and {} at once, by {by}", rate.requests, rate.burst),
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::snapshot::{Actions, Rate, Route};

    use super::*;

    #[test]
    fn a_flood_is_one_event_and_its_end_another() {
        let rate = Rate { by: RateKey::Address, requests: 1, per_ms: 1000, burst: 0 };
        let route = Route {
            listener: None,
            host: None,
            path: "/api".into(),
            headers: Vec::new(),
            methods: Vec::new(),
            service: "app".into(),
            idempotency_key: false,
            actions: Actions::default(),
        };
        let limit = Arc::new(Limit::new(&route, &rate));
        let mut watch = LimitWatch::default();
        let mut told = Vec::new();
        let mut at = |ms: u64, told: &mut Vec<String>| {
            let one = std::iter::once(Arc::clone(&limit));
            watch.tick(one, Moment::from_millis(ms), |service, what| told.push(format!("{service}: {what:?}")));
        };
        at(0, &mut told);
        assert!(told.is_empty(), "{told:?}");
        for ms in 1..500 {
            limit.refused("192.0.2.7".parse().unwrap());
            at(ms, &mut told);
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("app: RateLimited") && told[0].contains("192.0.2.7"), "{told:?}");
        at(10_400, &mut told);
        assert_eq!(told.len(), 1, "not for long enough");
        at(10_500, &mut told);
        assert!(told.len() == 2 && told[1].contains("refused: 499"), "{told:?}");
        limit.refused("192.0.2.8".parse().unwrap());
        at(10_600, &mut told);
        assert!(told.len() == 3 && told[2].contains("192.0.2.8"), "{told:?}");
        drop(limit);
        watch.tick(std::iter::empty(), Moment::from_millis(30_000), |_, what| told.push(format!("{what:?}")));
        assert!(watch.0.is_empty() && told.len() == 4);
    }
}
