//! The network: who reaches whom, and how long that takes.

use std::{collections::BTreeSet, time::Duration};

use crate::rng::Rng;

/// A place that messages go to and come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The node of this member.
    Node(usize),
    /// The store.
    Store,
    /// The edge of this number, beside the clients.
    Edge(usize),
}

/// What is cut and what is slow.
#[derive(Debug, Default)]
pub(super) struct Network {
    cut: BTreeSet<(Place, Place)>,
    /// What every message takes beyond the usual.
    pub(super) slow: Duration,
}

impl Network {
    /// Nothing gets from `from` to `to` any more.
    pub(super) fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    /// Everything is whole again.
    pub(super) fn mend(&mut self) {
        self.cut.clear();
        self.slow = Duration::ZERO;
    }

    /// How long a message takes; `None`: it does not come.
    pub(super) fn carry(&self, from: Place, to: Place, rng: &mut Rng) -> Option<Duration> {
        if self.cut.contains(&(from, to)) {
            return None;
        }
        let usual = if from == to { rng.micros(10, 50) } else { rng.micros(150, 1500) };
        let extra = rng.micros(0, u64::try_from(self.slow.as_micros()).unwrap_or(u64::MAX));
        Some(usual + extra)
    }
}
