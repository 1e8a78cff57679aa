//! Which instance gets a request, by the service's algorithm.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use evenkeel_core::{
    balance::{
        Candidate, Draws, LeastConnections, Maglev, PeakEwma, Ring, RoundRobin, WeightedRoundRobin, client_hash,
        ip_hash, power_of_two, random,
    },
    snapshot::Balance,
};

use crate::{context::Context, fleet::Key};

/// How many clients there are, each with an address.
const CLIENTS: u64 = 60;

/// Bound on the load of an instance, in percent of the mean, where the algorithm has one.
const BOUND_PERCENT: u16 = 125;

/// The algorithm and its state.
#[derive(Debug)]
pub(super) struct Chooser {
    balance: Balance,
    in_turn: RoundRobin,
    by_weight: WeightedRoundRobin,
    by_load: LeastConnections,
    draws: Draws,
    latencies: BTreeMap<Key, PeakEwma>,
    /// Keys and weights that the tables are made of.
    set: Vec<(u64, u32)>,
    table: Maglev,
    ring: Ring,
}

impl Chooser {
    pub(super) fn new(balance: Balance) -> Self {
        Self {
            balance,
            in_turn: RoundRobin::default(),
            by_weight: WeightedRoundRobin::default(),
            by_load: LeastConnections::default(),
            draws: Draws::new(1),
            latencies: BTreeMap::new(),
            set: Vec::new(),
            table: Maglev::new(&[]),
            ring: Ring::new(&[]),
        }
    }

    /// The place of the candidate for this request.
    pub(super) fn choose(&mut self, candidates: &[Candidate], request: u64, ctx: &mut Context) -> Option<usize> {
        let client = u32::try_from(request % CLIENTS).expect("a remainder of 60 fits");
        let client = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + client));
        match self.balance {
            Balance::RoundRobin => {
                ctx.seen("balance: round-robin");
                self.in_turn.choose(candidates)
            }
            Balance::WeightedRoundRobin => {
                ctx.seen("balance: weighted-round-robin");
                self.by_weight.choose(candidates)
            }
            Balance::LeastConnections => {
                ctx.seen("balance: least-connections");
                self.by_load.choose(candidates)
            }
            Balance::IpHash => {
                ctx.seen("balance: ip-hash");
                ip_hash(candidates, client)
            }
            Balance::Random => {
                ctx.seen("balance: random");
                random(candidates, self.draws.draw())
            }
            Balance::PowerOfTwo => {
                ctx.seen("balance: power-of-two");
                self.by_latency(candidates, ctx)
            }
            Balance::Maglev => {
                ctx.seen("balance: maglev");
                self.make_tables(candidates);
                self.table.choose(candidates, client_hash(client))
            }
            Balance::ConsistentHash => {
                ctx.seen("balance: consistent-hash");
                self.make_tables(candidates);
                self.ring.choose(candidates, client_hash(client), BOUND_PERCENT)
            }
        }
    }

    /// A try at this instance was answered.
    pub(super) fn answered(&mut self, key: Key, latency: Duration, ctx: &Context) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies.entry(key).or_default().note(latency_us, ctx.now);
    }

    /// A try at this instance failed.
    pub(super) fn failed(&mut self, key: Key, ctx: &Context) {
        self.latencies.entry(key).or_default().failed(ctx.now);
    }

    fn by_latency(&mut self, candidates: &[Candidate], ctx: &Context) -> Option<usize> {
        let remembered = |at: usize| self.latencies.get(&candidates[at].key).copied().unwrap_or_default();
        let at = power_of_two(candidates, self.draws.draw(), ctx.now, remembered)?;
        self.latencies.entry(candidates[at].key).or_default().chosen(ctx.now);
        Some(at)
    }

    fn make_tables(&mut self, candidates: &[Candidate]) {
        let set: Vec<(u64, u32)> = candidates.iter().map(|candidate| (candidate.key, candidate.weight)).collect();
        if set != self.set {
            (self.table, self.ring) = (Maglev::new(&set), Ring::new(&set));
            self.set = set;
        }
    }
}
