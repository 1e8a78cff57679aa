//! Trials: how each new instance proves itself, and what condemns it.
//!
//! A trial begins when its instance is ready and is judged by the gate at each step until it has passed; its errors go
//! on being compared for as long as the deploy lasts. What became of the process or of its health condemns as well,
//! unless that may be chance.

use std::time::Duration;

use super::{
    Control, Note, Seen,
    gate::{self, Limits, Look, Tally, Verdict},
    words,
};
use crate::{
    journal::{Level, Reason},
    status::{Health, InstanceId},
    time::{Moment, in_words},
};

/// So many ends of new processes fail a deploy. One may be an accident.
const MOST_EXITS: u64 = 2;

/// How long a new instance must be ejected.
const EJECTED_FOR: Duration = Duration::from_millis(500);

/// Where requests fail now and then anyway, so many ejections of a new instance may be chance.
const MOST_EJECTIONS: u32 = 2;

/// How long a new instance that was ready may be without health.
const UNWELL_FOR: Duration = Duration::from_secs(10);

/// A trial, or what comes after it.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    since: Moment,
    /// Whether the part in shelter is over.
    pub(super) open: bool,
    /// Why it goes on for longer than usual.
    pub(super) doubt: Option<&'static str>,
    /// When this part of it began, and what had been answered until then.
    part: (Moment, Tally, Tally),
}

impl Trial {
    /// When this part of it is over by time alone.
    fn part_ends(&self, limits: &Limits) -> Moment {
        if self.open {
            (self.part.0 + limits.watch / 3).max(self.since + limits.watch)
        } else {
            self.since + limits.watch * 2 / 3
        }
    }
}

impl Control {
    /// Why a new instance fails the deploy by what became of its process, if it does.
    pub(super) fn condemn(&mut self, seen: &Seen, now: Moment) -> Option<Vec<Reason>> {
        let name = &seen.id.name;
        let last = seen.last_exit.as_deref().unwrap_or("it never started");
        if seen.gave_up {
            return Some(vec![Reason::seen(format!("{name} gave up: {last}"))]);
        }
        if let Some(late) = &seen.too_late {
            let probed = if seen.reason.is_empty() { "it was never probed" } else { &seen.reason };
            return Some(vec![
                Reason::seen(format!("{name} did not get ready")),
                Reason::seen(late.clone()),
                Reason::seen(probed),
            ]);
        }
        if seen.exits >= MOST_EXITS {
            return Some(vec![
                Reason::seen(format!("{name} ended {} times: {last}", seen.exits)),
                Reason::rule("one end may be an accident, a second one is not"),
            ]);
        }
        match seen.health {
            Health::Ejected => self.ejected(seen, now),
            Health::Unhealthy | Health::Silent => self.unwell(seen, now),
            _ => {
                self.unwell.remove(&seen.id);
                None
            }
        }
    }

    fn ejected(&mut self, seen: &Seen, now: Moment) -> Option<Vec<Reason>> {
        if !self.unwell.contains_key(&seen.id) {
            *self.ejections.entry(seen.id.clone()).or_default() += 1;
        }
        // Whether its process has ended, which would be the cause, is heard a moment later than what that caused.
        let since = *self.unwell.entry(seen.id.clone()).or_insert(now);
        if now.since(since) < EJECTED_FOR {
            self.wake_at(since + EJECTED_FOR);
            return None;
        }
        let few = self.ejections.get(&seen.id).is_none_or(|times| *times <= MOST_EJECTIONS);
        if few && gate::may_be_chance(&self.ledger.of(&seen.id), &self.answered_by_old()) {
            return None;
        }
        let name = &seen.id.name;
        let before = seen.last_exit.as_ref().map(|exit| Reason::seen(format!("its former process: {exit}")));
        let mut reasons = vec![Reason::seen(format!("{name} was ejected by what its traffic showed: {}", seen.reason))];
        reasons.extend(before);
        reasons.push(Reason::rule("a new instance that is ejected has failed its trial"));
        Some(reasons)
    }

