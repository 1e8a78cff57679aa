//! The gate: whether a new instance answers as well as the former ones, by what both answered over the same time.
//!
//! [`judge`] compares the share of failed requests and the latency and gives its verdict with reasons. It keeps no
//! state and measures no time. It condemns only on evidence: few failures prove nothing, and what goes wrong with the
//! former instances as well is not the fault of the new one. Without any traffic it has nothing to compare, which it
//! says; the instance then passes on being ready alone.

use std::time::Duration;

use crate::{
    journal::Reason,
    link::{InstanceCounters, LATENCY_BOUNDS_US},
    time::in_words,
};

/// The shortest trial, however much traffic there is.
pub const LEAST: Duration = Duration::from_secs(3);
/// So many good answers end a trial early.
pub const ENOUGH: u64 = 200;
/// Fewer failures than this condemn nobody.
pub const LEAST_ERRORS: u64 = 3;
/// Fewer answers than this say nothing about latency.
pub const LEAST_LATENCIES: u64 = 50;
/// What a latency may be above twice the former one.
const SLACK_US: u64 = 50_000;
/// How much larger the share of requests without an answer may be when a trial ends.
const UNANSWERED: f64 = 0.5;
/// How many standard errors the shares of failures must lie apart. By chance alone they do in one trial of a thousand.
const SIGNIFICANT: f64 = 3.0;

/// What an instance, or several, answered over some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were sent.
    pub tries: u64,
    /// Answers below 500.
    pub good: u64,
    /// Answers of 5xx, whether or not a client got them.
    pub refused: u64,
    /// Tries that failed: without an answer, or with one that another try replaced.
    pub failed: u64,
    /// Times to the answer's head, by bucket of [`LATENCY_BOUNDS_US`].
    pub latency: [u64; LATENCY_BOUNDS_US.len() + 1],
}

impl Tally {
    /// What one instance was counted to have answered since the edge's start.
    pub fn of(counters: &InstanceCounters) -> Self {
        Self {
            tries: counters.tries,
            good: counters.responses[1..4].iter().sum(),
            refused: counters.responses[4],
            failed: counters.failures,
            latency: counters.latency,
        }
    }

    /// Adds what another one answered.
    pub fn add(&mut self, more: &Self) {
        self.tries += more.tries;
        self.good += more.good;
        self.refused += more.refused;
        self.failed += more.failed;
        self.latency.iter_mut().zip(more.latency).for_each(|(sum, more)| *sum += more);
    }

    /// What was answered after `earlier`. Counters that began anew count from zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut delta = self.clone();
        delta.tries = delta.tries.saturating_sub(earlier.tries);
        delta.good = delta.good.saturating_sub(earlier.good);
        delta.refused = delta.refused.saturating_sub(earlier.refused);
        delta.failed = delta.failed.saturating_sub(earlier.failed);
        delta.latency.iter_mut().zip(earlier.latency).for_each(|(sum, before)| *sum = sum.saturating_sub(before));
        delta
    }

    /// Requests that went wrong. An answer of 5xx that was replaced is both refused and failed, so the larger number
    /// is taken: never more than there were.
    pub fn errors(&self) -> u64 {
        self.refused.max(self.failed)
    }

    /// All requests that are over.
    pub fn requests(&self) -> u64 {
        self.good + self.errors()
    }

    /// Requests that were sent and have had no answer yet.
    pub fn unanswered(&self) -> u64 {
        self.tries.saturating_sub(self.requests())
    }

    /// Upper bound of the bucket that holds the 95th percentile, in microseconds; `None` with too few answers.
    fn p95_us(&self) -> Option<u64> {
        let count: u64 = self.latency.iter().sum();
        if count < LEAST_LATENCIES {
            return None;
        }
        let mut left = count - count * 95 / 100;
        for (bucket, inside) in self.latency.iter().enumerate().rev() {
            if *inside >= left {
                let last = LATENCY_BOUNDS_US.len() - 1;
                return Some(LATENCY_BOUNDS_US[bucket.min(last)]);
            }
            left -= inside;
        }
        None
    }
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a trial lasts.
    pub watch: Duration,
    /// How many percentage points more of the requests may fail than with the former instances.
    pub max_errors_percent: u8,
}

/// What comes of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Watching,
    /// It proved itself.
    Passed(Vec<Reason>),
    /// It is worse than what it should replace.
    Failed(Vec<Reason>),
}

/// Judges an instance that has been ready for `elapsed` and answered `new`, while the former ones answered `old`.
pub fn judge(limits: &Limits, elapsed: Duration, new: &Tally, old: &Tally) -> Verdict {
    if let Some(reasons) = too_many_errors(limits, new, old).or_else(|| too_slow(new, old)) {
        return Verdict::Failed(reasons);
    }
    let early = elapsed >= LEAST && new.good >= ENOUGH;
    if elapsed < limits.watch && !early {
        return Verdict::Watching;
    }
    match unanswered(elapsed, new, old) {
        Some(reasons) => Verdict::Failed(reasons),
        None => Verdict::Passed(good_enough(limits, elapsed, early, new, old)),
    }
}

