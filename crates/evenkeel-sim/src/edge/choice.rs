//! Which instance gets a request, by the service's algorithm.

use std::net::{IpAddr, Ipv4Addr};

use evenkeel_core::{
    balance::{Candidate, RoundRobin, WeightedRoundRobin, ip_hash, least_connections},
    snapshot::Balance,
};

use crate::context::Context;

/// How many clients there are, each with an address.
const CLIENTS: u64 = 60;

/// The algorithm and its state.
#[derive(Debug)]
pub(super) struct Chooser {
    balance: Balance,
    in_turn: RoundRobin,
    by_weight: WeightedRoundRobin,
    start: usize,
}

impl Chooser {
    pub(super) fn new(balance: Balance) -> Self {
        Self { balance, in_turn: RoundRobin::default(), by_weight: WeightedRoundRobin::default(), start: 0 }
    }

    /// The place of the candidate for this request.
    pub(super) fn choose(&mut self, candidates: &[Candidate], request: u64, ctx: &mut Context) -> Option<usize> {
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
                self.start = self.start.wrapping_add(1);
                least_connections(candidates, self.start)
            }
            Balance::IpHash | Balance::Random | Balance::PowerOfTwo | Balance::Maglev | Balance::ConsistentHash => {
                ctx.seen("balance: ip-hash");
                let client = u32::try_from(request % CLIENTS).expect("a remainder of 60 fits");
                ip_hash(candidates, IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + client)))
            }
        }
    }
}
