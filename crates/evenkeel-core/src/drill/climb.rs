//! How much a service bears: which rate is tried next, and what the steps say in the end.
//!
//! Rates are doubled until the objective is missed; then the place between the highest that met it and the lowest that
//! missed it is halved until they are close. A rate counts as missed only once it was missed twice in a row, since a
//! moment's disturbance says nothing about the service. It owns nothing but what it was told, and sends nothing.

use serde::{Deserialize, Serialize};

use super::{Condition, in_words};

/// No climb takes more steps.
pub(super) const MOST_STEPS: u32 = 16;
/// No climb goes higher, in requests a second: clients on the same machine would measure themselves.
pub const MOST_PER_S: u64 = 20_000;
/// A service keeps up if no more than one of so many requests is added to those that wait.
const BEHIND_PARTS: u64 = 20;
/// Clients that are so busy may be what is slow.
const BUSY_PERCENT: u64 = 85;
/// Rates that differ by so few percent are close enough.
const CLOSE_PERCENT: u64 = 15;

/// What clients saw at one rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Requests a second that were asked of the service, those of its users included.
    pub rate: u64,
    /// Requests that clients of the drill sent.
    pub requests: u64,
    /// Of those, the ones without a complete answer of 2xx.
    pub errors: u64,
    /// 99 of 100 were answered within this time from the moment at which they were due, in milliseconds, rounded up.
    pub p99_ms: u64,
    /// 99 of 100 were sent within this time from that moment, in milliseconds: how far the clients lagged themselves.
    pub late_ms: u64,
    /// The share of the time in which the clients computed or waited for a processor, in percent: at 100 they could not do
    /// more.
    pub busy_percent: u64,
    /// How many more requests waited at the end than at half-time: a service that falls behind bears this only for a while.
    pub behind: u64,
    /// Whether one instance was gone.
    pub one_gone: bool,
    /// Whether the objective was met.
    pub met: bool,
}

impl Step {
    /// Whether a miss may be the clients' own doing.
    fn is_late(&self, p99_ms: u64) -> bool {
        let lagged = self.late_ms.saturating_mul(2) > p99_ms || self.busy_percent >= BUSY_PERCENT;
        !self.met && self.errors == 0 && lagged
    }
}

/// Why a climb went no higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The next rate missed the objective.
    #[default]
    Service,
    /// The next rate was more than the clients could send.
    Clients,
    /// As many steps or requests as a drill takes.
    Drill,
}

/// What a service bears.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capacity {
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// 99 of 100 requests had to be answered within this time, in milliseconds, and none might fail.
    pub p99_ms: u64,
    /// The highest rate that met this with all instances, in requests a second; 0 if none did.
    pub rate: u64,
    /// Why it is not higher.
    pub limit: Limit,
    /// The same with one instance gone.
    pub rate_with_one_gone: u64,
    /// Why that is not higher.
    pub limit_with_one_gone: Limit,
    /// Which instance was gone; `None` where there is only one.
    pub gone: Option<String>,
    /// What the service's users asked while no client of the drill did, in requests a second.
    pub present_per_s: f64,
    /// The rate with one instance gone as a multiple of what users ask; `None` where nobody asks.
    pub headroom: Option<f64>,
}

impl Capacity {
    /// Takes the result of both climbs. Without a second one, a lone instance was gone, and nothing was left to answer.
    pub fn of(climb: &Climb, with_one_gone: Option<&Climb>, gone: Option<String>, present_per_s: f64) -> Self {
        let rate_with_one_gone = with_one_gone.map_or(0, |climb| climb.best);
        let steps = climb.steps.iter().chain(with_one_gone.iter().flat_map(|climb| &climb.steps)).copied().collect();
        Self {
            steps,
            p99_ms: climb.p99_ms,
            rate: climb.best,
            limit: climb.limit(),
            rate_with_one_gone,
            limit_with_one_gone: with_one_gone.map_or(Limit::Service, Climb::limit),
            gone,
            present_per_s,
            // Less than one request in two seconds is nobody: a probe of something else, or chance.
            headroom: (present_per_s >= 0.5).then(|| real(rate_with_one_gone) / present_per_s),
        }
    }

