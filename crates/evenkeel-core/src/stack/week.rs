//! Times of the week and spans between them, as `Tue 03:00` and `Fri 16:00-Mon 08:00`.
//!
//! They are UTC, so that no summer time moves, skips or repeats one. Without a day they come every day.

use std::{fmt, str::FromStr};

use super::textual::textual;
use crate::time::WallTime;

const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: u64 = 24 * 60;
const WEEK_MINUTES: u64 = 7 * DAY_MINUTES;
/// 1970-01-01 was a Thursday; weeks are counted from Monday.
const EPOCH_MINUTES: u64 = 3 * DAY_MINUTES;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A minute of the week or of each day, UTC: `Tue 03:00`, `03:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WeekTime {
    /// Days since Monday; `None`: each day.
    day: Option<u8>,
    /// Minutes since midnight.
    minute: u16,
}

/// A part of the week or of each day in which no drill runs, UTC: `Fri 16:00-Mon 08:00`, `09:00-17:30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blackout {
    from: WeekTime,
    /// The first minute in which drills may run again.
    until: WeekTime,
}

impl FromStr for WeekTime {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (day, time) = match text.trim().split_once(' ') {
            Some((day, time)) => {
                let day = DAYS.iter().position(|known| known.eq_ignore_ascii_case(day)).ok_or(())?;
                (Some(u8::try_from(day).map_err(|_| ())?), time)
            }
            None => (None, text.trim()),
        };
        let (hour, minute) = time.trim().split_once(':').ok_or(())?;
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(hour) || !digits(minute) {
            return Err(());
        }
        let (hour, minute): (u16, u16) = (hour.parse().map_err(|_| ())?, minute.parse().map_err(|_| ())?);
        if hour < 24 && minute < 60 { Ok(Self { day, minute: hour * 60 + minute }) } else { Err(()) }
    }
}

impl fmt::Display for WeekTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(day) = self.day {
            write!(f, "{} ", DAYS[usize::from(day)])?;
        }
        write!(f, "{:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

impl WeekTime {
    /// In minutes since its period began: a week, or a day where no day is named.
    fn in_period(self) -> u64 {
        u64::from(self.day.unwrap_or(0)) * DAY_MINUTES + u64::from(self.minute)
    }

    fn period(self) -> u64 {
        if self.day.is_some() { WEEK_MINUTES } else { DAY_MINUTES }
    }

    /// How many minutes ago it was last, in whole minutes of `now`.
    pub fn ago_minutes(self, now: WallTime) -> u64 {
        let minutes = minutes_of(now) % self.period();
        (minutes + self.period() - self.in_period()) % self.period()
    }

    /// When it was last, at the begin of its minute; the epoch where that would be before it.
    pub fn last(self, now: WallTime) -> WallTime {
        let minutes = now.as_millis() / MINUTE_MS;
        WallTime::from_millis(minutes.saturating_sub(self.ago_minutes(now)) * MINUTE_MS)
    }

    /// When it comes next, after the present minute.
    pub fn next(self, now: WallTime) -> WallTime {
        let minutes = now.as_millis() / MINUTE_MS + self.period() - self.ago_minutes(now);
        WallTime::from_millis(minutes * MINUTE_MS)
    }
}

fn minutes_of(now: WallTime) -> u64 {
    now.as_millis() / MINUTE_MS + EPOCH_MINUTES
}

impl FromStr for Blackout {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (from, until) = text.split_once('-').ok_or(())?;
        let (from, until): (WeekTime, WeekTime) = (from.parse()?, until.parse()?);
        if from.day.is_some() == until.day.is_some() && from != until { Ok(Self { from, until }) } else { Err(()) }
    }
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.until)
    }
}

impl Blackout {
    /// Until when it lasts, if it is one now.
    pub fn until(self, now: WallTime) -> Option<WallTime> {
        (self.from.ago_minutes(now) < self.length()).then(|| self.until.next(now))
    }

    fn length(self) -> u64 {
        let period = self.from.period();
        (self.until.in_period() + period - self.from.in_period()) % period
    }

    /// Whether it covers this time of the week, each time.
    pub fn always_covers(self, at: WeekTime) -> bool {
        // The first two weeks of the epoch have every minute of a week.
        let of_day = |day: Option<u8>| {
            let at = WeekTime { day: day.or(at.day), ..at };
            self.until(at.next(WallTime::default())).is_some()
        };
        match at.day {
            Some(_) => of_day(None),
            None => (0..7).all(|day| of_day(Some(day))),
        }
    }
}

