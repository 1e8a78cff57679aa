//! A sliding window over requests that ended well or failed.
//!
//! A ring of slots, so that memory is bounded whatever the traffic. Nothing decays and nothing is estimated: the
//! sums are exactly what was added within the last `SLOTS` slots, the present one among them. They therefore
//! look back over a time between the window's length less one slot and the window's length, and are exact for
//! windows that begin on a slot's boundary.

use crate::time::Moment;

/// How many slots a window has.
const SLOTS: usize = 60;

/// What ended within the last so many milliseconds.
#[derive(Clone, Debug)]
pub struct Window {
    slot_ns: u64,
    /// Number of the present slot, counted from the clock's origin.
    present: u64,
    slots: Box<[(u32, u32); SLOTS]>,
    sums: (u64, u64),
}

impl Window {
    /// An empty window of this length, rounded up to a multiple of `SLOTS` nanoseconds.
    pub fn new(window_ms: u64) -> Self {
        let slot_ns = window_ms.saturating_mul(1_000_000).div_ceil(SLOTS as u64).max(1);
        Self { slot_ns, present: 0, slots: Box::new([(0, 0); SLOTS]), sums: (0, 0) }
    }

    /// Counts requests that ended at `now`, which never goes back. A slot counts to `u32::MAX` and no further.
    pub fn add(&mut self, ok: u32, failed: u32, now: Moment) {
        self.advance(now);
        let slot = &mut self.slots[index(self.present)];
        let after = (slot.0.saturating_add(ok), slot.1.saturating_add(failed));
        self.sums.0 += u64::from(after.0 - slot.0);
        self.sums.1 += u64::from(after.1 - slot.1);
        *slot = after;
    }

    /// How many ended well and how many failed.
    pub fn sums(&mut self, now: Moment) -> (u64, u64) {
        self.advance(now);
        self.sums
    }

    /// Empties the slots that time has left behind.
    fn advance(&mut self, now: Moment) {
        let present = (now.as_nanos() / self.slot_ns).max(self.present);
        let left_behind = (present - self.present).min(SLOTS as u64);
        for step in 0..left_behind {
            let slot = &mut self.slots[index(present - step)];
            self.sums.0 -= u64::from(slot.0);
            self.sums.1 -= u64::from(slot.1);
            *slot = (0, 0);
        }
        self.present = present;
    }
}

fn index(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).expect("a remainder of a usize fits into one")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forgets_by_slots() {
        let mut window = Window::new(6_000);
        window.add(3, 1, Moment::from_millis(50));
        window.add(0, 2, Moment::from_millis(150));
        assert_eq!(window.sums(Moment::from_millis(5_999)), (3, 3));
        assert_eq!(window.sums(Moment::from_millis(6_000)), (0, 2));
        assert_eq!(window.sums(Moment::from_millis(6_100)), (0, 0));
        window.add(1, 0, Moment::from_millis(1_000_000));
        assert_eq!(window.sums(Moment::from_millis(1_000_000)), (1, 0));
    }

    #[test]
    fn a_slot_saturates() {
        let mut window = Window::new(1_000);
        window.add(u32::MAX, u32::MAX, Moment::ORIGIN);
        window.add(5, 5, Moment::ORIGIN);
        assert_eq!(window.sums(Moment::ORIGIN), (u64::from(u32::MAX), u64::from(u32::MAX)));
        assert_eq!(window.sums(Moment::from_millis(2_000)), (0, 0));
    }

    proptest! {
        /// The sums are those of a list of everything that was added, cut at the same boundary.
        #[test]
        fn equals_the_list(window_ms in 1u64..2_000, adds in prop::collection::vec((0u64..400, 0u32..9, 0u32..9), 1..300)) {
            let mut window = Window::new(window_ms);
            let slot_ns = (window_ms * 1_000_000).div_ceil(SLOTS as u64);
            let mut list = Vec::new();
            let mut now = Moment::ORIGIN;
            for (step_ms, ok, failed) in adds {
                now = now + std::time::Duration::from_millis(step_ms);
                window.add(ok, failed, now);
                list.push((now.as_nanos() / slot_ns, ok, failed));
                let oldest = (now.as_nanos() / slot_ns).saturating_sub(SLOTS as u64 - 1);
                let inside = list.iter().filter(|one| one.0 >= oldest);
                let expected = inside.fold((0, 0), |sum, one| (sum.0 + u64::from(one.1), sum.1 + u64::from(one.2)));
                prop_assert_eq!(window.sums(now), expected);
            }
        }
    }
}
