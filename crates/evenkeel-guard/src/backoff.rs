//! How soon a process of `keel`'s own is started again: at once after a long life, then ever later.
//!
//! Pure: the caller says how long the process lived.

use std::time::Duration;

/// The longest delay. Two starts a second cost a few percent of a core; a longer wait would leave a service without
/// its control plane for nothing.
const CAP: Duration = Duration::from_millis(500);

/// The delay after the second short life in a row; it doubles from there.
const FIRST: Duration = Duration::from_millis(50);

/// Counts short lives in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    long_life: Duration,
    short_lives: u32,
}

impl Backoff {
    /// A process that lives for `long_life` is started again at once.
    pub(crate) const fn new(long_life: Duration) -> Self {
        Self { long_life, short_lives: 0 }
    }

    /// It ended after `lived`: how long to wait before it is started again.
    pub(crate) fn ended(&mut self, lived: Duration) -> Duration {
        if lived >= self.long_life {
            self.short_lives = 0;
        }
        let delay = delay(self.short_lives);
        self.short_lives = self.short_lives.saturating_add(1);
        delay
    }
}

/// The delay after `short_lives` lives in a row before this one.
fn delay(short_lives: u32) -> Duration {
    match short_lives {
        0 => Duration::ZERO,
        n => FIRST.saturating_mul(1_u32.checked_shl(n - 1).unwrap_or(u32::MAX)).min(CAP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_wait() {
        let mut backoff = Backoff::new(LONG);
        let delays: Vec<_> = (0..9).map(|_| backoff.ended(Duration::from_millis(3)).as_millis()).collect();
        assert_eq!(delays, [0, 50, 100, 200, 400, 500, 500, 500, 500]);
    }

    #[test]
    fn a_long_life_forgets_the_short_ones() {
        let mut backoff = Backoff::new(LONG);
        for _ in 0..100 {
            backoff.ended(Duration::ZERO);
        }
        assert_eq!(backoff.ended(Duration::ZERO), CAP);
        assert_eq!(backoff.ended(LONG), Duration::ZERO);
        assert_eq!(backoff.ended(Duration::ZERO), FIRST);
    }
}
