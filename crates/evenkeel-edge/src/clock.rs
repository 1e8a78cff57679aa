//! The edge's one clock: monotonic, the same origin for all threads of the process.
//!
//! Core never reads a clock; everything in this crate that needs the time takes it from here, so that moments
//! written by one thread can be compared with those of another.

use std::{
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use evenkeel_core::time::{Moment, WallTime};

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The present moment. Its origin is shortly before the first call in this process, never at it, so that zero
/// can mean "never" wherever milliseconds are stored in an atomic.
pub fn now() -> Moment {
    let nanos = u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Moment::from_nanos(nanos.saturating_add(1_000_000))
}

/// Milliseconds of a moment since the clock's origin; at least 1.
pub fn millis(at: Moment) -> u64 {
    at.as_nanos() / 1_000_000
}

/// What the wall clock shows, for records only.
pub fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
