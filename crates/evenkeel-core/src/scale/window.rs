//! The least or the most of the values of a sliding window.
//!
//! Values that a newer one makes irrelevant are dropped at once, so that a window of any length costs few entries:
//! what is left is sorted, and its front is the answer.

use std::{collections::VecDeque, time::Duration};

use crate::time::Moment;

/// Keeps the extreme value of a window.
#[derive(Clone, Debug)]
pub(super) struct Extreme {
    /// Whether the greatest value is kept, not the smallest.
    greatest: bool,
    values: VecDeque<(Moment, u32)>,
}

impl Extreme {
    pub(super) const fn least() -> Self {
        Self { greatest: false, values: VecDeque::new() }
    }

    pub(super) const fn most() -> Self {
        Self { greatest: true, values: VecDeque::new() }
    }

    /// Takes the newest value and forgets those from before the window.
    pub(super) fn push(&mut self, now: Moment, value: u32, length: Duration) {
        let outdone = |older: u32| if self.greatest { older <= value } else { older >= value };
        while self.values.back().is_some_and(|(_, older)| outdone(*older)) {
            self.values.pop_back();
        }
        self.values.push_back((now, value));
        while self.values.front().is_some_and(|(at, _)| now.since(*at) > length) {
            self.values.pop_front();
        }
    }

    /// The extreme value; `None` without any.
    pub(super) fn value(&self) -> Option<u32> {
        self.values.front().map(|(_, value)| *value)
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_the_extreme_of_the_window(values in prop::collection::vec((0_u64..30, 0_u32..20), 1..60)) {
            let length = Duration::from_millis(40);
            let (mut least, mut most) = (Extreme::least(), Extreme::most());
            let mut all: Vec<(Moment, u32)> = Vec::new();
            let mut at_ms = 0;
            for (pause_ms, value) in values {
                at_ms += pause_ms;
                let now = Moment::from_millis(at_ms);
                all.push((now, value));
                least.push(now, value, length);
                most.push(now, value, length);
                let within = || all.iter().filter(|(at, _)| now.since(*at) <= length).map(|(_, value)| *value);
                prop_assert_eq!(least.value(), within().min());
                prop_assert_eq!(most.value(), within().max());
            }
        }
    }
}
