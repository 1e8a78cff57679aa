//! Moments as people type them: `2026-11-20T14:05:00Z` (RFC 3339), `14:05` (today or yesterday, in UTC, as every
//! time that `keel` prints), `10m` (ago). Pure: the present comes in as an argument.

use evenkeel_core::time::WallTime;

use crate::words::duration;

const DAY_MS: u64 = 86_400_000;

/// The moment that `text` means, seen from `now`. The error says what would be understood.
pub(crate) fn parse(text: &str, now: WallTime) -> Result<WallTime, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    if let Ok(ago) = duration(text) {
        let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(WallTime::from_millis(now.as_millis().saturating_sub(ago_ms)));
    }
    if let Some(of_day) = time_of_day(text) {
        let today = now.as_millis() / DAY_MS * DAY_MS + of_day;
        // What is still to come today was meant of yesterday.
        let past = if today > now.as_millis() { today.saturating_sub(DAY_MS) } else { today };
        return Ok(WallTime::from_millis(past));
    }
    rfc_3339(text).ok_or_else(|| {
        format!("`{text}` is no moment: write `10m` (ago), `14:05` (UTC) or `2026-11-20T14:05:00Z` (RFC 3339)")
    })
}

/// `14:05`, `14:05:30`, `14:05:30.123`: milliseconds since midnight.
fn time_of_day(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, ':');
    let (hour, minute) = (two(parts.next()?)?, two(parts.next()?)?);
    let (seconds, ms) = match parts.next() {
        None => (0, 0),
        Some(rest) => {
            let (seconds, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
            (two(seconds)?, fraction_ms(fraction)?)
        }
    };
    // RFC 3339 permits a leap second.
    let valid = hour < 24 && minute < 60 && seconds <= 60;
    valid.then_some(((hour * 60 + minute) * 60 + seconds) * 1000 + ms)
}

/// RFC 3339, section 5.6; the `T` may be a space.
fn rfc_3339(text: &str) -> Option<WallTime> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, offset_minutes) = if let Some(time) = rest.strip_suffix(['Z', 'z']) {
        (time, 0)
    } else {
        let at = rest.rfind(['+', '-'])?;
        let (hours, minutes) = rest[at + 1..].split_once(':')?;
        let minutes = i64::try_from(two(hours)? * 60 + two(minutes)?).ok()?;
        (&rest[..at], if rest[at..].starts_with('-') { -minutes } else { minutes })
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, two(parts.next()?)?, two(parts.next()?)?);
    let year: u64 = year.parse().ok().filter(|year| *year >= 1970)?;
    let local = days(year, month, day)? * DAY_MS + time_of_day(time)?;
    let utc = i64::try_from(local).ok()? - offset_minutes * 60_000;
    Some(WallTime::from_millis(u64::try_from(utc).ok()?))
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let index = usize::try_from(month.checked_sub(1)?).ok()?;
    let length = match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day == 0 || day > length {
        return None;
    }
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    Some(years + BEFORE.get(index)? + u64::from(month > 2 && is_leap(year)) + day - 1)
}

fn two(text: &str) -> Option<u64> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn fraction_ms(text: &str) -> Option<u64> {
    let digits: String = text.chars().chain("000".chars()).take(3).collect();
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_understood_as_they_are_printed() {
        let now = WallTime::from_millis(1_763_650_800_000);
        assert_eq!(now.to_string(), "2025-11-20T15:00:00.000Z");
        for (text, meant) in [
            ("10m", "2025-11-20T14:50:00.000Z"),
            ("14:05", "2025-11-20T14:05:00.000Z"),
            ("15:00:00.001", "2025-11-19T15:00:00.001Z"),
            ("2024-02-29T23:59:59.5Z", "2024-02-29T23:59:59.500Z"),
            ("2024-03-01 00:30:00+01:00", "2024-02-29T23:30:00.000Z"),
            ("2000-12-31T19:00:00-05:00", "2001-01-01T00:00:00.000Z"),
            ("now", "2025-11-20T15:00:00.000Z"),
        ] {
            assert_eq!(parse(text, now).map(|at| at.to_string()), Ok(meant.to_owned()), "{text}");
        }
        for wrong in ["", "24:00", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "yesterday", "10", "2024-01-01"] {
            let error = parse(wrong, now).unwrap_err();
            assert!(error.contains("10m"), "{error}");
        }
    }

    #[test]
    fn every_day_reads_back() {
        for day in (0..40_000).step_by(13) {
            let at = WallTime::from_millis(day * DAY_MS + 1);
            assert_eq!(rfc_3339(&at.to_string()), Some(at));
        }
    }
}
