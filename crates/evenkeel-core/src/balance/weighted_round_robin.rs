//! Smooth weighted round robin: in turn by weight, evenly spread.
//!
//! Each candidate has a credit. Every choice adds to each open candidate's credit its weight, takes the one with
//! the most, and charges it the sum of the weights. Weights 5, 1, 1 give a, a, b, a, c, a, a instead of five
//! times a in a row (the algorithm that nginx introduced in 1.3.1).

use super::Candidate;

/// The credits. Kept by the caller for one set of candidates; a set of another size starts afresh.
#[derive(Clone, Debug, Default)]
pub struct WeightedRoundRobin {
    credits: Vec<i64>,
}

impl WeightedRoundRobin {
    /// The place of the next candidate, `None` if none is open. Allocates only when the number of candidates
    /// has changed.
    pub fn choose(&mut self, candidates: &[Candidate]) -> Option<usize> {
        if self.credits.len() != candidates.len() {
            self.credits.clear();
            self.credits.resize(candidates.len(), 0);
        }
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (at, candidate) in candidates.iter().enumerate() {
            if !candidate.open {
                // Whoever was away starts without old credit or debt, so that its return makes no burst.
                self.credits[at] = 0;
                continue;
            }
            let weight = i64::from(candidate.weight.max(1));
            total += weight;
            self.credits[at] += weight;
            if best.is_none_or(|best| self.credits[at] > self.credits[best]) {
                best = Some(at);
            }
        }
        if let Some(best) = best {
            self.credits[best] -= total;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::candidates;

    #[test]
    fn evenly_spread() {
        let all = candidates(&[5, 1, 1]);
        let mut turn = WeightedRoundRobin::default();
        let order: Vec<_> = (0..7).filter_map(|_| turn.choose(&all)).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn none_open() {
        let mut all = candidates(&[1]);
        all[0].open = false;
        assert_eq!(WeightedRoundRobin::default().choose(&all), None);
        assert_eq!(WeightedRoundRobin::default().choose(&[]), None);
    }

    proptest! {
        /// Over one whole round everybody gets exactly its share.
        #[test]
        fn exact_shares(weights in proptest::collection::vec(1u16..20, 1..8)) {
            let all = candidates(&weights);
            let mut turn = WeightedRoundRobin::default();
            let mut got = vec![0u16; weights.len()];
            for _ in 0..weights.iter().sum::<u16>() {
                got[turn.choose(&all).unwrap()] += 1;
            }
            prop_assert_eq!(got, weights);
        }
    }
}
