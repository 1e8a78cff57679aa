//! When drills run by themselves, and when none may.
//!
//! Decided from what is known of earlier
//! tries and the present; nothing here keeps a state or reads a clock. A run that is due in a blackout waits for its
//! end if it comes at intervals, and is left out if it has its time of the week.

use crate::{
    stack::{Blackout, ScheduledDrill, When},
    time::WallTime,
};

const MINUTE_MS: u64 = 60_000;
/// How long after its time of the week a run still takes place, as where nothing ran just then.
const GRACE_MINUTES: u64 = 60;
/// How long until a run is tried again that was refused.
pub const TRY_AGAIN_MS: u64 = 10 * MINUTE_MS;

/// The blackout that lasts longest among those of now, and until when.
pub fn in_blackout(blackouts: &[Blackout], now: WallTime) -> Option<(Blackout, WallTime)> {
    let lasting = blackouts.iter().filter_map(|blackout| Some((*blackout, blackout.until(now)?)));
    lasting.max_by_key(|(_, until)| *until)
}

/// What is known of a scheduled drill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Known {
    /// Since when it is scheduled.
    pub since: WallTime,
    /// When it was last started by its schedule.
    #[serde(default)]
    pub started: Option<WallTime>,
    /// When it was last refused.
    #[serde(default)]
    pub refused: Option<WallTime>,
}

impl Known {
    /// With no moment that is still to come. A clock that was ahead leaves such, and an interval that is counted from a
    /// time to come is never over. Whoever keeps this keeps what is returned: only so does time go on from now.
    #[must_use]
    pub fn clamped(self, now: WallTime) -> Self {
        let past = |at: WallTime| at.min(now);
        Self { since: past(self.since), started: self.started.map(past), refused: self.refused.map(past) }
    }
}

/// What is to be done about a scheduled drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is to be started.
    Now,
    /// It is not due before then.
    At(WallTime),
}

