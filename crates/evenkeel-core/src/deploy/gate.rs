//! The gate: whether a new instance answers as well as the former ones, by what both answered over the same time.
//!
//! [`judge`] compares the share of failed requests and the latency and gives its verdict with reasons. It keeps no
//! state and measures no time. It is asked again and again while a trial goes on, so what condemns must be so unlikely
//! by chance ([`CERTAIN`]) that a healthy release with some natural share of errors is not rolled back in one deploy
//! of a thousand. What goes wrong with the former instances as well is not the fault of the new one. Without any traffic
//! there is nothing to compare, which it says; the instance then passes on being ready alone.
//!
//! A trial has two parts. At first the instance is sheltered: it gets only requests that can be sent elsewhere should
//! they fail, so that a broken one costs nobody anything. Those are other requests than the former instances get, and
//! it has only just started, so this part condemns only what is far worse. In the second part it is open to every kind
//! of request, still with its small share, and both are compared strictly.

use std::time::Duration;

use crate::{
    journal::Reason,
    link::{InstanceCounters, LATENCY_BOUNDS_US},
    time::in_words,
};

/// The shortest trial, however much traffic there is.
pub const LEAST: Duration = Duration::from_secs(3);
/// The shortest time in shelter, unless the whole trial is shorter.
const LEAST_SHELTERED: Duration = Duration::from_secs(2);
/// So many good answers, half of them in each part, end a trial early.
pub const ENOUGH: u64 = 200;
/// Fewer failures than this condemn nobody.
pub const LEAST_ERRORS: u64 = 3;
/// Fewer answers than this say nothing about latency.
pub const LEAST_LATENCIES: u64 = 50;
/// A trial that raises doubts goes on for so many times its length.
const DOUBTFUL: u32 = 3;
/// What a latency may be above twice the former one.
const SLACK_US: u64 = 50_000;
/// How much larger the share of requests without an answer may be when a trial ends.
const UNANSWERED: f64 = 0.5;
/// How many percentage points more may fail in shelter: the requests there are not those that the others get.
const SHELTERED_MORE: f64 = 25.0;
/// Where nobody else answers anything, at least such a share of the requests must fail, and so many of them.
const UNCOMPARED: (f64, u64) = (0.5, 10);
/// Weight of evidence that condemns whenever it is found: once in some ten thousand looks by chance.
pub const CERTAIN: f64 = 10.0;
/// Weight of evidence that condemns when it is asked for once: one chance in a thousand.
const LIKELY: f64 = 6.9;
/// Weight of evidence that prolongs a trial: one chance in twenty.
const DOUBT: f64 = 3.0;

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

    /// Answers that took certainly longer than this.
    fn slower_than(&self, bound_us: u64) -> u64 {
        let from = LATENCY_BOUNDS_US.partition_point(|bucket| *bucket < bound_us) + 1;
        self.latency.iter().skip(from).sum()
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

/// How far a trial is, and what was answered in this part of it.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// How long the instance has been ready.
    pub elapsed: Duration,
    /// Whether it is open to every kind of request, and not sheltered any more.
    pub open: bool,
    /// How long this part has lasted, or what of it latency is judged by.
    pub lasted: Duration,
    /// What the new instance answered.
    pub new: &'a Tally,
    /// What the former ones answered.
    pub old: &'a Tally,
}

/// What comes of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Watching,
    /// The part in shelter is over.
    Open,
    /// It goes on for longer than usual, for this reason.
    Doubtful(&'static str),
    /// The same, and latency is judged anew by what comes now: whoever has just started may be slow at first.
    Slow,
    /// It proved itself.
    Passed(Vec<Reason>),
    /// It is worse than what it should replace.
    Failed(Vec<Reason>),
}