fn good_enough(limits: &Limits, elapsed: Duration, early: bool, new: &Tally, old: &Tally) -> Vec<Reason> {
    let watched = in_words(Duration::from_secs(elapsed.as_secs().max(1)));
    if new.requests() == 0 {
        let why = match new.tries {
            0 => "it got no requests to answer".to_owned(),
            tries => {
                format!("none of its {tries} requests is over yet, and those of the former instances take long too")
            }
        };
        return vec![
            Reason::seen(format!("ready for {watched}")),
            Reason::ruled_out(format!("comparing errors and latency: {why}")),
        ];
    }
    let mut reasons = vec![Reason::seen(format!("{} in {watched}", errors_of(new)))];
    if old.requests() > 0 {
        reasons.push(Reason::seen(format!("the former instances: {}", errors_of(old))));
    }
    if new.errors() > 0 {
        reasons.push(Reason::ruled_out(format!("failing it: {}", why_not_condemned(limits, new, old))));
    }
    match (new.p95_us(), old.p95_us()) {
        (Some(new), Some(old)) => {
            reasons.push(Reason::seen(format!("95 % of its answers {}, formerly {}", within(new), within(old))));
        }
        _ => reasons.push(Reason::ruled_out(format!(
            "comparing latency: that needs {LEAST_LATENCIES} answers of new and former instances"
        ))),
    }
    if early && elapsed < limits.watch {
        reasons.push(Reason::rule(format!("{ENOUGH} good answers and {} end a trial early", in_words(LEAST))));
    }
    reasons
}

fn why_not_condemned(limits: &Limits, new: &Tally, old: &Tally) -> String {
    if new.errors() < LEAST_ERRORS {
        return format!("fewer than {LEAST_ERRORS} failures prove nothing");
    }
    let apart = (share(new) - share(old)) * 100.0;
    if apart <= f64::from(limits.max_errors_percent) {
        return format!("{} more than formerly may fail", points(limits.max_errors_percent));
    }
    "so few requests may differ so much by chance".to_owned()
}

fn too_many_errors(limits: &Limits, new: &Tally, old: &Tally) -> Option<Vec<Reason>> {
    let apart = share(new) - share(old);
    if new.errors() < LEAST_ERRORS || apart * 100.0 <= f64::from(limits.max_errors_percent) {
        return None;
    }
    let mut reasons = vec![Reason::seen(errors_of(new))];
    if old.requests() == 0 {
        reasons.push(Reason::ruled_out("comparing it with the former instances: they got no requests meanwhile"));
    } else if apart <= SIGNIFICANT * standard_error(new, old) {
        return None;
    } else {
        reasons.push(Reason::seen(format!("the former instances over the same time: {}", errors_of(old))));
    }
    reasons.push(Reason::rule(format!("at most {} more than formerly may fail", points(limits.max_errors_percent))));
    Some(reasons)
}

fn too_slow(new: &Tally, old: &Tally) -> Option<Vec<Reason>> {
    let (slow, usual) = (new.p95_us()?, old.p95_us()?);
    (slow > usual * 2 + SLACK_US).then(|| {
        vec![
            Reason::seen(format!("95 % of its answers {}", within(slow))),
            Reason::seen(format!("95 % of the former instances' answers over the same time {}", within(usual))),
            Reason::rule("at most twice as long as formerly and 50 ms"),
        ]
    })
}

/// Whoever answers its check but not its requests has no errors to show. Long answers are no fault: then those of the
/// former instances take as long.
fn unanswered(elapsed: Duration, new: &Tally, old: &Tally) -> Option<Vec<Reason>> {
    let share = |tally: &Tally| if tally.tries == 0 { 0.0 } else { number(tally.unanswered()) / number(tally.tries) };
    (new.unanswered() >= LEAST_ERRORS && share(new) > share(old) + UNANSWERED).then(|| {
        let of = |tally: &Tally| format!("{} of {} requests", tally.unanswered(), tally.tries);
        let watched = in_words(Duration::from_secs(elapsed.as_secs().max(1)));
        vec![
            Reason::seen(format!("{} have not been answered after {watched}", of(new))),
            Reason::seen(format!("of the former instances, {}", of(old))),
            Reason::rule(format!("at most {} % more than formerly may be unanswered", UNANSWERED * 100.0)),
        ]
    })
}

/// Of two shares that are the same in truth (the standard error of the two-proportion z-test, pooled).
fn standard_error(new: &Tally, old: &Tally) -> f64 {
    let (n, m) = (number(new.requests()), number(old.requests()));
    let pooled = number(new.errors() + old.errors()) / (n + m);
    (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt()
}

fn share(tally: &Tally) -> f64 {
    if tally.requests() == 0 { 0.0 } else { number(tally.errors()) / number(tally.requests()) }
}

fn errors_of(tally: &Tally) -> String {
    let (errors, requests) = (tally.errors(), tally.requests());
    let request = if requests == 1 { "request" } else { "requests" };
    let percent = match share(tally) * 100.0 {
        _ if errors == 0 => String::new(),
        share if share < 10.0 => format!(" ({share:.1} %)"),
        share => format!(" ({share:.0} %)"),
    };
    let errors = if errors == 0 { "none".to_owned() } else { errors.to_string() };
    format!("{errors} of {requests} {request} failed{percent}")
}

fn points(percent: u8) -> String {
    if percent == 1 { "1 percentage point".to_owned() } else { format!("{percent} percentage points") }
}

fn within(us: u64) -> String {
    let last = LATENCY_BOUNDS_US[LATENCY_BOUNDS_US.len() - 1];
    if us >= last {
        return format!("took up to {} or more", in_words(Duration::from_micros(last)));
    }
    match us {
        us if us < 1_000 => format!("took at most {us} µs"),
        us => format!("took at most {} ms", number(us) / 1_000.0),
    }
}

/// Counters lose precision only beyond 2^53, which no counter reaches.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn number(count: u64) -> f64 {
    count as f64
}
