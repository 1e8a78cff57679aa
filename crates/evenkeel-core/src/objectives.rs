//! Objectives: how much may still go wrong.
//!
//! An objective such as "99.9 % of requests end well over 30 days" allows one request of a thousand to fail. What is
//! allowed is a budget that failures spend; the burn rate says how fast: at 1 it is used up exactly when the window
//! ends. The terms and the threshold at which a burn is fast are those of "The Site Reliability Workbook" (Google,
//! 2018), chapters 2 and 5.
//!
//! Pure arithmetic over counters: who counts, and what is kept of it, is the node process's concern.

mod hours;

use serde::{Deserialize, Serialize};

pub use self::hours::Hours;
use crate::{
    link::LATENCY_BOUNDS_US,
    stack::{Duration, Objective},
    time::WallTime,
};

/// The share of requests that `p99` asks to be fast enough.
const FAST_SHARE: f64 = 0.99;

/// A burn is fast where an hour of it takes this share of the budget.
const FAST_BURN: f64 = 0.02;

/// The least rate that is called fast, however short the window.
const LEAST_FAST_RATE: f64 = 2.0;

/// Bad requests in an hour below which no burn is called fast: a few of few say nothing.
const FEWEST_BAD: u64 = 10;

const HOUR_MS: f64 = 3_600_000.0;

/// Requests that are over, and how long they took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Requests, however they ended.
    pub requests: u64,
    /// Answers of 5xx and requests without an answer.
    pub errors: u64,
    /// Counts of latencies by bucket of [`LATENCY_BOUNDS_US`], not cumulative; the last one is for what lies above.
    pub latency: [u64; LATENCY_BOUNDS_US.len() + 1],
}

impl Counted {
    /// Adds what was counted at another time or place.
    pub fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.errors += more.errors;
        self.latency.iter_mut().zip(more.latency).for_each(|(sum, more)| *sum += more);
    }

    /// How many latencies were counted.
    pub fn latencies(&self) -> u64 {
        self.latency.iter().sum()
    }

    /// How many requests took longer than this. Within a bucket latencies are taken to be spread evenly.
    pub fn slower_than(&self, bound_us: u64) -> u64 {
        let mut low = 0;
        let mut slower = 0.0;
        for (bucket, count) in self.latency.iter().enumerate() {
            let high = LATENCY_BOUNDS_US.get(bucket).copied().unwrap_or(u64::MAX);
            let share = match bound_us {
                bound if bound <= low => 1.0,
                bound if bound >= high => 0.0,
                // Nothing is known of the last bucket's times but that they are above its lower bound.
                _ if high == u64::MAX => 1.0,
                bound => real(high - bound) / real(high - low),
            };
            slower += share * real(*count);
            low = high;
        }
        whole(slower)
    }
}

/// How an objective is held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ObjectiveStatus {
    /// The time that is counted over, up to now.
    pub window_ms: u64,
    /// Since when requests are counted, where that is within the window; `None`: nothing was counted yet.
    pub since: Option<WallTime>,
    /// The budget of errors; `None` where no availability is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Budget>,
    /// The budget of requests that took longer than [`ObjectiveStatus::p99_ms`]; `None` where none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<Budget>,
    /// How long 99 of 100 requests may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<u64>,
}

impl ObjectiveStatus {
    /// Both budgets that there can be, with the key of the stack file that asks for them.
    pub fn budgets(&self) -> impl Iterator<Item = (&'static str, &Budget)> {
        let availability = self.availability.iter().map(|budget| ("availability", budget));
        availability.chain(self.p99.iter().map(|budget| ("p99", budget)))
    }
}

/// What is left of what may go wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Budget {
    /// The share that must be good, in percent.
    pub target_percent: f64,
    /// The share that was good, in percent; `None` without requests.
    pub reached_percent: Option<f64>,
    /// Requests within the window.
    pub counted: u64,
    /// Those that were bad: errors, or too slow.
    pub bad: u64,
    /// How many might have been.
    pub allowed: f64,
    /// How many still may be; negative where there were too many.
    pub left: f64,
    /// The share of the budget that is spent, in percent; more than 100 where it is used up.
    pub spent_percent: f64,
    /// Bad requests of the last hour as a multiple of what that hour's requests allow.
    pub burn_rate: f64,
    /// How long what is left lasts if it goes on like in the last hour; `None`: for ever, or nothing is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts_ms: Option<u64>,
    /// What this amounts to.
    pub state: BudgetState,
}

impl Budget {
    /// The share of the whole budget that so many more bad requests take, in percent; `None` before there is one.
    pub fn share_of(&self, bad: u64) -> Option<f64> {
        (self.allowed > 0.0).then(|| 100.0 * real(bad) / self.allowed)
    }
}

/// Whether somebody should look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BudgetState {
    /// It lasts.
    #[default]
    Ample,
    /// An hour like the last one takes a fiftieth of it or more.
    Burning,
    /// It is used up.
    Spent,
}

/// Judges an objective by what was counted over its window and over the last hour; `since` is when counting began, or
/// the window, whichever is later.
pub fn judge(objective: &Objective, window: &Counted, last_hour: &Counted, since: Option<WallTime>) -> ObjectiveStatus {
    let window_ms = objective.window.as_ms();
    let availability = objective.availability.map(|availability| {
        let of = |counted: &Counted| (counted.requests, counted.errors);
        budget(availability.share(), of(window), of(last_hour), window_ms)
    });
    let p99 = objective.p99.map(|p99| {
        let of = |counted: &Counted| (counted.latencies(), counted.slower_than(p99.as_ms().saturating_mul(1000)));
        budget(FAST_SHARE, of(window), of(last_hour), window_ms)
    });
    ObjectiveStatus { window_ms, since, availability, p99, p99_ms: objective.p99.map(Duration::as_ms) }
}

