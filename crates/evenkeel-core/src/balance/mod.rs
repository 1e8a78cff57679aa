//! Which instance gets a request: one file for each algorithm.
//!
//! Every algorithm chooses among a slice of [`Candidate`]s and keeps at most a small state of its own; none
//! allocates, reads a clock or knows what an instance is. A candidate that may not be chosen (not healthy, at
//! its limit, already tried) stays in the slice with `open` false, so that places keep their meaning from one
//! request to the next. Tables of algorithms that hash are made when the set of instances changes.

mod consistent_hash;
mod hash;
mod ip_hash;
mod least_connections;
mod maglev;
mod power_of_two;
mod random;
mod round_robin;
mod token;
mod trial;
mod weighted_round_robin;

pub use consistent_hash::Ring;
pub use hash::{client_hash, hash_bytes, rendezvous};
pub use ip_hash::ip_hash;
pub use least_connections::LeastConnections;
pub use maglev::Maglev;
pub use power_of_two::{PeakEwma, power_of_two};
pub use random::{Draws, random};
pub use round_robin::RoundRobin;
pub use token::TokenKey;
pub use trial::{Scales, TrialShare};
pub use weighted_round_robin::WeightedRoundRobin;

/// One instance, as an algorithm sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// A number that stays the same while the instance stays, whatever comes and goes around it.
    pub key: u64,
    /// Relative share, at least 1.
    pub weight: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// Whether it may be chosen.
    pub open: bool,
}

#[cfg(test)]
pub(crate) fn candidates(weights: &[u16]) -> Vec<Candidate> {
    let made = weights.iter().zip(1..).map(|(&weight, key)| Candidate {
        key,
        weight: u32::from(weight),
        in_flight: 0,
        open: true,
    });
    made.collect()
}

/// Instances `shop/0`, `shop/1` … of these weights, as tables are made from them: key and weight.
#[cfg(test)]
pub(crate) fn named_by_hash(weights: &[u16]) -> Vec<(u64, u32)> {
    let named = |n: usize| hash::hash_bytes(format!("shop/{n}").as_bytes());
    weights.iter().enumerate().map(|(n, &weight)| (named(n), u32::from(weight))).collect()
}

/// Those instances as candidates that are open and have nothing in flight.
#[cfg(test)]
pub(crate) fn opened(instances: &[(u64, u32)]) -> Vec<Candidate> {
    let made = |&(key, weight): &(u64, u32)| Candidate { key, weight, in_flight: 0, open: true };
    instances.iter().map(made).collect()
}
