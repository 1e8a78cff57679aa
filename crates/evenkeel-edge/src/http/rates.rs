//! Rate limits: how often one client may ask by one route.
//!
//! A token bucket, kept as one number for each client: the moment at which its bucket will be full again (the generic
//! cell rate algorithm, ITU-T I.371 annex A). What is known of clients lives in a table of fixed size, shared by all
//! threads of the edge, so that a limit means what it says; another edge counts for itself. Where the table has no room
//! for one more, the client whose bucket is fullest is forgotten, which costs nothing once it is full. A lock covers one
//! lookup in one of many parts. It never waits for anything and knows no clock.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evenkeel_core::{
    snapshot::{Rate, RateKey, Route},
    time::Moment,
};

use crate::clients::ClientKey;

/// Parts of a table, each with a lock of its own.
const PARTS: usize = 64;
/// Sets in a part. A client belongs to one set.
const SETS: usize = 128;
/// Clients in a set: with the above 65,536 clients in 1 MiB for each limit.
const WAYS: usize = 8;

/// Who asks, as far as a limit tells clients apart.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Who<'a> {
    /// By address.
    Client(ClientKey),
    /// By a value that the client sent.
    Value(&'a [u8]),
}

/// One limit of one route.
#[derive(Debug)]
pub struct Limit {
    /// Host and path of the route, for people.
    pub route: String,
    /// The route's service.
    pub service: String,
    /// As in the snapshot.
    pub config: Rate,
    bucket: Bucket,
    state: State,
    refused: AtomicU64,
    refused_last: Mutex<Option<IpAddr>>,
}

/// The numbers of a bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// How long one token takes to come.
    interval_ns: u64,
    /// How far ahead of the present a bucket's moment may lie when one more token is taken.
    tolerance_ns: u64,
}

#[derive(Debug)]
enum State {
    /// All clients share one bucket.
    One(AtomicU64),
    Many(RandomState, Box<[Mutex<Vec<[Known; WAYS]>>]>),
}

/// What is known of one client. A key of 0: nobody.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    key: u64,
    /// When its bucket will be full again, in nanoseconds of [`crate::clock`].
    full_ns: u64,
}

impl Limit {
    /// A limit that nobody has touched.
    pub fn new(route: &Route, config: &Rate) -> Self {
        let per_ns = config.per_ms.max(1).saturating_mul(1_000_000);
        let interval_ns = (per_ns / u64::from(config.requests.max(1))).max(1);
        let room = u64::from(config.requests.max(1)) + u64::from(config.burst);
        let tolerance_ns = (room - 1).saturating_mul(interval_ns);
        let state = if config.by == RateKey::Route {
            State::One(AtomicU64::new(0))
        } else {
            State::Many(RandomState::new(), (0..PARTS).map(|_| Mutex::default()).collect())
        };
        Self {
            route: format!("{}{}", route.host.as_deref().unwrap_or_default(), route.path),
            service: route.service.clone(),
            config: config.clone(),
            bucket: Bucket { interval_ns, tolerance_ns },
            state,
            refused: AtomicU64::new(0),
            refused_last: Mutex::new(None),
        }
    }

    /// Takes a token. `Err`: there is none, and the next one comes in so long.
    pub fn take(&self, who: Who<'_>, now: Moment) -> Result<(), Duration> {
        self.with(who, now, |full_ns| self.bucket.take(full_ns, now))
    }

    /// Gives a token back that was taken for nothing, since another limit refused the request.
    pub fn give_back(&self, who: Who<'_>, now: Moment) {
        self.with(who, now, |full_ns| (full_ns.saturating_sub(self.bucket.interval_ns), ()));
    }

    /// Counts a refusal of this client.
    pub fn refused(&self, client: IpAddr) {
        self.refused.fetch_add(1, Relaxed);
        // A sample: whoever finds the place taken is not the only one.
        if let Ok(mut last) = self.refused_last.try_lock() {
            *last = Some(client);
        }
    }

