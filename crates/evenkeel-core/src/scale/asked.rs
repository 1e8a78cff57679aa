//! How many instances each target asks for at one moment.
//!
//! Where load and instances are proportional (requests in flight, processor time, entries of a queue) the load is
//! divided by what one instance should bear; within a tolerance the present number is right. Latency is not
//! proportional to anything, so it asks for a bounded step from the present number, and only once the last step has
//! shown what it does.

use std::{fmt, time::Duration};

use super::{Observation, Reading};
use crate::stack::Elastic;

/// A load that differs by less, relative to what the present instances should bear, changes nothing.
const TOLERANCE: f64 = 0.1;

/// The latency is that of the last ten seconds: so long after a change it tells of the present instances only.
const LATENCY_SETTLES: Duration = Duration::from_secs(10);

/// However high the latency, one step asks for at most half as many instances more.
const LARGEST_LATENCY_STEP: f64 = 1.5;

/// A latency below this share of its target lets one instance go.
const LOW_LATENCY: f64 = 0.5;

/// Of fewer requests the 99th percentile is the slowest one, which proves nothing.
const ENOUGH_REQUESTS: u64 = 50;

/// What one target asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// So many instances; `None`: not known.
    pub(super) count: Option<u32>,
    /// What was seen, as a clause.
    pub(super) seen: String,
}

impl Asked {
    /// The same beside instances that an operator drains.
    fn beside(mut self, drained: u32) -> Self {
        if let Some(count) = self.count.as_mut().filter(|count| drained > 0 && **count > 0) {
            *count += drained;
            self.seen.push_str(&format!(" beside {drained} drained,"));
        }
        self
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            Some(count) => write!(f, "{} asks for {count}", self.seen),
            None => f.write_str(&self.seen),
        }
    }
}

/// What each target of the stack file asks for while `serving` instances are wanted beside drained ones, which have
/// been ready for `settled`. Where any is needed, the drained ones are added.
pub(super) fn by_each(settings: &Elastic, seen: &Observation, serving: u32, settled: Duration) -> Vec<Asked> {
    let target = &settings.target;
    let concurrency = target.concurrency.map(|each| {
        proportional(&seen.in_flight, f64::from(each), serving, 0.0, "requests in flight", |load| {
            format!("{} in flight, {each} for each instance,", counted(load, "request", "requests"))
        })
    });
    let cpu = target.cpu_percent.map(|each| {
        // A process that does nothing still takes a little.
        proportional(&seen.cpu_percent, f64::from(each), serving, TOLERANCE, "processor time", |load| {
            format!("{} % of a core, {each} % for each instance,", number(load))
        })
    });
    let backlog = target.backlog.as_ref().map(|backlog| {
        proportional(&seen.backlog, f64::from(backlog.each), serving, 0.0, "backlog", |load| {
            let waiting = counted(load, "waiting entry", "waiting entries");
            format!("{waiting}, {} for each instance,", backlog.each)
        })
    });
    let p99 = target.p99.map(|p99| latency(seen, p99, serving, settled));
    [concurrency, cpu, backlog, p99].into_iter().flatten().map(|asked| asked.beside(seen.drained)).collect()
}

/// `nothing`: up to this share of one instance's load none is needed.
fn proportional(
    load: &Reading,
    each: f64,
    wanted: u32,
    nothing: f64,
    what: &str,
    clause: impl Fn(f64) -> String,
) -> Asked {
    let load = match load {
        Reading::Known(load) => *load,
        Reading::Idle => 0.0,
        Reading::Unknown(why) => return Asked { count: None, seen: format!("{what}: not known, {why}") },
    };
    let exact = load / each;
    let present = f64::from(wanted);
    let count = if exact <= nothing {
        0
    } else if wanted > 0 && (exact - present).abs() <= present * TOLERANCE {
        wanted
    } else {
        whole(exact)
    };
    Asked { count: Some(count), seen: clause(load) }
}

fn latency(seen: &Observation, target: crate::stack::Duration, wanted: u32, settled: Duration) -> Asked {
    let p99_ms = match &seen.p99_ms {
        Reading::Known(p99_ms) => *p99_ms,
        Reading::Idle => return Asked { count: Some(0), seen: "no request within ten seconds".to_owned() },
        Reading::Unknown(why) => return Asked { count: None, seen: format!("latency: not known, {why}") },
    };
    let target_ms = f64::from(u32::try_from(target.as_ms()).unwrap_or(u32::MAX));
    let ratio = p99_ms / target_ms;
    let mut clause = format!("p99 of {} ms against {target}", number(p99_ms));
    let count = if settled < LATENCY_SETTLES {
        clause.push_str(", too soon after a change to judge,");
        wanted
    } else if ratio > 1.0 + TOLERANCE && seen.p99_requests < ENOUGH_REQUESTS {
        clause.push_str(&format!(" over {}, too few to judge,", counted_u64(seen.p99_requests)));
        wanted
    } else if ratio > 1.0 + TOLERANCE {
        whole(f64::from(wanted) * ratio.min(LARGEST_LATENCY_STEP)).max(wanted + 1)
    } else if ratio < LOW_LATENCY {
        wanted.saturating_sub(1).max(1)
    } else {
        wanted
    };
    Asked { count: Some(count), seen: clause }
}

/// Rounded up, as far as a number of instances goes.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn whole(exact: f64) -> u32 {
    // A hair above a whole number is the division's error, not load.
    (exact - 1e-9).ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

/// At most one digit after the point, and that only where it matters.
pub(super) fn number(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded.fract().abs() < 0.05 || rounded >= 100.0 { format!("{rounded:.0}") } else { format!("{rounded:.1}") }
}

fn counted(value: f64, one: &str, many: &str) -> String {
    let number = number(value);
    let noun = if number == "1" { one } else { many };
    format!("{number} {noun}")
}

fn counted_u64(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}
