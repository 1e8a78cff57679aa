//! `Date` fields, for answers that have none (RFC 9110 sections 5.6.7 and 6.6.1).
//!
//! Instances nearly always say when they answered; then nothing here is reached, and no clock is read. The text is made
//! once a second by each thread, which owns it.

use std::cell::Cell;

/// Bytes of a date, as in `Sun, 06 Nov 1994 08:49:37 GMT`.
const LENGTH: usize = 29;

thread_local! {
    /// The newest text and its second.
    static NEWEST: Cell<(u64, [u8; LENGTH])> = const { Cell::new((u64::MAX, [0; LENGTH])) };
}

/// Appends the field.
pub(crate) fn put_date(out: &mut Vec<u8>) {
    // The coarse clock is read without entering the kernel or asking the hardware; it is never behind by a second.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let second = u64::try_from(now.tv_sec).unwrap_or_default();
    let text = NEWEST.with(|newest| {
        let (of, text) = newest.get();
        if of == second {
            return text;
        }
        let text = date(second);
        newest.set((second, text));
        text
    });
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(&text);
    out.extend_from_slice(b"\r\n");
}

/// The date of this second since 1970. The calendar repeats every 400 years; a year is counted from March, so that a leap
/// day is its last.
fn date(second: u64) -> [u8; LENGTH] {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    const DAYS: &[u8] = b"ThuFriSatSunMonTueWed";
    let (days, of_day) = (second / 86_400, second % 86_400);
    let since_march_of_0 = days + 719_468;
    let (era, of_era) = (since_march_of_0 / 146_097, since_march_of_0 % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let mut text = *b"Xxx, 00 Xxx 0000 00:00:00 GMT";
    let name = |of: &[u8], place: u64| {
        let at = usize::try_from(place).expect("it is below twelve") * 3;
        [of[at], of[at + 1], of[at + 2]]
    };
    text[..3].copy_from_slice(&name(DAYS, days % 7));
    text[8..11].copy_from_slice(&name(MONTHS, month));
    for (at, number) in [(5, day), (12, year / 100 % 100), (14, year % 100)] {
        text[at..at + 2].copy_from_slice(&two_digits(number));
    }
    for (at, number) in [(17, of_day / 3600), (20, of_day / 60 % 60), (23, of_day % 60)] {
        text[at..at + 2].copy_from_slice(&two_digits(number));
    }
    text
}

fn two_digits(number: u64) -> [u8; 2] {
    let digit = |number: u64| b'0' + u8::try_from(number % 10).expect("a digit is below ten");
    [digit(number / 10), digit(number)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(String::from_utf8_lossy(&date(second)), text);
        }
    }

    #[test]
    fn the_field_is_whole() {
        let mut out = Vec::new();
        put_date(&mut out);
        put_date(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("Date: ") && text.ends_with(" GMT\r\n"), "{text}");
    }
}
