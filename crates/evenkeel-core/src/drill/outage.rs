//! How long nobody was answered.
//!
//! An outage is the longest time since the harm in which no request got its answer, from one good answer to the next:
//! whatever ended in between failed. [`Gaps`] is told of every request that ends and remembers that one time; whoever
//! sends the requests owns it. It reads no clock and judges nothing.

use serde::{Deserialize, Serialize};

/// Shorter gaps than this are no outage, whatever the pace of a service's answers.
const LEAST_MS: u64 = 100;
/// Gaps that are not so many times as long as the longest before the harm are no outage either.
const TIMES_USUAL: u64 = 3;

/// The longest time since the harm in which no request got its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Outage {
    /// When it began, in milliseconds since the drill's start: the harm, or the last good answer before it.
    pub from_ms: u64,
    /// How long it lasted, in milliseconds.
    pub lasted_ms: u64,
    /// Requests that ended in it; each failed.
    pub failed: u64,
    /// Whether a good answer followed; otherwise it lasted until the drill ended.
    pub ended: bool,
    /// The longest such time before the harm, in milliseconds.
    pub usual_ms: u64,
}

impl Outage {
    /// Whether it is worth the name: every service has short times between two answers.
    pub fn is_down(&self) -> bool {
        self.lasted_ms >= self.least_ms() || !self.ended && self.failed > 0
    }

    /// From how long on a time without an answer counts as being down, in milliseconds.
    pub fn least_ms(&self) -> u64 {
        LEAST_MS.max(self.usual_ms.saturating_mul(TIMES_USUAL))
    }

    /// When it ended, in milliseconds since the drill's start.
    pub fn until_ms(&self) -> u64 {
        self.from_ms.saturating_add(self.lasted_ms)
    }
}

/// The times between good answers, as requests end.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// When the last good answer came.
    last_good_ms: Option<u64>,
    /// Requests that failed since, and when the last one did.
    failed: u64,
    last_failed_ms: u64,
    longest: Option<Outage>,
    usual_ms: u64,
}

impl Gaps {
    /// The harm is about to be done.
    pub fn mark_fault(&mut self, now_ms: u64) {
        self.usual_ms = self.longest.map_or(0, |longest| longest.lasted_ms);
        *self = Self { last_good_ms: Some(now_ms), usual_ms: self.usual_ms, ..Self::default() };
    }

    /// A request ended.
    pub fn on(&mut self, now_ms: u64, failed: bool) {
        if failed {
            self.failed += 1;
            self.last_failed_ms = now_ms;
            return;
        }
        self.longest = self.with_gap_until(now_ms, true);
        (self.last_good_ms, self.failed) = (Some(now_ms), 0);
    }

    /// The longest time without a good answer, also if none has ended it; `None` where no request ended.
    pub fn longest(&self) -> Option<Outage> {
        if self.failed > 0 { self.with_gap_until(self.last_failed_ms, false) } else { self.longest }
    }

    fn with_gap_until(&self, now_ms: u64, ended: bool) -> Option<Outage> {
        let Some(from_ms) = self.last_good_ms else { return self.longest };
        let lasted_ms = now_ms.saturating_sub(from_ms);
        let gap = Outage { from_ms, lasted_ms, failed: self.failed, ended, usual_ms: self.usual_ms };
        // One that nothing has ended counts before one that is over.
        self.longest.filter(|longest| ended && longest.lasted_ms >= lasted_ms).or(Some(gap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(gaps: &mut Gaps, times: impl IntoIterator<Item = u64>) {
        times.into_iter().for_each(|at| gaps.on(at, false));
    }

    #[test]
    fn it_lasts_from_one_good_answer_to_the_next() {
        let mut gaps = Gaps::default();
        answers(&mut gaps, (0..1000).step_by(5));
        gaps.mark_fault(1000);
        gaps.on(1003, false);
        for at in (1010..4200).step_by(5) {
            gaps.on(at, true);
        }
        answers(&mut gaps, (4210..5000).step_by(5));
        gaps.on(5001, true);
        gaps.on(5002, false);
        let outage = gaps.longest().unwrap();
        let expected = Outage { from_ms: 1003, lasted_ms: 3207, failed: 638, ended: true, usual_ms: 5 };
        assert_eq!(outage, expected);
        assert!(outage.is_down() && outage.until_ms() == 4210);
    }

    #[test]
    fn what_is_usual_is_no_outage() {
        let mut gaps = Gaps::default();
        answers(&mut gaps, (0..1000).step_by(60));
        gaps.mark_fault(1000);
        answers(&mut gaps, [1100, 1270, 1400]);
        let outage = gaps.longest().unwrap();
        assert_eq!((outage.lasted_ms, outage.usual_ms, outage.is_down()), (170, 60, false));
        assert_eq!(outage.least_ms(), 180, "three times what is usual");
        answers(&mut gaps, [1600]);
        assert!(gaps.longest().unwrap().is_down());
    }

    #[test]
    fn one_that_nothing_ends_counts_first() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.longest(), None);
        gaps.mark_fault(1000);
        answers(&mut gaps, [1900, 2000]);
        gaps.on(2010, true);
        let outage = gaps.longest().unwrap();
        assert_eq!((outage.from_ms, outage.lasted_ms, outage.failed, outage.ended), (2000, 10, 1, false));
        assert!(outage.is_down());
    }
}
