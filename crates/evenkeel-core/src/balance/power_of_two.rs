//! Power of two: the better one of two candidates drawn by chance, by latency and requests in flight.
//!
//! Two draws avoid that all threads run to whoever looks best at the moment (Mitzenmacher 2001). Latency is remembered
//! as Finagle's peak EWMA does: one that is higher than what is remembered counts at once, lower ones count by and by.
//! What is remembered fades while nobody asks, so an instance that was slow is tried again. Of whom nothing is known, one
//! request finds out; until its answer has come it counts as slow. What failed says nothing of latency, and who fails is
//! often fast and has little in flight: so where one of the two fails clearly more often, the other one is taken.
//!
//! The caller keeps a [`PeakEwma`] for each instance and gives clock and randomness.

use std::time::Duration;

use super::{Candidate, random::scaled};
use crate::time::Moment;

/// How fast a remembered latency fades: to 37 % in this time.
const DECAY: Duration = Duration::from_secs(10);

/// What counts as the latency of an instance from which the first answer has not come.
const PENALTY_US: f64 = 1_000_000.0;

/// How much the last try counts in the part of them that failed. An instance that fails by more than that more than
/// another one is not preferred to it, whatever their latencies: one failure alone decides nothing.
const LAST: f64 = 1.0 / 8.0;

/// What is remembered of an instance's latency.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeakEwma {
    latency_us: f64,
    /// Which part of its last tries failed, from 0 to 1.
    failing: f64,
    at: Moment,
    /// An answer has come.
    known: bool,
    /// A request was sent to find out.
    asked: bool,
}

impl PeakEwma {
    /// A latency was seen.
    pub fn note(&mut self, latency_us: u64, now: Moment) {
        #[expect(clippy::cast_precision_loss, reason = "latencies of 285 years are not told apart")]
        let seen = latency_us as f64;
        let (remembered, kept) = (self.latency_us, self.kept(now));
        self.latency_us =
            if !self.known || seen >= remembered { seen } else { remembered * kept + seen * (1.0 - kept) };
        self.failing *= kept * (1.0 - LAST);
        (self.at, self.known) = (now, true);
    }

    /// A try failed, however fast. Its latency does not fade meanwhile: no better one was seen.
    pub fn failed(&mut self, now: Moment) {
        if !self.known {
            self.latency_us = PENALTY_US;
        }
        self.failing = self.failing(now) * (1.0 - LAST) + LAST;
        (self.at, self.asked) = (now, true);
    }

    /// It was chosen. Without an answer yet, whoever comes next goes elsewhere for a while.
    pub fn chosen(&mut self, now: Moment) {
        if !self.known && !self.asked {
            (self.latency_us, self.at, self.asked) = (PENALTY_US, now, true);
        }
    }

    /// What is remembered now, in microseconds, at least 1; `None`: nobody knows, and nobody has asked.
    pub fn latency_us(&self, now: Moment) -> Option<f64> {
        (self.known || self.asked).then(|| (self.latency_us * self.kept(now)).max(1.0))
    }

    fn failing(&self, now: Moment) -> f64 {
        self.failing * self.kept(now)
    }

