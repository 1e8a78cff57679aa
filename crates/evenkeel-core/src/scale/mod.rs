//! Elastic scaling: how many instances of a service are wanted, up fast and down slow.
//!
//! [`Scaler::on`] is called about once a second with what was observed. Each target of the stack file asks for a
//! number of instances, and the one that asks for most decides. More are wanted once more was needed throughout
//! `up_after`, in steps that are bounded; fewer once the most that was needed within `down_after` is fewer. Instances
//! that start count as there. What is not known never makes a service smaller. The idea of stabilisation windows is
//! that of Kubernetes' horizontal pod autoscaler ("Algorithm details" and "Stabilization window" in its manual).
//!
//! A [`Scaler`] belongs to whoever observes the service. It starts and stops nothing: a decision counts only once
//! [`Scaler::take`] was told that it was taken, so that decisions can be watched without being followed.

mod asked;
mod window;
mod words;

use std::{collections::VecDeque, time::Duration};

use self::{asked::Asked, window::Extreme};
use crate::{journal::Reason, stack::Elastic, time::Moment};

/// Steps are bounded over this time.
pub const STEP_EVERY: Duration = Duration::from_secs(15);

/// Within [`STEP_EVERY`] the number may double, or grow by so many, whichever is more.
pub const MOST_ADDED: u32 = 4;

/// A longer pause between two observations makes the windows begin anew: nobody knows what was needed meanwhile.
const LONGEST_GAP: Duration = Duration::from_secs(5);

/// What is not known for this long is said.
const SAID_AFTER: Duration = Duration::from_secs(10);

/// One measured number.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// As measured.
    Known(f64),
    /// There was nothing to measure: no request at all.
    Idle,
    /// It could not be measured; why, as a clause.
    Unknown(String),
}

/// A service as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Instances that are ready, drained ones included.
    pub ready: u32,
    /// Those among them that an operator drains: they hold their places and bear nothing.
    pub drained: u32,
    /// Instances that have tried to start and failed, and are not ready.
    pub failing: u32,
    /// Whether anybody asked since the last observation or still waits; `None`: not known.
    pub busy: Option<bool>,
    /// Requests in flight and held, over all instances.
    pub in_flight: Reading,
    /// Processor time of all instances, in percent of one core.
    pub cpu_percent: Reading,
    /// 99th percentile of the latency over the last ten seconds, in milliseconds.
    pub p99_ms: Reading,
    /// Of how many requests.
    pub p99_requests: u64,
    /// Entries that wait in the queue.
    pub backlog: Reading,
}

/// What a decision is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// More instances.
    Up,
    /// Fewer instances.
    Down,
    /// The number stays although the load, or the lack of knowledge about it, would ask for something else.
    Limited,
}

impl Kind {
    /// The word in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "scaled-up",
            Self::Down => "scaled-down",
            Self::Limited => "scaling-limited",
        }
    }
}

/// What to do, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What it is about.
    pub kind: Kind,
    /// Instances wanted until now.
    pub from: u32,
    /// Instances wanted from now on.
    pub to: u32,
    /// One sentence.
    pub message: String,
    /// Most important first.
    pub reasons: Vec<Reason>,
}

/// What keeps a number as it is, as said last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Limit {
    Most,
    Blind,
    NoneReady,
}

/// The controller of one service.
#[derive(Clone, Debug)]
pub struct Scaler {
    wanted: u32,
    settings: Option<Elastic>,
    /// The least that was needed within `up_after`.
    least: Extreme,
    /// The most that was needed within `down_after`.
    most: Extreme,
    /// Since when observations have come without a gap.
    since: Moment,
    last: Option<Moment>,
    /// Former numbers and when they changed, as far back as steps are bounded.
    changes: VecDeque<(Moment, u32)>,
    /// Since when exactly the wanted instances have been ready.
    settled: Moment,
    unknown_since: Option<Moment>,
    limit: Option<Limit>,
    asked: Vec<Asked>,
}