/// `share`: of requests that must be good. Pairs are requests, and the bad ones among them.
fn budget(share: f64, (counted, bad): (u64, u64), (recent, recent_bad): (u64, u64), window_ms: u64) -> Budget {
    let allowed = real(counted) * (1.0 - share);
    let recent_allowed = real(recent) * (1.0 - share);
    let left = allowed - real(bad);
    let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let burn_rate = ratio(real(recent_bad), recent_allowed);
    // What an hour's requests earn is spent first.
    let lost_an_hour = real(recent_bad) - recent_allowed;
    let lasts = (lost_an_hour > 0.0 && left > 0.0).then(|| whole(left / lost_an_hour * HOUR_MS));
    let fast = (FAST_BURN * real(window_ms) / HOUR_MS).max(LEAST_FAST_RATE);
    let state = if left < 0.0 {
        BudgetState::Spent
    } else if burn_rate >= fast && recent_bad >= FEWEST_BAD {
        BudgetState::Burning
    } else {
        BudgetState::Ample
    };
    Budget {
        target_percent: 100.0 * share,
        reached_percent: (counted > 0).then(|| 100.0 * real(counted.saturating_sub(bad)) / real(counted)),
        counted,
        bad,
        allowed,
        left,
        spent_percent: 100.0 * ratio(real(bad), allowed),
        burn_rate,
        lasts_ms: lasts,
        state,
    }
}

/// Counts lose precision only beyond 2^53, which none reaches.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn real(count: u64) -> f64 {
    count as f64
}

/// The nearest whole number; what is too large for one is the largest.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is not negative, and casts saturate")]
fn whole(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Percent;

    fn objective() -> Objective {
        Objective {
            availability: Percent::of_millionths(999_000),
            p99: Some(Duration::ms(250)),
            window: Duration::s(30 * 24 * 3600),
        }
    }

    /// So many requests; the slow ones take from 250 ms to half a second.
    fn counted(requests: u64, errors: u64, slow: u64) -> Counted {
        let mut latency = [0; LATENCY_BOUNDS_US.len() + 1];
        (latency[0], latency[12]) = (requests - slow, slow);
        Counted { requests, errors, latency }
    }

    #[test]
    fn a_budget_is_what_the_objective_allows_less_what_went_wrong() {
        let status = judge(&objective(), &counted(100_000, 25, 400), &counted(1000, 1, 0), None);
        let availability = status.availability.unwrap();
        assert!((availability.allowed - 100.0).abs() < 1e-6 && (availability.left - 75.0).abs() < 1e-6);
        assert!((availability.spent_percent - 25.0).abs() < 1e-6, "{availability:?}");
        assert!((availability.burn_rate - 1.0).abs() < 1e-6 && availability.lasts_ms.is_none());
        assert!((availability.reached_percent.unwrap() - 99.975).abs() < 1e-9);
        assert!((availability.share_of(50).unwrap() - 50.0).abs() < 1e-6);
        assert_eq!(availability.state, BudgetState::Ample);
        let p99 = status.p99.unwrap();
        assert_eq!((p99.bad, p99.counted), (400, 100_000));
        assert!((p99.spent_percent - 40.0).abs() < 1e-6, "{p99:?}");
    }

    #[test]
    fn a_fast_burn_is_told_before_the_budget_is_gone() {
        // Of 1000 requests an hour 20 fail: twenty times what the hour allows, and 0.2 % of the budget were not much.
        let budget = |window, hour| judge(&objective(), &window, &hour, None).availability.unwrap();
        let fast = budget(counted(720_000, 30, 0), counted(1000, 20, 0));
        assert_eq!(fast.state, BudgetState::Burning);
        // 690 are left, and 19 more go each hour than it earns.
        assert_eq!(fast.lasts_ms.unwrap() / 3_600_000, 36);
        // The same rate of few requests is chance.
        assert_eq!(budget(counted(720_000, 30, 0), counted(100, 2, 0)).state, BudgetState::Ample);
        let spent = budget(counted(1000, 2, 0), counted(1000, 2, 0));
        assert_eq!((spent.state, spent.lasts_ms), (BudgetState::Spent, None));
        assert!(spent.left < 0.0 && (spent.spent_percent - 200.0).abs() < 1e-6, "{spent:?}");
    }

    #[test]
    fn without_requests_nothing_is_spent() {
        let status = judge(&objective(), &Counted::default(), &Counted::default(), None);
        for (key, budget) in status.budgets() {
            assert_eq!((budget.bad, budget.reached_percent, budget.state), (0, None, BudgetState::Ample), "{key}");
            assert!(budget.spent_percent.abs() < 1e-9 && budget.share_of(1).is_none());
        }
        assert_eq!(status.budgets().count(), 2);
    }

    #[test]
    fn slow_requests_are_counted_within_their_bucket() {
        let counted = counted(10, 0, 4);
        for (bound_us, slower) in [(0, 10), (250_000, 4), (375_000, 2), (500_000, 0), (u64::MAX, 0)] {
            assert_eq!(counted.slower_than(bound_us), slower, "{bound_us}");
        }
        let mut endless = Counted::default();
        endless.latency[LATENCY_BOUNDS_US.len()] = 3;
        assert_eq!(endless.slower_than(60_000_000), 3);
    }

    #[test]
    fn sums_add_up() {
        let mut sum = counted(10, 1, 4);
        sum.add(&counted(5, 1, 1));
        assert_eq!(sum, counted(15, 2, 5));
    }
}