    fn kept(&self, now: Moment) -> f64 {
        (-now.since(self.at).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

/// The place of the better one of two open candidates, `None` if none is open. `draw` is 64 random bits; `remembered` is
/// what is known of the candidate at a place.
pub fn power_of_two(
    candidates: &[Candidate],
    draw: u64,
    now: Moment,
    remembered: impl Fn(usize) -> PeakEwma,
) -> Option<usize> {
    let open = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.open).map(|(at, _)| at);
    let count = u64::try_from(open().count()).unwrap_or(u64::MAX);
    let nth = |n: u64| open().nth(usize::try_from(n).unwrap_or(usize::MAX));
    let first = scaled(draw, count);
    if count < 2 {
        return nth(first);
    }
    let second = scaled(draw.rotate_left(32), count - 1);
    let (first, second) = (nth(first)?, nth(second + u64::from(second >= first))?);
    let cost = |at: usize, remembered: PeakEwma| {
        let load = (f64::from(candidates[at].in_flight) + 1.0) / f64::from(candidates[at].weight.max(1));
        remembered.latency_us(now).map_or(0.0, |latency| latency * load)
    };
    let (one, other) = (remembered(first), remembered(second));
    let fails_more = one.failing(now) - other.failing(now);
    let is_other = if fails_more.abs() > LAST { fails_more > 0.0 } else { cost(second, other) < cost(first, one) };
    Some(if is_other { second } else { first })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::{Draws, candidates};

    fn s(at: u64) -> Moment {
        Moment::from_millis(at * 1000)
    }

    fn seen(latency_us: u64) -> PeakEwma {
        let mut ewma = PeakEwma::default();
        ewma.note(latency_us, s(0));
        ewma
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let mut ewma = PeakEwma::default();
        assert_eq!(ewma.latency_us(s(0)), None);
        ewma.note(1_000, s(0));
        ewma.note(50_000, s(1));
        assert_eq!(ewma.latency_us(s(1)), Some(50_000.0));
        ewma.note(1_000, s(1));
        assert_eq!(ewma.latency_us(s(1)), Some(50_000.0), "one good answer at the same moment says nothing");
        for at in 2..60 {
            ewma.note(1_000, s(at));
        }
        let after = ewma.latency_us(s(59)).unwrap();
        assert!((1_000.0..1_300.0).contains(&after), "{after}");
    }

    #[test]
    fn without_requests_it_fades_too() {
        let mut ewma = PeakEwma::default();
        ewma.note(100_000, s(0));
        let after = ewma.latency_us(s(10)).unwrap();
        assert!((36_000.0..37_500.0).contains(&after), "{after}");
        assert_eq!(ewma.latency_us(s(100_000)), Some(1.0));
    }

    #[test]
    fn who_is_unknown_is_asked_once() {
        let all = candidates(&[1, 1]);
        let mut known = PeakEwma::default();
        known.note(1_000, s(0));
        let mut unknown = PeakEwma::default();
        let mut draws = Draws::new(3);
        let mut got = 0;
        for _ in 0..1000 {
            let at = power_of_two(&all, draws.draw(), s(0), |at| [known, unknown][at]).unwrap();
            if at == 1 {
                got += 1;
                unknown.chosen(s(0));
            }
        }
        assert_eq!(got, 1, "until its first answer has come");
        unknown.note(500, s(0));
        assert_eq!(unknown.latency_us(s(0)), Some(500.0), "the penalty is not remembered");
    }

    #[test]
    fn one_failure_decides_nothing_and_more_are_forgotten() {
        let all = candidates(&[1, 1]);
        let preferred = |fails: PeakEwma, now| {
            let mut draws = Draws::new(5);
            // The other one is much slower.
            let mut slow = PeakEwma::default();
            slow.note(1_000_000, now);
            (0..64).all(|_| power_of_two(&all, draws.draw(), now, |at| [fails, slow][at]) == Some(0))
        };
        let mut fails = seen(1_000);
        fails.failed(s(0));
        assert!(preferred(fails, s(0)));
        fails.failed(s(0));
        assert!(!preferred(fails, s(0)));
        let mut recovers = fails;
        for _ in 0..8 {
            recovers.note(1_000, s(0));
        }
        assert!(preferred(recovers, s(0)));
        for at in 0..600 {
            fails.failed(s(at));
        }
        assert!(!preferred(fails, s(600)), "it does not fade while it fails");
        assert!(preferred(fails, s(630)), "nobody asked for long: it is tried again");
        assert_eq!(fails.latency_us(s(599)), Some(1_000.0));
    }

    /// Three instances of which the first one fails at once; the others mostly take 10 ms, and sometimes more than a
    /// second. How many of 1000 requests come to the first one.
    fn comes_to_who_fails(known_before: bool) -> u32 {
        let mut all = candidates(&[1, 1, 1]);
        let mut ewma = [PeakEwma::default(); 3];
        if known_before {
            for one in &mut ewma {
                one.note(10_000, s(0));
            }
        }
        let mut draws = Draws::new(7);
        let mut answers: Vec<(u64, usize, u64)> = Vec::new();
        let mut came = 0;
        for n in 0..1000_u64 {
            let now_ms = 1000 + n * 2;
            answers.retain(|&(at, who, took)| {
                if at <= now_ms {
                    ewma[who].note(took * 1000, Moment::from_millis(at));
                    all[who].in_flight -= 1;
                }
                at > now_ms
            });
            let now = Moment::from_millis(now_ms);
            let at = power_of_two(&all, draws.draw(), now, |at| ewma[at]).unwrap();
            ewma[at].chosen(now);
            if at == 0 {
                came += 1;
                ewma[0].failed(now);
            } else {
                let took = if draws.draw().is_multiple_of(50) { 1_100 } else { 10 };
                all[at].in_flight += 1;
                answers.push((now_ms + took, at, took));
            }
        }
        came
    }

    #[test]
    fn who_fails_fast_is_not_preferred() {
        for known_before in [true, false] {
            let came = comes_to_who_fails(known_before);
            assert!(came < 50, "{came} of 1000 came to the one that fails, known before: {known_before}");
        }
    }

    #[test]
    fn requests_in_flight_and_weights_count() {
        let mut all = candidates(&[1, 3]);
        let all_equal = |_| seen(1_000);
        let mut draws = Draws::new(1);
        for _ in 0..400 {
            let at = power_of_two(&all, draws.draw(), s(0), all_equal).unwrap();
            all[at].in_flight += 1;
        }
        assert!((95..=105).contains(&all[0].in_flight), "{} and {}", all[0].in_flight, all[1].in_flight);
    }

    #[test]
    fn few() {
        assert_eq!(power_of_two(&[], 9, s(0), |_| PeakEwma::default()), None);
        let mut all = candidates(&[1, 1]);
        all[0].open = false;
        assert_eq!(power_of_two(&all, u64::MAX, s(0), |_| PeakEwma::default()), Some(1));
        all[1].open = false;
        assert_eq!(power_of_two(&all, 0, s(0), |_| PeakEwma::default()), None);
    }

    proptest! {
        /// Never a closed one, never the slower one of two, and the same for the same draw.
        #[test]
        fn the_better_of_two(
            open in proptest::collection::vec(any::<bool>(), 1..8), draw: u64, slow in 0usize..8,
        ) {
            let mut all = candidates(&vec![1; open.len()]);
            all.iter_mut().zip(&open).for_each(|(one, open)| one.open = *open);
            let latency = |at| seen(if at == slow { 9_000 } else { 1_000 });
            let chosen = power_of_two(&all, draw, s(0), latency);
            prop_assert_eq!(chosen, power_of_two(&all, draw, s(0), latency));
            let count = open.iter().filter(|open| **open).count();
            prop_assert_eq!(chosen.is_some(), count > 0);
            if let Some(chosen) = chosen {
                prop_assert!(open[chosen] && (chosen != slow || count == 1));
            }
        }
    }
}