textual!(
    WeekTime,
    |text| text.parse().ok(),
    "a time of the week, UTC: a day of Mon, Tue, Wed, Thu, Fri, Sat, Sun and a time of 24 hours, as \"Tue 03:00\", or the \
     time alone, as \"03:00\", for each day",
    "^((Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?([01][0-9]|2[0-3]):[0-5][0-9]$"
);
textual!(
    Blackout,
    |text| text.parse().ok(),
    "a part of the week, UTC: from one time to another, each with a day, as \"Fri 16:00-Mon 08:00\", or both without one, \
     as \"09:00-17:30\", for each day; it may go over midnight or the end of the week, and drills may run again in the \
     minute at which it ends",
    "^((Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([01][0-9]|2[0-3]):[0-5][0-9]-(Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([01][0-9]|2[0-3]):[0-5][0-9]|([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])$"
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-11-16 00:00 UTC, so many minutes later.
    fn monday(minutes: u64) -> WallTime {
        let at = WallTime::from_millis(1_794_787_200_000 + minutes * MINUTE_MS);
        assert!(minutes > 0 || at.to_string() == "2026-11-16T00:00:00.000Z");
        at
    }

    fn hm(day: u64, hour: u64, minute: u64) -> WallTime {
        monday(day * DAY_MINUTES + hour * 60 + minute)
    }

    #[test]
    fn times_of_the_week_are_read_and_said() {
        for (text, said) in [("Tue 03:00", "Tue 03:00"), ("sun 23:59", "Sun 23:59"), ("00:00", "00:00")] {
            assert_eq!(text.parse::<WeekTime>().unwrap().to_string(), said);
        }
        for no in ["", "Tue", "Tues 03:00", "24:00", "03:60", "3:00", "Tue 03:00 UTC", "+3:00"] {
            assert!(no.parse::<WeekTime>().is_err(), "{no}");
        }
        assert_eq!("Fri 16:00-Mon 08:00".parse::<Blackout>().unwrap().to_string(), "Fri 16:00-Mon 08:00");
        for no in ["Fri 16:00", "Fri 16:00-08:00", "10:00-10:00", "a-b"] {
            assert!(no.parse::<Blackout>().is_err(), "{no}");
        }
    }

    #[test]
    fn the_week_begins_on_monday() {
        let tuesday: WeekTime = "Tue 03:00".parse().unwrap();
        assert_eq!(tuesday.next(monday(0)), hm(1, 3, 0));
        assert_eq!(tuesday.last(hm(1, 3, 0)), hm(1, 3, 0));
        assert_eq!(tuesday.next(hm(1, 3, 0)), hm(8, 3, 0));
        let daily: WeekTime = "12:30".parse().unwrap();
        assert_eq!((daily.last(hm(2, 12, 0)), daily.next(hm(2, 12, 0))), (hm(1, 12, 30), hm(2, 12, 30)));
    }

    #[test]
    fn a_blackout_goes_over_the_end_of_the_week() {
        let weekend: Blackout = "Fri 16:00-Mon 08:00".parse().unwrap();
        assert_eq!(weekend.until(hm(4, 15, 59)), None);
        assert_eq!(weekend.until(hm(4, 16, 0)), Some(hm(7, 8, 0)));
        assert_eq!(weekend.until(hm(7, 7, 59)), Some(hm(7, 8, 0)));
        assert_eq!(weekend.until(hm(7, 8, 0)), None);
        let night: Blackout = "22:00-06:00".parse().unwrap();
        assert_eq!(night.until(hm(2, 23, 0)), Some(hm(3, 6, 0)));
        assert_eq!(night.until(hm(2, 12, 0)), None);
    }

    #[test]
    fn a_blackout_may_hide_a_time_for_ever() {
        let weekend: Blackout = "Fri 16:00-Mon 08:00".parse().unwrap();
        assert!(weekend.always_covers("Sat 12:00".parse().unwrap()));
        assert!(!weekend.always_covers("Tue 12:00".parse().unwrap()));
        assert!(!weekend.always_covers("12:00".parse().unwrap()), "only on some days");
        let night: Blackout = "22:00-06:00".parse().unwrap();
        assert!(night.always_covers("03:00".parse().unwrap()) && night.always_covers("Sat 03:00".parse().unwrap()));
    }
}
