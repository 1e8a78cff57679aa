//! Random: by chance, by weight.
//!
//! Needs no memory and no agreement between threads or edges, and cannot fall into step with anything. Its loads
//! scatter more than those of the other algorithms.

use super::{Candidate, hash::mix};

/// The place of an open candidate drawn by weight, `None` if none is open. `draw` is 64 random bits.
pub fn random(candidates: &[Candidate], draw: u64) -> Option<usize> {
    let weight = |candidate: &Candidate| if candidate.open { u64::from(candidate.weight.max(1)) } else { 0 };
    let total: u64 = candidates.iter().map(weight).sum();
    let mut rest = scaled(draw, total);
    candidates.iter().position(|candidate| {
        let weight = weight(candidate);
        let here = rest < weight;
        rest = rest.saturating_sub(weight);
        here
    })
}

/// A number below `bound`, and 0 where that is 0. Slightly uneven where `bound` does not divide 2^64, far below anything
/// that could be noticed here.
pub(super) fn scaled(draw: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(draw) * u128::from(bound)) >> 64).unwrap_or(0)
}

/// Random bits from a seed: `SplitMix64`. Good enough to spread load, and for nothing that must not be guessed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// From this seed; one seed, one sequence.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub const fn draw(&mut self) -> u64 {
        let drawn = mix(self.state);
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::candidates;

    #[test]
    fn none_open() {
        assert_eq!(random(&[], 7), None);
        let mut all = candidates(&[1, 2]);
        for candidate in &mut all {
            candidate.open = false;
        }
        assert_eq!(random(&all, u64::MAX), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Shares follow weights, closed ones get nothing, and one seed has one outcome.
        #[test]
        fn by_weight(weights in proptest::collection::vec(1u16..20, 1..6), closed in 0usize..6, seed: u64) {
            let mut all = candidates(&weights);
            if all.len() > 1 && closed < all.len() {
                all[closed].open = false;
            }
            let run = || {
                let mut draws = Draws::new(seed);
                let mut got = vec![0u32; weights.len()];
                for _ in 0..20_000 {
                    got[random(&all, draws.draw()).unwrap()] += 1;
                }
                got
            };
            let got = run();
            prop_assert_eq!(&got, &run());
            let total: u32 = all.iter().filter(|one| one.open).map(|one| one.weight).sum();
            for (one, got) in all.iter().zip(&got) {
                let wanted = if one.open { f64::from(one.weight) / f64::from(total) } else { 0.0 };
                let share = f64::from(*got) / 20_000.0;
                prop_assert!((share - wanted).abs() < 0.03, "{} of {}", share, wanted);
            }
        }
    }
}