impl Scaler {
    /// A controller that begins with so many instances.
    pub fn new(wanted: u32, now: Moment) -> Self {
        Self {
            wanted,
            settings: None,
            least: Extreme::least(),
            most: Extreme::most(),
            since: now,
            last: None,
            changes: VecDeque::new(),
            settled: now,
            unknown_since: None,
            limit: None,
            asked: Vec::new(),
        }
    }

    /// How many instances are wanted.
    pub const fn wanted(&self) -> u32 {
        self.wanted
    }

    /// What each target asks for now, as clauses; empty before the first observation.
    pub fn outlook(&self) -> Vec<String> {
        self.asked.iter().map(Asked::to_string).collect()
    }

    /// Takes an observation and says whether another number of instances is wanted. The same is said again until it
    /// is taken, apart from [`Kind::Limited`], which is said once.
    pub fn on(&mut self, settings: &Elastic, seen: &Observation, now: Moment) -> Option<Decision> {
        self.begin_anew_if_needed(settings, now);
        if seen.ready != self.wanted {
            self.settled = now;
        }
        self.asked = asked::by_each(settings, seen, self.wanted.saturating_sub(seen.drained), now.since(self.settled));
        let needed = self.needed(seen, now);
        let (up, down) = (wait(settings.up_after), wait(settings.down_after));
        self.least.push(now, needed, up);
        self.most.push(now, needed, down);
        self.outside_of_bounds(settings)
            .or_else(|| self.first_one(settings, needed))
            .or_else(|| self.up(settings, seen, now))
            .or_else(|| self.down(settings, now))
            .or_else(|| self.limited(settings, seen, now))
    }

    /// A decision was taken.
    pub fn take(&mut self, decision: &Decision, now: Moment) {
        if decision.to != self.wanted {
            self.changes.push_back((now, self.wanted));
            self.wanted = decision.to;
            self.settled = now;
        }
    }

    /// Other settings, or a time in which nobody looked, leave nothing of what the windows know.
    fn begin_anew_if_needed(&mut self, settings: &Elastic, now: Moment) {
        let same = self.settings.as_ref() == Some(settings);
        let gap = self.last.is_some_and(|last| now.since(last) > LONGEST_GAP);
        if !same || gap {
            self.settings = Some(settings.clone());
            self.least.clear();
            self.most.clear();
            self.since = now;
        }
        self.last = Some(now);
        while self.changes.front().is_some_and(|(at, _)| now.since(*at) >= STEP_EVERY) {
            self.changes.pop_front();
        }
    }

    /// How many instances are needed at this moment, whatever the bounds.
    fn needed(&mut self, seen: &Observation, now: Moment) -> u32 {
        let known = self.asked.iter().filter_map(|asked| asked.count).max().unwrap_or(0);
        let blind = self.asked.iter().any(|asked| asked.count.is_none()) || seen.busy.is_none();
        if blind {
            self.unknown_since.get_or_insert(now);
        } else {
            self.unknown_since = None;
        }
        let at_least = if blind { self.wanted } else { u32::from(seen.busy == Some(true)) };
        known.max(at_least)
    }

    /// The bounds of the stack file changed, or were others before a restart.
    fn outside_of_bounds(&self, settings: &Elastic) -> Option<Decision> {
        let to = self.wanted.clamp(settings.min, settings.max);
        let bounds = format!("`replicas` is from {} to {} now", settings.min, settings.max);
        self.decide(to, vec![Reason::rule(bounds)])
    }

    /// The first request waits for a start, so nothing waits for a window.
    fn first_one(&self, settings: &Elastic, needed: u32) -> Option<Decision> {
        if self.wanted > 0 || needed == 0 {
            return None;
        }
        let mut reasons = vec![Reason::seen("somebody asks and there is no instance")];
        reasons.extend(words::seen(&self.asked, needed));
        reasons.push(Reason::rule("the first instance is started at once; how many more are needed shows with it"));
        self.decide(1.clamp(settings.min, settings.max), reasons)
    }