    /// How many requests were refused since the edge's start, or since the limit is there.
    pub fn refusals(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Somebody who was refused lately.
    pub fn refused_last(&self) -> Option<IpAddr> {
        *self.refused_last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the moment at which the client's bucket is full.
    fn with<R>(&self, who: Who<'_>, now: Moment, act: impl Fn(u64) -> (u64, R)) -> R {
        match &self.state {
            State::One(cell) => loop {
                let before = cell.load(Relaxed);
                let (after, result) = act(before);
                if cell.compare_exchange_weak(before, after, Relaxed, Relaxed).is_ok() {
                    return result;
                }
            },
            State::Many(hasher, parts) => {
                let hash = hasher.hash_one(who);
                let at =
                    |shift: u32, of: usize| usize::try_from((hash >> shift) % of as u64).expect("it is below a usize");
                let mut part = parts[at(58, PARTS)].lock().unwrap_or_else(PoisonError::into_inner);
                if part.is_empty() {
                    part.resize(SETS, [Known::default(); WAYS]);
                }
                let known = find(&mut part[at(48, SETS)], hash.max(1), now);
                let (full_ns, result) = act(known.full_ns);
                known.full_ns = full_ns;
                result
            }
        }
    }
}

/// The client's place, or one that is made for it: whose bucket is fullest, or was first to be so, makes room.
fn find(set: &mut [Known; WAYS], key: u64, now: Moment) -> &mut Known {
    let there = set.iter().position(|known| known.key == key);
    let place = there.unwrap_or_else(|| {
        let fullest = (0..WAYS).min_by_key(|&place| set[place].full_ns).expect("a set has places");
        set[fullest] = Known { key, full_ns: now.as_nanos() };
        fullest
    });
    &mut set[place]
}

impl Bucket {
    /// Takes a token from a bucket that will be full at `full_ns`.
    fn take(self, full_ns: u64, now: Moment) -> (u64, Result<(), Duration>) {
        let now_ns = now.as_nanos();
        let ahead_ns = full_ns.saturating_sub(now_ns);
        if ahead_ns > self.tolerance_ns {
            return (full_ns, Err(Duration::from_nanos(ahead_ns - self.tolerance_ns)));
        }
        (full_ns.max(now_ns).saturating_add(self.interval_ns), Ok(()))
    }
}

/// Finds the limits of routes that stay when a new snapshot comes. Owned by whoever compiles views; what no view uses
/// any more is forgotten.
#[derive(Debug, Default)]
pub struct KnownLimits(HashMap<String, Weak<Limit>>);

impl KnownLimits {
    /// All that some view uses.
    pub fn live(&self) -> impl Iterator<Item = Arc<Limit>> {
        self.0.values().filter_map(Weak::upgrade)
    }

    /// Forgets what no view uses any more.
    pub fn sweep(&mut self) {
        self.0.retain(|_, known| known.strong_count() > 0);
    }

    /// The limits of a route, with what they know if the route matches what it matched before and the limit is the same.
    pub fn of(&mut self, route: &Route) -> Vec<Arc<Limit>> {
        let one = |(place, rate): (usize, &Rate)| {
            let Route { listener, host, path, headers, methods, service, .. } = route;
            let key = format!("{:?}", (listener, host, path, headers, methods, service, place, rate));
            if let Some(known) = self.0.get(&key).and_then(Weak::upgrade) {
                return known;
            }
            let fresh = Arc::new(Limit::new(route, rate));
            self.0.insert(key, Arc::downgrade(&fresh));
            fresh
        };
        route.actions.rates.iter().enumerate().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use evenkeel_core::snapshot::Actions;

    use super::*;

    fn limit(requests: u32, per_ms: u64, burst: u32, by: RateKey) -> Limit {
        let rate = Rate { by, requests, per_ms, burst };
        Limit::new(&route(&rate), &rate)
    }

    fn route(rate: &Rate) -> Route {
        Route {
            listener: None,
            host: Some("a.example".into()),
            path: "/x".into(),
            headers: Vec::new(),
            methods: Vec::new(),
            service: "app".into(),
            idempotency_key: false,
            actions: Actions { rates: vec![rate.clone()], ..Actions::default() },
        }
    }

    fn at(ms: u64) -> Moment {
        Moment::from_millis(1_000_000 + ms)
    }

    fn client(n: u32) -> Who<'static> {
        Who::Client(ClientKey::of(Ipv4Addr::from_bits(n).into()))
    }

    #[test]
    fn a_full_bucket_then_evenly() {
        for by in [RateKey::Route, RateKey::Address] {
            let limit = limit(10, 1000, 5, by);
            let taken = |ms| (0..100).take_while(|_| limit.take(client(1), at(ms)).is_ok()).count();
            assert_eq!(taken(0), 15, "what is allowed in the time, and the burst");
            assert_eq!(limit.take(client(1), at(0)), Err(Duration::from_millis(100)));
            assert_eq!(limit.take(client(1), at(40)), Err(Duration::from_millis(60)), "asking in vain costs nothing");
            assert_eq!(taken(100), 1);
            assert_eq!(taken(1100), 10);
            assert_eq!(taken(60_000), 15, "never more than full");
        }
    }

    #[test]
    fn clients_do_not_share() {
        let limit = limit(1, 1000, 0, RateKey::Address);
        assert!(limit.take(client(1), at(0)).is_ok() && limit.take(client(1), at(0)).is_err());
        assert!(limit.take(client(2), at(0)).is_ok());
        assert!(limit.take(Who::Value(b"key"), at(0)).is_ok() && limit.take(Who::Value(b"key"), at(0)).is_err());
        limit.give_back(client(1), at(0));
        assert!(limit.take(client(1), at(0)).is_ok(), "what was given back is there");
    }

    #[test]
    fn memory_is_bounded_and_the_fullest_makes_room() {
        let limit = limit(2, 60_000, 0, RateKey::Address);
        assert!(limit.take(client(0), at(0)).is_ok() && limit.take(client(0), at(0)).is_ok());
        for n in 1..=300_000 {
            assert!(limit.take(client(n), at(1)).is_ok());
        }
        let State::Many(_, parts) = &limit.state else { panic!("it tells clients apart") };
        let kept: usize = parts.iter().map(|part| part.lock().unwrap().len() * WAYS).sum();
        assert_eq!(kept, 65_536);
        let mut set = [Known { key: 9, full_ns: 900 }; WAYS];
        set[3] = Known { key: 7, full_ns: 400 };
        find(&mut set, 8, Moment::from_nanos(500));
        assert_eq!((set[3].key, set[3].full_ns), (8, 500));
        assert_eq!(find(&mut set, 9, Moment::from_nanos(500)).full_ns, 900);
    }

    #[test]
    fn extremes_neither_overflow_nor_divide_by_zero() {
        for (requests, per_ms, burst) in [(u32::MAX, 1, u32::MAX), (0, 0, 0), (1, u64::MAX, u32::MAX)] {
            let limit = limit(requests, per_ms, burst, RateKey::Address);
            assert!(limit.take(client(1), Moment::from_nanos(u64::MAX - 1)).is_ok(), "{requests} in {per_ms} ms");
        }
    }

    #[test]
    fn a_reload_keeps_the_limits_of_unchanged_routes() {
        let rate = Rate { by: RateKey::Address, requests: 1, per_ms: 60_000, burst: 0 };
        let (mut known, route) = (KnownLimits::default(), route(&rate));
        let before = known.of(&route);
        assert!(before[0].take(client(1), at(0)).is_ok());
        known.sweep();
        assert!(known.of(&route)[0].take(client(1), at(1)).is_err());
        let mut changed = route.clone();
        changed.actions.rates[0].requests = 2;
        assert!(known.of(&changed)[0].take(client(1), at(1)).is_ok(), "another limit begins anew");
        drop(before);
        known.sweep();
        assert!(known.0.is_empty());
    }

    #[test]
    fn threads_share_a_limit() {
        let limit = limit(1000, 3_600_000, 0, RateKey::Address);
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..1000).filter(|_| limit.take(client(1), at(0)).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
    }
}
