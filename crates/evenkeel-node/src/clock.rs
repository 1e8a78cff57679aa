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

/// `2026-11-20T11:44:22.123Z` (RFC 3339, UTC), always 24 characters for the years 0 to 9999.
pub(crate) fn rfc3339(at: WallTime) -> String {
    let ms = at.as_millis();
    let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
    let (second, milli) = (ms_of_day / 1000 % 60, ms_of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar. Years are counted from
/// March, so that the leap day is the last of its year and months have a regular length.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // 719468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_wall_time_as_rfc3339() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_827_696_007, "2000-02-29T12:34:56.007Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (ms, text) in cases {
            assert_eq!(rfc3339(WallTime::from_millis(ms)), text);
        }
    }

    #[test]
    fn what_began_earlier_has_a_moment() {
        let clock = Clock::new();
        let earlier = WallTime::from_millis(wall_now().as_millis() - 5000);
        let age = clock.now().since(clock.moment_of(earlier));
        assert!(age >= Duration::from_secs(4) && age < Duration::from_mins(1), "{age:?}");
    }
}