    fn up(&self, settings: &Elastic, seen: &Observation, now: Moment) -> Option<Decision> {
        let after = wait(settings.up_after);
        let needed = self.least.value().filter(|_| now.since(self.since) >= after)?;
        let wish = needed.min(settings.max);
        // While nobody answers everything waits, which says nothing about how many would be needed.
        if wish <= self.wanted || seen.ready == 0 {
            return None;
        }
        let base = self.changes.iter().map(|(_, before)| *before).fold(self.wanted, u32::min);
        let to = wish.min(base.saturating_mul(2).max(base + MOST_ADDED));
        let mut reasons = words::seen(&self.asked, needed);
        reasons.push(Reason::rule(format!(
            "at least {} needed throughout {} (`up_after`)",
            are(needed),
            settings.up_after
        )));
        if to < wish {
            let rule = format!("within {} s at most double or {MOST_ADDED} more", STEP_EVERY.as_secs());
            reasons.push(Reason::rule(rule));
            reasons.push(Reason::ruled_out(format!("{wish} at once")));
        }
        if wish < needed {
            reasons.push(Reason::ruled_out(format!("{needed}: `max` is {}", settings.max)));
        }
        self.decide(to.max(self.wanted), reasons)
    }

    fn down(&self, settings: &Elastic, now: Moment) -> Option<Decision> {
        let after = wait(settings.down_after);
        let needed = self.most.value().filter(|_| now.since(self.since) >= after)?;
        let wish = needed.max(settings.min);
        if wish >= self.wanted {
            return None;
        }
        let every = STEP_EVERY.min(after);
        let recent = self.changes.iter().filter(|(at, _)| now.since(*at) < every);
        let base = recent.map(|(_, before)| *before).fold(self.wanted, u32::max);
        let to = wish.max(base - base.div_ceil(4));
        let most = format!("within {} no more than {} needed (`down_after`)", settings.down_after, are(needed));
        let mut reasons = vec![Reason::seen(most)];
        reasons.extend(words::seen(&self.asked, needed));
        if to > wish {
            let every = crate::time::in_words(every);
            reasons.push(Reason::rule(format!("within {every} at most a quarter fewer")));
            reasons.push(Reason::ruled_out(format!("{wish} at once")));
        }
        if wish > needed {
            reasons.push(Reason::ruled_out(format!("{needed}: `min` is {}", settings.min)));
        }
        self.decide(to.min(self.wanted), reasons)
    }

    fn decide(&self, to: u32, reasons: Vec<Reason>) -> Option<Decision> {
        let from = self.wanted;
        let kind = if to > from { Kind::Up } else { Kind::Down };
        let message = words::change(from, to);
        (to != from).then_some(Decision { kind, from, to, message, reasons })
    }

    /// Says once what keeps the number as it is, and again only after it was over.
    fn limited(&mut self, settings: &Elastic, seen: &Observation, now: Moment) -> Option<Decision> {
        let covered = now.since(self.since) >= wait(settings.up_after);
        let needed = self.least.value().filter(|_| covered).unwrap_or(0);
        let blind = self.unknown_since.is_some_and(|since| now.since(since) >= SAID_AFTER);
        let limit = if blind {
            Some(Limit::Blind)
        } else if needed > self.wanted && seen.ready == 0 && seen.failing > 0 {
            Some(Limit::NoneReady)
        } else if self.wanted == settings.max && (needed > settings.max || self.still_at_most(settings)) {
            Some(Limit::Most)
        } else {
            None
        };
        if limit == self.limit {
            return None;
        }
        self.limit.clone_from(&limit);
        let (message, reasons) = words::limit(&limit?, self.wanted, needed, seen, &self.asked);
        Some(Decision { kind: Kind::Limited, from: self.wanted, to: self.wanted, message, reasons })
    }

    /// Whether `max` is still the limit, so that a load about as high as that is not reported again and again.
    fn still_at_most(&self, settings: &Elastic) -> bool {
        self.limit == Some(Limit::Most) && self.most.value().is_some_and(|most| most > settings.max)
    }
}

const fn wait(duration: crate::stack::Duration) -> Duration {
    Duration::from_millis(duration.as_ms())
}

fn are(count: u32) -> String {
    if count == 1 { "1 was".to_owned() } else { format!("{count} were") }
}

#[cfg(test)]
mod tests;