    /// What holds, or does not.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        vec![self.bears_something(), self.bears_a_loss()]
    }

    fn bears_something(&self) -> Condition {
        let Self { rate, limit, .. } = *self;
        let bound = in_words(self.p99_ms);
        if rate > 0 {
            let least = limit.at_least();
            let why = limit.in_words();
            return Ok(format!(
                "all instances bear {least}{rate} requests a second, 99 of 100 within {bound} and none failing{why}"
            ));
        }
        let lowest = self.steps.iter().filter(|step| !step.one_gone).min_by_key(|step| step.rate);
        let seen = lowest.map_or_else(String::new, |step| {
            let Step { rate, errors, p99_ms, .. } = *step;
            format!(": at {rate} a second {errors} failed and 99 of 100 took up to {}", in_words(p99_ms))
        });
        let whose = if limit == Limit::Clients { ", perhaps because the clients themselves lagged" } else { "" };
        Err(format!("no rate was found at which 99 of 100 requests end well within {bound}{seen}{whose}"))
    }

    fn bears_a_loss(&self) -> Condition {
        let Some(gone) = &self.gone else {
            return Err("there is only one instance: with it gone nothing is left to answer".to_owned());
        };
        let Self { rate_with_one_gone: rate, limit_with_one_gone: limit, present_per_s, .. } = *self;
        let least = limit.at_least();
        let bears = format!("without {gone} it bears {least}{rate} requests a second{}", limit.in_words());
        match self.headroom {
            _ if rate == 0 => Err(format!("without {gone} it bears no rate that was tried{}", limit.in_words())),
            None => Ok(format!("{bears}; nobody asks at the moment, so that is headroom enough")),
            Some(headroom) if headroom >= 1.0 => {
                Ok(format!("{bears}, {headroom:.1} times the {present_per_s:.0} that users ask"))
            }
            Some(headroom) => Err(format!("{bears}, only {headroom:.2} times the {present_per_s:.0} that users ask")),
        }
    }
}

impl Limit {
    const fn at_least(self) -> &'static str {
        match self {
            Self::Service => "",
            Self::Clients | Self::Drill => "at least ",
        }
    }

    const fn in_words(self) -> &'static str {
        match self {
            Self::Service => "",
            Self::Clients => " (the clients could not send more, so this may be their limit and not the service's)",
            Self::Drill => " (a drill goes no higher)",
        }
    }
}

/// One climb to the highest rate that meets an objective. Rates are in requests a second.
#[derive(Clone, Debug)]
pub struct Climb {
    /// 99 of 100 requests must be answered within this time.
    p99_ms: u64,
    /// Whether one instance is gone.
    one_gone: bool,
    /// No rate up to this one is tried: it is what users ask anyhow.
    floor: u64,
    first: u64,
    /// The highest that met the objective.
    best: u64,
    /// The lowest that missed it twice, and whether the clients lagged there.
    missed: Option<(u64, bool)>,
    /// What was missed once and is tried again.
    doubtful: Option<u64>,
    steps: Vec<Step>,
}

impl Climb {
    /// Begins at `first`; users ask `floor` meanwhile.
    pub fn new(p99_ms: u64, one_gone: bool, floor: u64, first: u64) -> Self {
        let first = first.clamp(floor + 1, MOST_PER_S.max(floor + 1));
        Self { p99_ms, one_gone, floor, first, best: 0, missed: None, doubtful: None, steps: Vec::new() }
    }

    /// What is to be tried next; `None` once it is known well enough.
    pub fn next_rate(&self) -> Option<u64> {
        if self.steps.len() >= MOST_STEPS as usize {
            return None;
        }
        if self.doubtful.is_some() {
            return self.doubtful;
        }
        match self.missed {
            None if self.best == 0 => Some(self.first),
            None => (self.best < MOST_PER_S).then(|| (self.best * 2).min(MOST_PER_S)),
            Some((missed, _)) => {
                let low = self.best.max(self.floor);
                let gap = missed - low;
                (gap * 100 > missed * CLOSE_PERCENT && gap > 4).then(|| round(low.midpoint(missed), low, missed))
            }
        }
    }

    /// What clients saw at the rate that was to be tried. Returns the step with its verdict.
    pub fn on(&mut self, seen: Step) -> Step {
        // Of the second half's requests a tenth: less may be chance.
        let keeps_up = seen.behind.saturating_mul(BEHIND_PARTS) <= seen.requests;
        let met = seen.requests > 0 && seen.errors == 0 && seen.p99_ms <= self.p99_ms && keeps_up;
        let step = Step { met, one_gone: self.one_gone, ..seen };
        self.steps.push(step);
        if met {
            self.doubtful = None;
            self.best = self.best.max(step.rate);
        } else if self.doubtful.take().is_some() {
            self.missed = Some((step.rate, step.is_late(self.p99_ms)));
        } else {
            self.doubtful = Some(step.rate);
        }
        step
    }

    /// The highest rate that met the objective; 0 if none did.
    pub fn best(&self) -> u64 {
        self.best
    }

