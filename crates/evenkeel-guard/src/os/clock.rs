//! The clocks: the guard is a thin shell, so it reads them itself.

use std::time::{SystemTime, UNIX_EPOCH};

use evenkeel_core::time::Moment;
use rustix::time::{ClockId, clock_gettime};

/// Now, on `CLOCK_BOOTTIME` (`clock_gettime(2)`): it goes on while the machine is suspended.
pub(crate) fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
