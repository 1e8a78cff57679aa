//! Least connections: the one with the fewest requests in flight, relative to its weight.

use super::Candidate;

/// The place of the open candidate with the fewest requests in flight by weight, `None` if none is open. Among
/// equals the first one from `start` on is taken, so a caller that moves `start` along spreads light load evenly.
pub fn least_connections(candidates: &[Candidate], start: usize) -> Option<usize> {
    least_connections_of(candidates.len(), start, |place| candidates[place])
}

/// The same of `count` candidates that need not lie in a slice: each is asked for once.
pub fn least_connections_of(count: usize, start: usize, candidate: impl Fn(usize) -> Candidate) -> Option<usize> {
    let start = start.checked_rem(count)?;
    let mut best: Option<(usize, Candidate)> = None;
    let mut look = |place: usize| {
        let one = candidate(place);
        if one.open && best.is_none_or(|(_, best)| lighter(one, best)) {
            best = Some((place, one));
        }
    };
    for place in start..count {
        look(place);
    }
    for place in 0..start {
        look(place);
    }
    best.map(|(place, _)| place)
}

/// Whether one more request loads `a` strictly less than `b`. Fractions are compared by multiplying across.
#[inline]
fn lighter(a: Candidate, b: Candidate) -> bool {
    let load = |of: Candidate, other: Candidate| (u64::from(of.in_flight) + 1) * u64::from(other.weight.max(1));
    load(a, b) < load(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::candidates;

    #[test]
    fn fewest_then_in_turn() {
        let mut all = candidates(&[1, 1, 1]);
        assert_eq!(least_connections(&all, 2), Some(2));
        all[2].in_flight = 1;
        assert_eq!(least_connections(&all, 2), Some(0));
        all[0].open = false;
        assert_eq!(least_connections(&all, 2), Some(1));
    }

    #[test]
    fn relative_to_weight() {
        let mut all = candidates(&[1, 3]);
        for _ in 0..40 {
            let at = least_connections(&all, 0).unwrap();
            all[at].in_flight += 1;
        }
        assert_eq!((all[0].in_flight, all[1].in_flight), (10, 30));
    }

    #[test]
    fn none() {
        assert_eq!(least_connections(&[], 0), None);
        let mut all = candidates(&[1]);
        all[0].open = false;
        assert_eq!(least_connections(&all, 7), None);
    }
}
