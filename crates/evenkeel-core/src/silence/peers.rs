//! Who is compared with whom.

use std::collections::BTreeMap;

use super::{State, Watch};
use crate::time::Moment;

/// Whom an instance can be compared with: those that get requests and are not silent.
pub(super) struct Peers<K> {
    /// How many there are, and one of them.
    all: (usize, Option<K>),
    /// How many have nothing in flight, and one of them.
    idle: (usize, Option<K>),
    /// The two newest moments at which different ones sent something, newest first.
    newest: [(Option<Moment>, Option<K>); 2],
}

impl<K: Copy + Ord> Peers<K> {
    pub(super) fn of(watches: &BTreeMap<K, Watch>) -> Self {
        let mut peers = Self { all: (0, None), idle: (0, None), newest: [(None, None); 2] };
        for (&key, watch) in watches.iter().filter(|(_, watch)| watch.seen.healthy && watch.state != State::Silent) {
            peers.all = (peers.all.0 + 1, Some(key));
            if watch.seen.quiet_since.is_none() {
                peers.idle = (peers.idle.0 + 1, Some(key));
            }
            let sent = (watch.seen.last_received, Some(key));
            if sent.0 > peers.newest[0].0 {
                peers.newest = [sent, peers.newest[0]];
            } else if sent.0 > peers.newest[1].0 {
                peers.newest[1] = sent;
            }
        }
        peers
    }

    /// Whether there is one other than `key`: it is this one alone only where there is one.
    pub(super) fn others(&self, key: K) -> bool {
        self.all.0 > 1 || self.all.1.is_some_and(|one| one != key)
    }

    /// Whether one other than `key` sent something after this moment, or has nothing to send.
    pub(super) fn compare(&self, key: K, after: Moment) -> bool {
        let idle = self.idle.0 > usize::from(self.idle.1 == Some(key));
        let newest = if self.newest[0].1 == Some(key) { self.newest[1].0 } else { self.newest[0].0 };
        idle || newest.is_some_and(|sent| sent > after)
    }
}