    fn limit(&self) -> Limit {
        match self.missed {
            Some((_, false)) => Limit::Service,
            Some((_, true)) => Limit::Clients,
            None => Limit::Drill,
        }
    }
}

/// To two digits, where that stays between both.
fn round(rate: u64, low: u64, high: u64) -> u64 {
    let mut unit = 1;
    while rate / unit >= 100 {
        unit *= 10;
    }
    let rounded = rate / unit * unit;
    if rounded > low && rounded < high { rounded } else { rate }
}

/// Rates are far below 2^53, from where on such numbers lose precision.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn real(rate: u64) -> f64 {
    rate as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A climb at a service that bears so many requests a second and leaves clients so late, and what it tried.
    fn climbed(bears: u64, floor: u64, first: u64, late_ms: u64) -> (Climb, Vec<u64>) {
        let mut climb = Climb::new(250, false, floor, first);
        let mut tried = Vec::new();
        while let Some(rate) = climb.next_rate() {
            tried.push(rate);
            let p99_ms = if rate <= bears { 20 } else { 900 };
            let late_ms = if rate <= bears { 1 } else { late_ms };
            climb.on(Step { rate, requests: rate, p99_ms, late_ms, ..Step::default() });
        }
        (climb, tried)
    }

    #[test]
    fn rates_double_until_one_is_missed_twice_and_then_close_in() {
        let (climb, tried) = climbed(1000, 0, 100, 3);
        assert_eq!(tried, [100, 200, 400, 800, 1600, 1600, 1200, 1200, 1000, 1100, 1100]);
        assert_eq!((climb.best(), climb.limit()), (1000, Limit::Service));
    }

    #[test]
    fn a_single_miss_is_not_believed() {
        let mut climb = Climb::new(250, false, 0, 100);
        let step = |rate, p99_ms| Step { rate, requests: 100, p99_ms, ..Step::default() };
        assert!(!climb.on(step(100, 900)).met);
        assert_eq!(climb.next_rate(), Some(100));
        assert!(climb.on(step(100, 10)).met);
        assert_eq!(climb.next_rate(), Some(200));
        let failing = climb.on(Step { errors: 1, ..step(200, 10) });
        assert!(!failing.met, "an error is a miss");
        assert!(!climb.on(Step { behind: 6, ..step(200, 10) }).met, "so is falling behind");
    }

    #[test]
    fn every_climb_ends() {
        for bears in [0, 1, 7, 50, 333, 20_000, 1_000_000] {
            for floor in [0, 3, 60, 30_000] {
                let (climb, tried) = climbed(bears, floor, 100, 0);
                assert!(tried.len() <= MOST_STEPS as usize && tried.iter().all(|rate| *rate > floor), "{tried:?}");
                assert!(climb.best() <= bears, "{tried:?}");
            }
        }
    }

    #[test]
    fn clients_that_lag_are_named() {
        let (late, _) = climbed(1000, 0, 100, 200);
        assert_eq!(late.limit(), Limit::Clients);
        let capacity = Capacity::of(&late, Some(&late), Some("shop/1".to_owned()), 0.0);
        let said = capacity.conditions().remove(0).unwrap();
        assert!(Step { busy_percent: 99, ..Step::default() }.is_late(250), "so are clients that are busy all the time");
        assert!(!Step { busy_percent: 99, errors: 1, ..Step::default() }.is_late(250), "but an error is not theirs");
        assert!(said.contains("at least 1000") && said.contains("the clients could not send more"), "{said}");
    }

    #[test]
    fn headroom_is_what_is_left_with_one_gone() {
        let (all, _) = climbed(1000, 0, 100, 0);
        let (fewer, _) = climbed(600, 0, 500, 0);
        let with = |present| Capacity::of(&all, Some(&fewer), Some("shop/1".to_owned()), present);
        let verdicts = |capacity: Capacity| capacity.conditions().into_iter().map(|c| c.is_ok()).collect::<Vec<_>>();
        assert_eq!(verdicts(with(300.0)), [true, true]);
        assert_eq!(verdicts(with(700.0)), [true, false]);
        assert_eq!(with(0.2).headroom, None);
        assert_eq!(verdicts(with(0.2)), [true, true]);
        let lone = Capacity::of(&all, None, None, 1.0);
        assert!(lone.conditions()[1].clone().unwrap_err().contains("only one instance"));
        let (nothing, _) = climbed(0, 0, 100, 0);
        let nothing = Capacity::of(&nothing, Some(&nothing), Some("shop/1".to_owned()), 1.0);
        assert_eq!(verdicts(nothing), [false, false]);
    }
}
