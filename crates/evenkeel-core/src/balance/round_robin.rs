//! Round robin: in turn, weights ignored.

use super::Candidate;

/// Remembers whose turn is next.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// Starts at the given place; threads that start at different places do not send their first requests to
    /// the same instance.
    pub const fn starting_at(next: usize) -> Self {
        Self { next }
    }

    /// The place of the next open candidate, `None` if none is open.
    pub fn choose(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let count = candidates.len();
        let start = self.next.checked_rem(count)?;
        let chosen = (start..count).chain(0..start).find(|&at| candidates[at].open)?;
        self.next = chosen + 1;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::candidates;

    #[test]
    fn all_in_turn() {
        let all = candidates(&[1, 5, 1]);
        let mut turn = RoundRobin::starting_at(1);
        let order: Vec<_> = (0..6).filter_map(|_| turn.choose(&all)).collect();
        assert_eq!(order, [1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn closed_ones_are_passed_over() {
        let mut all = candidates(&[1, 1, 1]);
        all[1].open = false;
        let mut turn = RoundRobin::default();
        let order: Vec<_> = (0..4).filter_map(|_| turn.choose(&all)).collect();
        assert_eq!(order, [0, 2, 0, 2]);
        for candidate in &mut all {
            candidate.open = false;
        }
        assert_eq!(turn.choose(&all), None);
        assert_eq!(turn.choose(&[]), None);
    }
}
