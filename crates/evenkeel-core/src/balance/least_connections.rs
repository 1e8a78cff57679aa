//! Least connections: nobody gets a request who has clearly more in flight than another, relative to their weights; among
//! all others it goes in turn, by weight.
//!
//! Clearly more is what another would not have even with this request. Among equal weights that is one request more, so
//! those with the fewest share the next one. Among unequal ones it leaves several to choose from while there is little to
//! do, and always the least loaded alone would be always the same: the heaviest, or, with one request at a time and
//! another under way, the lightest. So each has a turn. Its next request is due once all have had their share since its
//! last one, in the virtual time of start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996), which runs by one when
//! each has had as many requests as its weight says.

use super::Candidate;

/// One request, in the units of virtual time for weight 1. Divisible by every weight up to 16, and by 100.
const REQUEST: u64 = (1 << 13) * 9 * 25 * 7 * 11 * 13;

/// When each candidate's turn is next. Kept by the caller for one set of candidates; a set of another size starts afresh.
#[derive(Clone, Debug, Default)]
pub struct LeastConnections {
    /// In virtual time.
    due: Vec<u64>,
    now: u64,
    start: usize,
}

/// One that may be chosen.
#[derive(Clone, Copy)]
struct Open {
    place: usize,
    weight: u32,
    in_flight: u32,
    /// How far its turn lies ahead.
    ahead: u64,
}

impl LeastConnections {
    /// Of equals the first one from this place on has the first turn; threads that start at different places do not send
    /// their first requests to the same instance.
    pub const fn starting_at(start: usize) -> Self {
        Self { due: Vec::new(), now: 0, start }
    }

    /// The place of the candidate that gets the next request, `None` if none is open. Allocates only when the number of
    /// candidates has changed.
    pub fn choose(&mut self, candidates: &[Candidate]) -> Option<usize> {
        self.choose_of(candidates.len(), |place| candidates[place])
    }

    /// The same of `count` candidates that need not lie in a slice. Each is asked for once, where their weights differ up
    /// to three times; what it says may change meanwhile.
    pub fn choose_of(&mut self, count: usize, candidate: impl Fn(usize) -> Candidate) -> Option<usize> {
        if self.due.len() != count {
            // In the middle of its share: whoever has a large one does not wait until all others have had their first.
            self.due.clear();
            self.due.extend((0..count).map(|place| self.now.wrapping_add(share(candidate(place).weight) / 2)));
        }
        let chosen = self.choose_among(count, &candidate)?;
        // Whoever was due long ago has no claim to what it missed: that would come as a burst.
        self.now = self.now.wrapping_add(chosen.ahead);
        self.due[chosen.place] = self.now.wrapping_add(share(chosen.weight));
        Some(chosen.place)
    }

    fn choose_among(&mut self, count: usize, candidate: &impl Fn(usize) -> Candidate) -> Option<Open> {
        let start = self.start.checked_rem(count)?;
        let places = || (start..count).chain(0..start);
        let (mut best, mut alike): (Option<Open>, bool) = (None, true);
        for place in places() {
            let Some(one) = self.open(place, candidate(place)) else { continue };
            if one.ahead.saturating_mul(u64::from(one.weight)) > REQUEST {
                // Its weight has grown since its last turn.
                self.due[place] = self.now.wrapping_add(share(one.weight));
            }
            alike &= best.is_none_or(|best| best.weight == one.weight);
            if best.is_none_or(|best| (one.in_flight, one.ahead) < (best.in_flight, best.ahead)) {
                best = Some(one);
            }
        }
        if alike {
            return best;
        }
        let open = |place: usize| self.open(place, candidate(place));
        let lightest = places().filter_map(open).reduce(|best, one| if one.lighter_than(best) { one } else { best })?;
        let fitting = places().filter_map(open).filter(|one| !one.has_clearly_more_than(lightest));
        let next = fitting.reduce(|best, one| if one.ahead < best.ahead { one } else { best });
        // Its own load may have grown meanwhile.
        next.or(Some(lightest))
    }

    #[inline]
    fn open(&self, place: usize, one: Candidate) -> Option<Open> {
        let Candidate { weight, in_flight, .. } = one;
        let ahead = ahead(self.due[place], self.now);
        one.open.then_some(Open { place, weight: weight.max(1), in_flight, ahead })
    }
}

/// Fractions are compared by multiplying across.
impl Open {
    /// Whether one more request would load it less than another.
    fn lighter_than(self, other: Self) -> bool {
        self.with_one_more() * u64::from(other.weight) < other.with_one_more() * u64::from(self.weight)
    }

    /// Whether the other one would not have more even with one more request.
    fn has_clearly_more_than(self, other: Self) -> bool {
        u64::from(self.in_flight) * u64::from(other.weight) >= other.with_one_more() * u64::from(self.weight)
    }

    fn with_one_more(self) -> u64 {
        u64::from(self.in_flight) + 1
    }
}

