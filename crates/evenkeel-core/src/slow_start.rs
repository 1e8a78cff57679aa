//! Slow start: an instance that becomes healthy gets its whole share by and by.
//!
//! A process that has just started has cold caches and no connections; the whole of its share at once would make its
//! first clients wait. So its weight grows from a tenth to the whole over the time that the service asks for.
//! Algorithms that hash ignore that, since their clients would move back and forth.
//!
//! Where a service comes up as a whole, after a start of the edge or when nobody was healthy, everybody has the whole
//! share at once: there is nobody else to carry the rest. [`SlowStart`] belongs to whoever forms verdicts, one for each
//! service; [`permille`] is asked where an instance is chosen.

use std::time::Duration;

use crate::time::{Moment, in_words};

/// What an instance begins with, in thousandths of its weight.
pub const FIRST_PERMILLE: u32 = 100;

/// How much of its weight an instance has that became healthy at `since_ms`, in thousandths. Clocks are in milliseconds.
pub fn permille(since_ms: u64, now_ms: u64, slow_start_ms: u64) -> u32 {
    let passed = u128::from(now_ms.saturating_sub(since_ms));
    let grown = u128::from(1000 - FIRST_PERMILLE) * passed / u128::from(slow_start_ms.max(1));
    u32::try_from(grown).map_or(1000, |grown| (FIRST_PERMILLE + grown.min(1000)).min(1000))
}

/// When a service came up as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlowStart {
    up: Option<Moment>,
}

impl SlowStart {
    /// An instance becomes healthy; `others` says whether another one is. `Some`, in words for its event, where it
    /// starts slowly. That is not while the service itself comes up.
    pub fn comes(&mut self, others: bool, slow_start_ms: u64, now: Moment) -> Option<String> {
        let slow_start = Duration::from_millis(slow_start_ms);
        if !others {
            self.up = Some(now);
        }
        let whole = slow_start.is_zero() || self.up.is_none_or(|up| now.since(up) < slow_start);
        (!whole).then(|| {
            format!("its share of new requests grows from {} % to the whole within {}", FIRST_PERMILLE / 10, {
                in_words(slow_start)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_evenly() {
        let at = |ms| permille(1_000, ms, 10_000);
        assert_eq!([at(0), at(1_000), at(6_000), at(11_000), at(u64::MAX)], [100, 100, 550, 1000, 1000]);
        assert_eq!(permille(5, 6, 0), 1000);
    }

    #[test]
    fn who_comes_with_the_others_has_all_at_once() {
        let mut slow = SlowStart::default();
        let ms = Moment::from_millis;
        assert_eq!(slow.comes(false, 10_000, ms(1_000)), None);
        assert_eq!(slow.comes(true, 10_000, ms(4_000)), None, "the service still comes up");
        let words = slow.comes(true, 10_000, ms(60_000));
        assert_eq!(words.unwrap(), "its share of new requests grows from 10 % to the whole within 10 s");
        assert_eq!(slow.comes(false, 10_000, ms(90_000)), None, "nobody else is there");
        assert_eq!(slow.comes(true, 0, ms(200_000)), None, "nobody asked for it");
    }
}