/// Judges an instance on trial.
pub fn judge(limits: &Limits, look: &Look<'_>) -> Verdict {
    let Look { elapsed, open, lasted, new, old } = *look;
    if let Some(reasons) = too_many_errors(limits, open, new, old) {
        return Verdict::Failed(reasons);
    }
    if !open {
        let early = elapsed >= LEAST_SHELTERED && new.good >= ENOUGH / 2;
        return if early || elapsed >= limits.watch * 2 / 3 { Verdict::Open } else { Verdict::Watching };
    }
    let in_time = elapsed >= limits.watch && lasted >= limits.watch / 3;
    let early = elapsed >= LEAST && elapsed < limits.watch && new.good >= ENOUGH / 2;
    if !in_time && !early {
        return Verdict::Watching;
    }
    let last = elapsed >= limits.watch * DOUBTFUL;
    if let Some(reasons) = too_slow(new, old) {
        return match (in_time, last) {
            (false, _) => Verdict::Watching,
            (true, false) => Verdict::Slow,
            (true, true) => Verdict::Failed(reasons),
        };
    }
    if !last && is_doubtful(limits, new, old) {
        return Verdict::Doubtful("more of its requests fail than formerly, which may be chance");
    }
    match unanswered(elapsed, new, old).filter(|_| in_time) {
        Some(reasons) => Verdict::Failed(reasons),
        None => Verdict::Passed(good_enough(limits, look, early)),
    }
}

/// Why an instance that passed fails after all: its errors go on being compared.
pub fn relapse(limits: &Limits, new: &Tally, old: &Tally) -> Option<Vec<Reason>> {
    too_many_errors(limits, true, new, old)
}

/// Whether an ejection for a few failures in a row may be chance, since so many requests fail with the former
/// instances as well: the expected number of such rows.
pub fn may_be_chance(new: &Tally, old: &Tally) -> bool {
    number(new.requests()) * share(old).powi(3) > 0.001
}

fn good_enough(limits: &Limits, look: &Look<'_>, early: bool) -> Vec<Reason> {
    let Look { elapsed, new, old, .. } = *look;
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
    let lasted = in_words(Duration::from_secs(look.lasted.as_secs().max(1)));
    let mut reasons = vec![Reason::seen(format!("{} in the last {lasted} of {watched}", errors_of(new)))];
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
    if early {
        reasons.push(Reason::rule(format!("{ENOUGH} good answers and {} end a trial early", in_words(LEAST))));
    }
    reasons
}

fn why_not_condemned(limits: &Limits, new: &Tally, old: &Tally) -> String {
    if new.errors() < LEAST_ERRORS {
        return format!("fewer than {LEAST_ERRORS} failures prove nothing");
    }
    if percent_apart(new, old) <= f64::from(limits.max_errors_percent) {
        return format!("{} more than formerly may fail", points(limits.max_errors_percent));
    }
    "so few requests may differ so much by chance".to_owned()
}

fn too_many_errors(limits: &Limits, open: bool, new: &Tally, old: &Tally) -> Option<Vec<Reason>> {
    let permitted = f64::from(limits.max_errors_percent) + if open { 0.0 } else { SHELTERED_MORE };
    if new.errors() < LEAST_ERRORS || percent_apart(new, old) <= permitted {
        return None;
    }
    let mut reasons = vec![Reason::seen(errors_of(new))];
    if old.requests() == 0 {
        // What is in force may be so broken that it answers nothing, which this release is perhaps to mend.
        let (least, errors) = UNCOMPARED;
        if share(new) < least || new.errors() < errors {
            return None;
        }
        reasons.push(Reason::ruled_out("comparing it with the former instances: they answered nothing meanwhile"));
        reasons.push(Reason::rule(format!("at most {} % may fail then", least * 100.0)));
        return Some(reasons);
    }
    let evidence = if open { errors_evidence(new, old) } else { evidence_beyond(share(old) + permitted / 100.0, new) };
    if evidence <= CERTAIN {
        return None;
    }
    reasons.push(Reason::seen(format!("the former instances over the same time: {}", errors_of(old))));
    reasons.push(Reason::rule(format!("at most {} more than formerly may fail", points(limits.max_errors_percent))));
    Some(reasons)
}