/// How far a turn lies ahead; not at all where it is due. Virtual time may overflow: what lies more than half of its range
/// ahead was due long ago.
#[inline]
const fn ahead(due: u64, now: u64) -> u64 {
    let ahead = due.wrapping_sub(now);
    if ahead <= u64::MAX / 2 { ahead } else { 0 }
}

/// The virtual time of one request at this weight.
const fn share(weight: u32) -> u64 {
    if weight <= 1 { REQUEST } else { REQUEST / weight as u64 }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::balance::candidates;

    #[test]
    fn fewest_then_in_turn() {
        let mut all = candidates(&[1, 1, 1]);
        let mut turn = LeastConnections::starting_at(2);
        assert_eq!(turn.choose(&all), Some(2));
        all[0].in_flight = 1;
        let order: Vec<_> = (0..4).filter_map(|_| turn.choose(&all)).collect();
        assert_eq!(order, [1, 2, 1, 2], "whoever has one in flight is passed over, however long the others had none");
        all[1].open = false;
        assert_eq!(turn.choose(&all), Some(2));
        all[2].in_flight = 2;
        assert_eq!(turn.choose(&all), Some(0));
    }

    #[test]
    fn relative_to_weight() {
        let mut all = candidates(&[1, 3]);
        let mut turn = LeastConnections::default();
        for _ in 0..40 {
            let at = turn.choose(&all).unwrap();
            all[at].in_flight += 1;
        }
        assert_eq!((all[0].in_flight, all[1].in_flight), (10, 30));
    }

    #[test]
    fn one_at_a_time_in_turn_by_weight() {
        let all = candidates(&[5, 1, 1]);
        let mut turn = LeastConnections::default();
        let order: Vec<_> = (0..14).filter_map(|_| turn.choose(&all)).collect();
        assert_eq!(order, [0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 1, 2, 0, 0]);
    }

    #[test]
    fn nobody_makes_up_for_what_it_missed() {
        let mut all = candidates(&[1, 2]);
        let mut turn = LeastConnections::default();
        all[0].open = false;
        assert!((0..1000).all(|_| turn.choose(&all) == Some(1)));
        all[0].open = true;
        let got = (0..30).filter(|_| turn.choose(&all) == Some(0)).count();
        assert!((10..=11).contains(&got), "{got}");
    }

    #[test]
    fn a_weight_that_grows_has_its_share_at_once() {
        let mut all = candidates(&[1, 1]);
        let mut turn = LeastConnections::default();
        all[1].weight = 1000;
        all[0].weight = 1000 * 1000;
        assert!((0..500).all(|_| turn.choose(&all) == Some(0)));
        assert!((0..600).any(|_| turn.choose(&all) == Some(1)));
        all[1].weight = 1000 * 1000;
        let got = (0..100).filter(|_| turn.choose(&all) == Some(1)).count();
        assert!((49..=51).contains(&got), "{got}");
    }

    #[test]
    fn virtual_time_may_overflow() {
        let all = candidates(&[1, 2]);
        let mut turn = LeastConnections { now: u64::MAX - 2 * REQUEST, ..LeastConnections::default() };
        let got = (0..300).filter(|_| turn.choose(&all) == Some(0)).count();
        assert!((99..=101).contains(&got), "{got}");
    }

    #[test]
    fn none() {
        assert_eq!(LeastConnections::default().choose(&[]), None);
        let mut all = candidates(&[1]);
        all[0].open = false;
        assert_eq!(LeastConnections::starting_at(7).choose(&all), None);
    }

    proptest! {
        /// However few requests there are at once, everybody has its share of them.
        #[test]
        fn shares_follow_weights_at_every_load(weights in proptest::collection::vec(1u16..20, 2..8), at_once in 1usize..40) {
            let mut all = candidates(&weights);
            let mut turn = LeastConnections::default();
            let (mut under_way, mut got) = (VecDeque::new(), vec![0u32; weights.len()]);
            let total = weights.iter().map(|weight| u32::from(*weight)).sum::<u32>();
            for _ in 0..total * 40 {
                if under_way.len() == at_once {
                    let done: usize = under_way.pop_front().unwrap();
                    all[done].in_flight -= 1;
                }
                let at = turn.choose(&all).unwrap();
                (all[at].in_flight, got[at]) = (all[at].in_flight + 1, got[at] + 1);
                under_way.push_back(at);
            }
            for (weight, got) in weights.iter().zip(got) {
                let wanted = f64::from(*weight) * 40.0;
                prop_assert!((f64::from(got) - wanted).abs() <= wanted * 0.05 + 2.0, "{} rather than {}", got, wanted);
            }
        }

        /// Among equals nobody gets a request who has more in flight than another.
        #[test]
        fn among_equals_the_fewest(loads in proptest::collection::vec(0u32..4, 1..8), before in 0usize..30) {
            let mut all = candidates(&vec![3; loads.len()]);
            let mut turn = LeastConnections::default();
            for _ in 0..before {
                turn.choose(&all);
            }
            all.iter_mut().zip(&loads).for_each(|(one, load)| one.in_flight = *load);
            let at = turn.choose(&all).unwrap();
            prop_assert_eq!(loads.iter().min(), Some(&all[at].in_flight));
        }
    }
}
