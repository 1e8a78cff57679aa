//! Ejection: passive removal of an instance by what its traffic shows.
//!
//! Two rules: a number of failures in a row, and a share of failures within a sliding window. An instance that is
//! ejected comes back by itself after a time that doubles with each ejection in a row, and is then judged anew.
//! The minimum rule ([`ejection_room`]) stands above both: where it forbids an ejection that is said once, and
//! where an ejected instance is all that is left, it comes back at once.
//!
//! What counts as a failure is decided where requests are sent; here it is a number. One [`Ejector`] for each
//! service, owned by who observes it. It knows nothing of checks beyond whether everything else speaks for an
//! instance, and never removes one itself.

mod window;

use std::{collections::BTreeMap, time::Duration};

pub use self::window::Window;
use crate::{
    health::ejection_room,
    snapshot::Ejection,
    time::{Moment, in_words},
};

/// Failures in a row that eject an instance on trial.
pub const TRIAL_FAILURES: u32 = 3;

/// What was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<K> {
    /// This instance belongs to the service. Repeated whenever something changes.
    Member {
        /// Which instance.
        key: K,
        /// Everything except ejection speaks for it: its duty, its check, its answers.
        well: bool,
    },
    /// Whether this instance must still prove itself. Then [`TRIAL_FAILURES`] in a row eject it whatever the rules say,
    /// and it does not count against the share that may be ejected: its service was well without it.
    Trial {
        /// Which instance.
        key: K,
        /// It must.
        trial: bool,
    },
    /// This instance is gone.
    Gone {
        /// Which instance.
        key: K,
    },
    /// Requests that ended since the last event of this kind.
    Traffic {
        /// Which instance.
        key: K,
        /// How many ended well.
        ok: u32,
        /// How many failed.
        failed: u32,
        /// How many of those failed after the last one that ended well. Where several threads observe and their
        /// order is not known, the longest such run that one of them saw.
        trailing: u32,
    },
    /// Time went on. Every decision is made here.
    Time,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<K> {
    /// No requests until `Returned`.
    Ejected {
        /// Which instance.
        key: K,
        /// Why and for how long, in words.
        reason: String,
    },
    /// Requests again, where its check says so.
    Returned {
        /// Which instance.
        key: K,
        /// Why, in words.
        reason: String,
    },
    /// A rule asks for its ejection but the minimum rule forbids it. Said once until that changes, and at most once
    /// within a window.
    Kept {
        /// Which instance.
        key: K,
        /// Both rules, in words.
        reason: String,
    },
}

/// What is known of one instance.
#[derive(Clone, Debug)]
struct Record {
    well: bool,
    trial: bool,
    /// Failures in a row.
    run: u32,
    window: Window,
    /// Ejections in a row.
    times: u32,
    state: State,
    /// The minimum rule keeps it now.
    kept: bool,
    /// When that was said last.
    kept_at: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It serves; ejected again before `probation` ends, it is out for twice as long.
    In {
        probation: Moment,
    },
    Out {
        until: Moment,
        lasts: Duration,
    },
}

/// The rules for one service.
#[derive(Clone, Debug)]
pub struct Ejector<K> {
    rules: Ejection,
    records: BTreeMap<K, Record>,
}

impl<K: Copy + Ord> Ejector<K> {
    /// A service without instances yet.
    pub fn new(rules: Ejection) -> Self {
        Self { rules, records: BTreeMap::new() }
    }

    /// The same knowledge under new numbers. Windows start anew where their length changes; who is out stays out for
    /// the time that was said.
    pub fn retune(&mut self, rules: Ejection) {
        if rules.window_ms != self.rules.window_ms {
            for record in self.records.values_mut() {
                record.window = Window::new(rules.window_ms);
            }
        }
        self.rules = rules;
    }

    /// Whether this instance is ejected.
    pub fn is_ejected(&self, key: K) -> bool {
        self.records.get(&key).is_some_and(Record::is_out)
    }

    /// Something was observed at `now`, which never goes back.
    pub fn on(&mut self, event: Event<K>, now: Moment) -> Vec<Output<K>> {
        match event {
            Event::Member { key, well } => {
                let window_ms = self.rules.window_ms;
                self.records.entry(key).or_insert_with(|| Record::new(window_ms)).well = well;
            }
            Event::Trial { key, trial } => {
                if let Some(record) = self.records.get_mut(&key) {
                    record.trial = trial;
                }
            }
            Event::Gone { key } => drop(self.records.remove(&key)),
            Event::Traffic { key, ok, failed, trailing } => {
                if let Some(record) = self.records.get_mut(&key) {
                    record.counts(ok, failed, trailing, now);
                }
            }
            Event::Time => return self.decide(now),
        }
        Vec::new()
    }

