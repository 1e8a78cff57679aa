//! Whether a process that should say something regularly has stopped doing so.
//!
//! A frozen process looks alive from outside: it has a pid, its sockets accept, nothing exits. What tells is that it
//! says nothing any more. A [`Watchdog`] measures that, and knows the one thing that looks the same: that the
//! observer itself slept. It belongs to whoever listens, and it kills nobody itself.

use std::time::Duration;

use crate::time::Moment;

/// Watches one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    bound: Duration,
    heard: Moment,
    looked: Moment,
}

impl Watchdog {
    /// Watches from now on; the process may be silent for `bound`.
    pub const fn new(bound: Duration, now: Moment) -> Self {
        Self { bound, heard: now, looked: now }
    }

    /// It said something.
    pub fn heard(&mut self, now: Moment) {
        self.heard = now;
    }

    /// Looks after it. To be called at [`next_look`](Self::next_look); a look that comes much too late counts as a
    /// pause of our own, after which it is observed anew. `Some` says how long it has been silent beyond its bound.
    pub fn look(&mut self, now: Moment) -> Option<Duration> {
        let overslept = now.since(self.looked) > self.bound / 2;
        self.looked = now;
        if overslept {
            self.heard = now;
        }
        let silent = now.since(self.heard);
        (silent >= self.bound).then_some(silent)
    }

    /// When to look next.
    pub fn next_look(&self) -> Moment {
        self.looked + self.bound / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(4);

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    #[test]
    fn who_speaks_is_left_alone() {
        let mut dog = Watchdog::new(BOUND, at(0));
        for second in 1..100 {
            dog.heard(at(second * 1000 - 500));
            assert_eq!(dog.look(at(second * 1000)), None);
        }
    }

    #[test]
    fn who_is_silent_is_found_at_the_bound() {
        let mut dog = Watchdog::new(BOUND, at(0));
        dog.heard(at(500));
        let found = (1..10).find(|second| dog.look(at(second * 1000)).is_some());
        assert_eq!(found, Some(5), "at the first look that is 4 s after it was heard");
        assert_eq!(dog.look(at(6000)), Some(Duration::from_millis(5500)));
    }

    #[test]
    fn our_own_pause_accuses_nobody() {
        let mut dog = Watchdog::new(BOUND, at(0));
        assert_eq!(dog.look(at(1000)), None);
        assert_eq!(dog.look(at(60_000)), None, "we slept for 59 s");
        assert_eq!(dog.look(at(62_000)), None);
        assert_eq!(dog.look(at(64_000)), Some(BOUND), "and now it had its time");
    }

    #[test]
    fn looks_come_often_enough_to_tell_a_pause() {
        let mut dog = Watchdog::new(BOUND, at(0));
        dog.look(at(1000));
        assert_eq!(dog.next_look(), at(2000));
        assert!(dog.next_look().since(at(1000)) < BOUND / 2);
    }
}