/// Whether a scheduled drill is due.
pub fn turn(scheduled: &ScheduledDrill, blackouts: &[Blackout], known: &Known, now: WallTime) -> Turn {
    let known = known.clamped(now);
    let ms_after = |at: WallTime, ms: u64| WallTime::from_millis(at.as_millis().saturating_add(ms));
    let again = known.refused.map(|at| ms_after(at, TRY_AGAIN_MS));
    match scheduled.when() {
        Some(When::Every(every)) => {
            let last = known.started.map_or(known.since, |started| started.max(known.since));
            let due = ms_after(last, every.as_ms());
            let due = again.map_or(due, |again| again.max(due));
            match in_blackout(blackouts, now) {
                Some((_, until)) => Turn::At(due.max(until)),
                None if due <= now => Turn::Now,
                None => Turn::At(due),
            }
        }
        Some(When::At(at)) => {
            let last = at.last(now);
            let is_over = at.ago_minutes(now) >= GRACE_MINUTES
                || last < known.since
                || known.started.is_some_and(|started| started >= last)
                || in_blackout(blackouts, now).is_some();
            match again {
                _ if is_over => Turn::At(at.next(now)),
                Some(again) if again > now => Turn::At(again.min(at.next(now))),
                _ => Turn::Now,
            }
        }
        None => Turn::At(WallTime::from_millis(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Duration;

    const DAY_MINUTES: u64 = 24 * 60;

    /// Monday 2026-11-16 00:00 UTC, so many minutes later.
    fn monday(minutes: u64) -> WallTime {
        let at = WallTime::from_millis(1_794_787_200_000 + minutes * MINUTE_MS);
        assert!(minutes > 0 || at.to_string() == "2026-11-16T00:00:00.000Z");
        at
    }

    fn hm(day: u64, hour: u64, minute: u64) -> WallTime {
        monday(day * DAY_MINUTES + hour * 60 + minute)
    }

    fn every(hours: u64) -> ScheduledDrill {
        ScheduledDrill { every: Some(Duration::s(hours * 3600)), ..ScheduledDrill::default() }
    }

    fn at(text: &str) -> ScheduledDrill {
        ScheduledDrill { at: Some(text.parse().unwrap()), ..ScheduledDrill::default() }
    }

    #[test]
    fn intervals_count_from_the_last_start_and_wait_for_the_end_of_a_blackout() {
        let mut known = Known { since: hm(0, 0, 0), ..Known::default() };
        assert_eq!(turn(&every(24), &[], &known, hm(0, 5, 0)), Turn::At(hm(1, 0, 0)));
        assert_eq!(turn(&every(24), &[], &known, hm(1, 0, 0)), Turn::Now);
        known.started = Some(hm(1, 2, 0));
        assert_eq!(turn(&every(24), &[], &known, hm(1, 3, 0)), Turn::At(hm(2, 2, 0)));
        let night: Blackout = "22:00-06:00".parse().unwrap();
        assert_eq!(turn(&every(24), &[night], &known, hm(2, 3, 0)), Turn::At(hm(2, 6, 0)));
        assert_eq!(turn(&every(24), &[night], &known, hm(2, 6, 0)), Turn::Now);
        let weekend: Blackout = "Fri 16:00-Mon 08:00".parse().unwrap();
        assert_eq!(in_blackout(&[night, weekend], hm(5, 1, 0)), Some((weekend, hm(7, 8, 0))));
        known.refused = Some(hm(2, 6, 0));
        assert_eq!(turn(&every(24), &[], &known, hm(2, 6, 1)), Turn::At(hm(2, 6, 10)), "not at once again");
        known.started = Some(hm(50, 0, 0));
        assert_eq!(turn(&every(24), &[], &known, hm(3, 0, 0)), Turn::At(hm(4, 0, 0)), "the clock was set back");
    }

    /// Looks as a node does, keeping what it knows; in which of the hours from then on it was due.
    fn due_hours(scheduled: &ScheduledDrill, mut known: Known, from: WallTime, hours: u64) -> Vec<u64> {
        let mut due = Vec::new();
        for hour in 0..hours {
            let now = WallTime::from_millis(from.as_millis() + hour * 60 * MINUTE_MS);
            known = known.clamped(now);
            if turn(scheduled, &[], &known, now) == Turn::Now {
                known.started = Some(now);
                due.push(hour);
            }
        }
        due
    }

    #[test]
    fn a_clock_that_was_ahead_blocks_nothing_for_ever() {
        let ahead = hm(400, 0, 0);
        for known in [
            Known { since: ahead, ..Known::default() },
            Known { since: hm(0, 0, 0), started: Some(ahead), refused: None },
            Known { since: hm(0, 0, 0), started: Some(ahead), refused: Some(ahead) },
        ] {
            assert_eq!(due_hours(&every(24), known, hm(1, 0, 0), 60), [24, 48], "{known:?}");
            assert_eq!(due_hours(&at("03:00"), known, hm(1, 12, 0), 60), [15, 39], "{known:?}");
        }
        let known = Known { since: hm(0, 0, 0), started: Some(hm(0, 0, 0)), refused: Some(ahead) };
        assert_eq!(due_hours(&every(24), known, hm(1, 0, 0), 30), [1, 25], "it waits for ten minutes, not for a year");
    }

    #[test]
    fn a_time_of_the_week_is_taken_once_and_not_late() {
        let tuesday = at("Tue 03:00");
        let mut known = Known { since: hm(0, 0, 0), ..Known::default() };
        assert_eq!(turn(&tuesday, &[], &known, hm(1, 2, 59)), Turn::At(hm(1, 3, 0)));
        assert_eq!(turn(&tuesday, &[], &known, hm(1, 3, 0)), Turn::Now);
        assert_eq!(turn(&tuesday, &[], &known, hm(1, 3, 59)), Turn::Now, "keel was down just then");
        assert_eq!(turn(&tuesday, &[], &known, hm(1, 4, 0)), Turn::At(hm(8, 3, 0)), "it is too late");
        known.started = Some(hm(1, 3, 0));
        assert_eq!(turn(&tuesday, &[], &known, hm(1, 3, 1)), Turn::At(hm(8, 3, 0)));
        known = Known { since: hm(1, 3, 30), ..Known::default() };
        assert_eq!(turn(&tuesday, &[], &known, hm(1, 3, 40)), Turn::At(hm(8, 3, 0)), "it was scheduled after that");
        known = Known { since: hm(0, 0, 0), started: None, refused: Some(hm(1, 3, 0)) };
        assert_eq!(turn(&tuesday, &[], &known, hm(1, 3, 5)), Turn::At(hm(1, 3, 10)));
        assert_eq!(turn(&tuesday, &[], &known, hm(1, 3, 10)), Turn::Now);
        let blackout: Blackout = "Tue 02:00-Tue 05:00".parse().unwrap();
        known.refused = None;
        assert_eq!(turn(&tuesday, &[blackout], &known, hm(1, 3, 0)), Turn::At(hm(8, 3, 0)), "left out");
    }
}