    fn decide(&mut self, now: Moment) -> Vec<Output<K>> {
        let mut outputs = Vec::new();
        for (key, record) in &mut self.records {
            if let State::Out { until, lasts } = record.state
                && now >= until
            {
                record.returns(now, lasts, &self.rules);
                let reason = format!("its time out of {} is over", in_words(lasts));
                outputs.push(Output::Returned { key: *key, reason });
            }
        }
        let window = Duration::from_millis(self.rules.window_ms);
        // Of those on trial none counts here, in or out.
        let serving = self.records.values().filter(|record| !record.trial).count();
        let mut healthy = self.records.values().filter(|record| record.well && !record.is_out()).count();
        let mut ejected = self.records.values().filter(|record| !record.trial && record.is_out()).count();
        for (key, record) in &mut self.records {
            let Some(rule) = record.breaks(&self.rules, now) else {
                record.kept = false;
                continue;
            };
            let room = if record.trial {
                ejection_room(1, healthy, 0, 100)
            } else {
                ejection_room(serving, healthy, ejected, self.rules.max_percent)
            };
            match room {
                Ok(()) => {
                    let lasts = record.ejects(now, &self.rules);
                    outputs.push(Output::Ejected { key: *key, reason: format!("{rule}; out for {}", in_words(lasts)) });
                    healthy -= 1;
                    ejected += usize::from(!record.trial);
                }
                Err(_) if record.kept || record.kept_at.is_some_and(|at| now.since(at) < window) => {}
                Err(minimum) => {
                    record.kept = true;
                    record.kept_at = Some(now);
                    outputs.push(Output::Kept { key: *key, reason: format!("{rule}; not ejected: {minimum}") });
                }
            }
        }
        if healthy == 0 {
            self.return_all_that_are_well(now, &mut outputs);
        }
        outputs
    }

    /// Nobody else can serve: a guess from former traffic is no reason to refuse requests.
    fn return_all_that_are_well(&mut self, now: Moment, outputs: &mut Vec<Output<K>>) {
        for (key, record) in &mut self.records {
            if let (State::Out { lasts, .. }, true) = (record.state, record.well) {
                record.returns(now, lasts, &self.rules);
                let reason = "back before its time: no other instance of its service is healthy".to_owned();
                outputs.push(Output::Returned { key: *key, reason });
            }
        }
    }
}

impl Record {
    fn new(window_ms: u64) -> Self {
        Self {
            well: false,
            trial: false,
            run: 0,
            window: Window::new(window_ms),
            times: 0,
            state: State::In { probation: Moment::ORIGIN },
            kept: false,
            kept_at: None,
        }
    }

    fn is_out(&self) -> bool {
        matches!(self.state, State::Out { .. })
    }

    /// Requests that were sent before it was ejected and end now say nothing new: they are not counted.
    fn counts(&mut self, ok: u32, failed: u32, trailing: u32, now: Moment) {
        if self.is_out() {
            return;
        }
        self.run = if ok == 0 { self.run.saturating_add(failed) } else { trailing.min(failed) };
        self.window.add(ok, failed, now);
    }

    /// The rule that asks for its ejection, in words. Who gets no requests anyway is left alone.
    fn breaks(&mut self, rules: &Ejection, now: Moment) -> Option<String> {
        if self.is_out() || !self.well {
            return None;
        }
        if self.trial && self.run >= TRIAL_FAILURES {
            return Some(format!("{} failures in a row while on trial", self.run));
        }
        if rules.consecutive > 0 && self.run >= rules.consecutive {
            return Some(format!("{} failures in a row", self.run));
        }
        let (ok, failed) = self.window.sums(now);
        let total = ok + failed;
        let enough = failed > 0 && total >= u64::from(rules.min_requests);
        (rules.percent > 0 && enough && failed * 100 >= total * u64::from(rules.percent)).then(|| {
            let window = in_words(Duration::from_millis(rules.window_ms));
            format!("{failed} of {total} requests failed within {window}")
        })
    }

    /// Takes it out; returns for how long.
    fn ejects(&mut self, now: Moment, rules: &Ejection) -> Duration {
        let State::In { probation } = self.state else { unreachable!("only who serves is ejected") };
        self.times = if now < probation { self.times.saturating_add(1) } else { 1 };
        let doubled = rules.base_ms.saturating_mul(1 << (self.times - 1).min(32));
        let lasts = Duration::from_millis(doubled.min(rules.max_ms.max(rules.base_ms)));
        self.state = State::Out { until: now + lasts, lasts };
        self.kept = false;
        self.run = 0;
        self.window = Window::new(rules.window_ms);
        lasts
    }

    /// "In a row" ends once it has served for as long as it was out, and at least for a whole window.
    fn returns(&mut self, now: Moment, lasts: Duration, rules: &Ejection) {
        self.state = State::In { probation: now + lasts.max(Duration::from_millis(rules.window_ms)) };
    }
}

#[cfg(test)]
mod tests;
