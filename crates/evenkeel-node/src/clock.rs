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

    /// The moment at which a process began, by the kernel's own count since boot: a clock that was set meanwhile makes
    /// it neither older nor younger. `wall` is what was written down then, for a process that is gone.
    pub(crate) fn moment_of_process(&self, pid: u32, wall: WallTime) -> Moment {
        let now = self.now();
        let age = ticks_at_start(pid).map(|ticks| {
            let per_second = rustix::param::clock_ticks_per_second().max(1);
            since_boot().saturating_sub(Duration::from_millis(ticks.saturating_mul(1000) / per_second))
        });
        match age.and_then(|age| u64::try_from(age.as_nanos()).ok()) {
            Some(age_ns) => Moment::from_nanos(now.as_nanos().saturating_sub(age_ns)),
            None => self.moment_of(wall),
        }
    }

    /// The moment of a past wall time, taking the wall clock's word for the distance.
    pub(crate) fn moment_of(&self, wall: WallTime) -> Moment {
        let age_ms = wall_now().as_millis().saturating_sub(wall.as_millis());
        let now = self.now();
        Moment::from_nanos(now.as_nanos().saturating_sub(age_ms.saturating_mul(1_000_000)))
    }
}

/// When a process began, in clock ticks since boot (field 22 of `/proc/PID/stat`, `proc_pid_stat(5)`).
fn ticks_at_start(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself have any character; the third field follows the last one.
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Time since boot, suspension included: nobody can set it (`CLOCK_BOOTTIME`, `clock_gettime(2)`).
pub(crate) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// So long from now, on the wall clock.
pub(crate) fn wall_in(wait: Duration) -> WallTime {
    let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    WallTime::from_millis(wall_now().as_millis().saturating_add(ms))
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
    fn a_process_is_as_old_as_it_is_whatever_the_wall_clock_says() {
        let clock = Clock::new();
        let wrong = WallTime::from_millis(wall_now().as_millis().saturating_sub(7_200_000));
        let age = clock.now().since(clock.moment_of_process(std::process::id(), wrong));
        assert!(age < Duration::from_hours(1), "{age:?}");
        // A number that no process has.
        let age = clock.now().since(clock.moment_of_process(u32::MAX, wrong));
        assert!(age >= Duration::from_hours(1), "{age:?}");
    }

    #[test]
    fn what_began_earlier_has_a_moment() {
        let clock = Clock::new();
        let earlier = WallTime::from_millis(wall_now().as_millis() - 5000);
        let age = clock.now().since(clock.moment_of(earlier));
        assert!(age >= Duration::from_secs(4) && age < Duration::from_mins(1), "{age:?}");
    }
}