fn is_doubtful(limits: &Limits, new: &Tally, old: &Tally) -> bool {
    let worse = percent_apart(new, old) > f64::from(limits.max_errors_percent);
    old.requests() > 0 && worse && errors_evidence(new, old) > DOUBT
}

/// Slow is an answer that took certainly longer than twice the former 95th percentile and some slack. One in twenty may
/// be; more are a fault where that is not so with the former instances as well.
fn too_slow(new: &Tally, old: &Tally) -> Option<Vec<Reason>> {
    let (slowest, usual) = (new.p95_us()?, old.p95_us()?);
    let bound = usual * 2 + SLACK_US;
    let (slow, answers) = (new.slower_than(bound), new.latency.iter().sum::<u64>());
    let (formerly, former) = (old.slower_than(bound), old.latency.iter().sum::<u64>());
    let evidence = evidence((slow, answers), (formerly, former));
    (slow * 20 > answers && evidence > LIKELY).then(|| {
        vec![
            Reason::seen(format!("95 % of its answers {}", within(slowest))),
            Reason::seen(format!("95 % of the former instances' answers over the same time {}", within(usual))),
            Reason::rule("at most twice as long as formerly and 50 ms"),
        ]
    })
}

/// Whoever answers its check but not its requests has no errors to show. Long answers are no fault: then those of the
/// former instances take as long.
fn unanswered(elapsed: Duration, new: &Tally, old: &Tally) -> Option<Vec<Reason>> {
    let share = |tally: &Tally| if tally.tries == 0 { 0.0 } else { number(tally.unanswered()) / number(tally.tries) };
    let evidence = evidence((new.unanswered(), new.tries), (old.unanswered(), old.tries));
    let alone = old.tries == 0 && new.unanswered() >= UNCOMPARED.1;
    let worse = new.unanswered() >= LEAST_ERRORS && share(new) > share(old) + UNANSWERED;
    (worse && (alone || evidence > LIKELY)).then(|| {
        let of = |tally: &Tally| format!("{} of {} requests", tally.unanswered(), tally.tries);
        let watched = in_words(Duration::from_secs(elapsed.as_secs().max(1)));
        vec![
            Reason::seen(format!("{} have not been answered after {watched}", of(new))),
            Reason::seen(format!("of the former instances, {}", of(old))),
            Reason::rule(format!("at most {} % more than formerly may be unanswered", UNANSWERED * 100.0)),
        ]
    })
}

fn errors_evidence(new: &Tally, old: &Tally) -> f64 {
    evidence((new.errors(), new.requests()), (old.errors(), old.requests()))
}

/// How strongly counts of (hits, out of) speak for a larger share with the new one: the natural logarithm of how
/// unlikely so many of all hits would be with it by chance (Hoeffding 1963, theorem 1, on the hits given their sum).
/// 0 where they do not.
fn evidence(new: (u64, u64), old: (u64, u64)) -> f64 {
    if new.0 == 0 || new.1 == 0 {
        return 0.0;
    }
    let hits = number(new.0 + old.0);
    let (its, fair) = (number(new.0) / hits, number(new.1) / number(new.1 + old.1));
    if its <= fair {
        return 0.0;
    }
    hits * divergence(its, fair)
}

/// The same against a share that is known.
fn evidence_beyond(known: f64, new: &Tally) -> f64 {
    let (known, its) = (known.min(0.99), share(new));
    if its <= known {
        return 0.0;
    }
    number(new.requests()) * divergence(its, known)
}

/// The Kullback-Leibler divergence of two shares, the first one larger and none of them 0.
fn divergence(its: f64, fair: f64) -> f64 {
    let others = if its < 1.0 { (1.0 - its) * ((1.0 - its) / (1.0 - fair)).ln() } else { 0.0 };
    its * (its / fair).ln() + others
}

/// How many percentage points more of the new one's requests failed.
fn percent_apart(new: &Tally, old: &Tally) -> f64 {
    (share(new) - share(old)) * 100.0
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
