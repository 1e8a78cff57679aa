//! The clocks: the only place that reads them, since the core takes the present as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use evenkeel_core::time::{Moment, WallTime};

/// A monotonic clock whose origin lies a day before its making, so that what began earlier has a moment too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    made: Instant,
}

/// How far back moments reach.
const PAST: Duration = Duration::from_hours(24);

impl Clock {
    pub(crate) fn new() -> Self {
        Self { made: Instant::now() }
    }

    /// Now, on the monotonic clock.
    pub(crate) fn now(&self) -> Moment {
        Moment::ORIGIN + PAST + self.made.elapsed()
    }

    /// The instant of a moment, for timers.
    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        self.made + moment.since(Moment::ORIGIN + PAST)
    }

    /// The moment of a past wall time, taking the wall clock's word for the distance.
    pub(crate) fn moment_of(&self, wall: WallTime) -> Moment {
        let age_ms = wall_now().as_millis().saturating_sub(wall.as_millis());
        let now = self.now();
        Moment::from_nanos(now.as_nanos().saturating_sub(age_ms.saturating_mul(1_000_000)))
    }
}

/// Now, on the wall clock.
pub(crate) fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_earlier_has_a_moment() {
        let clock = Clock::new();
        let earlier = WallTime::from_millis(wall_now().as_millis() - 5000);
        let age = clock.now().since(clock.moment_of(earlier));
        assert!(age >= Duration::from_secs(4) && age < Duration::from_mins(1), "{age:?}");
    }
}