    fn unwell(&mut self, seen: &Seen, now: Moment) -> Option<Vec<Reason>> {
        let passed = self.deploy.passed.contains(&seen.id.to_string());
        if !passed && !self.trials.contains_key(&seen.id) && !self.unwell.contains_key(&seen.id) {
            // It has not been ready yet, for which there is a bound of its own.
            return None;
        }
        let since = *self.unwell.entry(seen.id.clone()).or_insert(now);
        if now.since(since) < UNWELL_FOR {
            self.wake_at(since + UNWELL_FOR);
            return None;
        }
        let (name, long) = (&seen.id.name, in_words(UNWELL_FOR));
        Some(vec![Reason::seen(format!("{name} was ready and has been {} for {long}: {}", seen.health, seen.reason))])
    }

    /// Begins a trial, or judges it. An error is why it failed.
    pub(super) fn trial(&mut self, seen: &Seen, now: Moment) -> Result<Option<Note>, Vec<Reason>> {
        let passed = self.deploy.passed.contains(&seen.id.to_string());
        let limits = Limits {
            watch: Duration::from_millis(self.deploy.settings.watch_ms),
            max_errors_percent: self.deploy.settings.max_errors_percent,
        };
        let (its, old) = (self.ledger.of(&seen.id), self.answered_by_old());
        let began = || Trial { since: now, open: passed, doubt: None, part: (now, its.clone(), old.clone()) };
        let mut trial = self.trials.get(&seen.id).cloned().unwrap_or_else(began);
        let worse = |mut reasons: Vec<Reason>| {
            let shown = reasons.remove(0).text;
            reasons.insert(0, Reason::seen(format!("{} answers worse than what it replaces: {shown}", seen.id.name)));
            reasons
        };
        loop {
            let (since, new_then, old_then) = &trial.part;
            let (elapsed, lasted) = (now.since(trial.since), now.since(*since));
            let (new, old) = (its.since(new_then), old.since(old_then));
            let verdict = if passed {
                gate::relapse(&limits, &new, &old).map_or(Verdict::Watching, Verdict::Failed)
            } else {
                gate::judge(&limits, &Look { elapsed, open: trial.open, lasted, new: &new, old: &old })
            };
            match verdict {
                Verdict::Failed(reasons) => return Err(worse(reasons)),
                _ if passed => {}
                Verdict::Passed(reasons) => return Ok(Some(self.passes(&seen.id, trial, reasons))),
                _ if self.deploy.settings.canary && !self.deploy.passed.is_empty() => {
                    let reason = Reason::rule("only the first new instance is on trial; this one is ready");
                    return Ok(Some(self.passes(&seen.id, Trial { open: true, ..trial }, vec![reason])));
                }
                Verdict::Open => {
                    trial.open = true;
                    trial.part = (now, its.clone(), self.answered_by_old());
                    continue;
                }
                Verdict::Slow => {
                    trial.doubt = Some("its answers take longer than formerly, as they may at first");
                    trial.part.0 = now;
                    trial.part.1.latency = its.latency;
                    trial.part.2.latency = self.answered_by_old().latency;
                }
                Verdict::Doubtful(doubt) => trial.doubt = Some(doubt),
                Verdict::Watching => {}
            }
            break;
        }
        if !passed {
            let end = trial.part_ends(&limits);
            self.wake_at(if end > now { end } else { now + gate::LEAST });
        }
        self.trials.insert(seen.id.clone(), trial);
        Ok(None)
    }

    fn passes(&mut self, id: &InstanceId, trial: Trial, reasons: Vec<Reason>) -> Note {
        self.trials.insert(id.clone(), trial);
        self.deploy.passed.insert(id.to_string());
        Note {
            level: Level::Info,
            subject: id.name.clone(),
            kind: "trial-passed",
            message: format!("passed its trial as an instance of {}", words::release(self.deploy.to_number())),
            reasons,
        }
    }

    /// By all of them, those that are gone included: a sum that got smaller would look like no requests at all.
    fn answered_by_old(&self) -> Tally {
        self.ledger.sum(|id| !self.new.contains(id))
    }
}
