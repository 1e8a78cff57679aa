//! Consistent hash with bounded loads: by a hash, on a ring, and nobody far above the mean.
//!
//! Each instance stands at many points of a ring (Karger et al. 1997), and a request goes to the next point after its
//! hash. Popular keys would load one instance with more than it can bear, so each has a bound: the mean of the requests
//! in flight, this one among them, times a factor, rounded up (Mirrokni, Thorup, Zadimoghaddam: "Consistent hashing with
//! bounded loads", SODA 2018). Whoever has reached it is passed over, and the next one on the ring has the request. The
//! ring is made when the set of instances changes, never for a request.

use super::{Candidate, hash::mix};

/// Points of an instance of mean weight.
const POINTS: u64 = 160;

/// Points of all instances together, above which each has fewer, but not below [`FEWEST`].
const MOST_POINTS: u64 = 262_144;

/// Fewest points of an instance of mean weight.
const FEWEST: u64 = 16;

/// The ring of one set of instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Points in order, with the place of the instance.
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// The ring for instances of these keys and weights, in the order of their places.
    pub fn new(instances: &[(u64, u32)]) -> Self {
        let count = u64::try_from(instances.len()).unwrap_or(u64::MAX).max(1);
        let total: u64 = instances.iter().map(|(_, weight)| u64::from((*weight).max(1))).sum();
        let mean = (MOST_POINTS / count).clamp(FEWEST, POINTS);
        let mut points = Vec::new();
        for (place, &(key, weight)) in (0..).zip(instances) {
            let its = (mean * count * u64::from(weight.max(1))).div_ceil(total.max(1));
            // The n-th point stands where it does whatever the weights are: another weight adds points or removes some.
            points.extend((0..its).map(|n| (mix(key ^ mix(n)), place)));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// The place of the open candidate for this hash, `None` if none is open. `bound_percent` is how much of the mean an
    /// instance may have, at least 100; 0: no bound.
    pub fn choose(&self, candidates: &[Candidate], hash: u64, bound_percent: u16) -> Option<usize> {
        let open = || candidates.iter().filter(|candidate| candidate.open);
        let weight = |one: &Candidate| u128::from(one.weight.max(1));
        let total: u128 = open().map(weight).sum();
        if total == 0 {
            return None;
        }
        let load = open().map(|one| u128::from(one.in_flight)).sum::<u128>() + 1;
        let bound = u128::from(bound_percent);
        let has_room = |one: &Candidate| {
            let most = (load * bound * weight(one)).div_ceil(100 * total);
            bound == 0 || u128::from(one.in_flight) < most
        };
        let after = self.points.partition_point(|&(point, _)| point < mix(hash));
        let mut around = self.points[after..].iter().chain(&self.points[..after]);
        let fits = |&(_, place): &(u64, u32)| {
            let place = usize::try_from(place).ok()?;
            candidates.get(place).filter(|one| one.open && has_room(one)).map(|_| place)
        };
        // With a bound of at least the mean somebody always has room.
        around.find_map(fits).or_else(|| candidates.iter().position(|one| one.open))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::{named_by_hash as instances, opened as open};

    #[test]
    fn nobody() {
        assert_eq!(Ring::new(&[]).choose(&[], 1, 125), None);
        let one = instances(&[1]);
        let mut all = open(&one);
        all[0].in_flight = 1_000_000;
        assert_eq!(Ring::new(&one).choose(&all, 1, 100), Some(0));
        all[0].open = false;
        assert_eq!(Ring::new(&one).choose(&all, 1, 125), None);
    }

    #[test]
    fn one_popular_key_loads_everybody_and_nobody_beyond_the_bound() {
        let all = instances(&[1; 4]);
        let (ring, mut open) = (Ring::new(&all), open(&all));
        let first = ring.choose(&open, 42, 125).unwrap();
        for n in 1..=400 {
            let at = ring.choose(&open, 42, 125).unwrap();
            open[at].in_flight += 1;
            let most = (n * 125_u32).div_ceil(400);
            assert!(open.iter().all(|one| one.in_flight <= most), "{open:?} after {n}");
        }
        assert_eq!(open[first].in_flight, 125, "its own instance has as much as it may");
    }

    #[test]
    fn without_load_each_key_stays_where_it_belongs() {
        let all = instances(&[1; 5]);
        let (ring, mut open) = (Ring::new(&all), open(&all));
        open[3].in_flight = 1;
        for hash in 0..500 {
            let unbound = ring.choose(&open, hash, 0).unwrap();
            let bound = ring.choose(&open, hash, 300).unwrap();
            assert!(unbound == bound || open[unbound].in_flight > 0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Shares follow weights roughly, and the order of the instances does not matter.
        #[test]
        fn shares(weights in proptest::collection::vec(1u16..5, 2..8)) {
            let all = instances(&weights);
            let (ring, open_now) = (Ring::new(&all), open(&all));
            let mut turned = all.clone();
            turned.reverse();
            let (other, turned) = (Ring::new(&turned), open(&turned));
            let mut got = vec![0u32; all.len()];
            for hash in 0..8000u64 {
                let at = ring.choose(&open_now, hash, 0).unwrap();
                prop_assert_eq!(open_now[at].key, turned[other.choose(&turned, hash, 0).unwrap()].key);
                got[at] += 1;
            }
            let total: u16 = weights.iter().sum();
            for (weight, got) in weights.iter().zip(got) {
                let wanted = f64::from(*weight) / f64::from(total);
                let share = f64::from(got) / 8000.0;
                prop_assert!((share - wanted).abs() < 0.11, "{} of {}", share, wanted);
            }
        }

        /// Only the keys of one that is closed move, and of one that is gone too.
        #[test]
        fn only_what_must_moves(count in 3usize..9, gone in 0usize..9) {
            let (all, gone) = (instances(&vec![1; count]), gone % count);
            let (ring, full) = (Ring::new(&all), open(&all));
            let mut less = full.clone();
            less[gone].open = false;
            let mut left = all.clone();
            left.remove(gone);
            let (smaller, left) = (Ring::new(&left), open(&left));
            for hash in 0..2000 {
                let before = ring.choose(&full, hash, 0).unwrap();
                let after = ring.choose(&less, hash, 0).unwrap();
                prop_assert!(before == after || before == gone);
                prop_assert_eq!(less[after].key, left[smaller.choose(&left, hash, 0).unwrap()].key);
            }
        }

        /// Whatever the loads, somebody has room, and whoever is chosen stays within the bound.
        #[test]
        fn the_bound_holds(loads in proptest::collection::vec(0u32..50, 1..8), hash: u64, bound in 100u16..300) {
            let all = instances(&vec![1; loads.len()]);
            let mut open = open(&all);
            open.iter_mut().zip(&loads).for_each(|(one, load)| one.in_flight = *load);
            let at = Ring::new(&all).choose(&open, hash, bound).unwrap();
            let mean = f64::from(loads.iter().sum::<u32>() + 1) / f64::from(u32::try_from(loads.len()).unwrap());
            prop_assert!(f64::from(loads[at] + 1) <= (mean * f64::from(bound) / 100.0).ceil() + 1e-9);
        }
    }
}
