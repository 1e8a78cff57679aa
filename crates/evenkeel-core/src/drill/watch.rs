//! From harm to recovery: what each status of the stack means for a running drill.
//!
//! A [`Watch`] is fed statuses in order of time and names the stages it recognises, each once: `detected` when the
//! stack first shows the harm, `replaced` when something new stands in its place, `recovered` when the harm is over and
//! everything is well. Recovery is the begin of a health that lasts: a status that takes it back resets it (`relapsed`),
//! and only then may a stage come again. Its caller owns it for one run. What counts for each, the drill says. It never decides the
//! verdict.

use super::{Drill, Plan, Stage, signs::Well};
use crate::status::Status;

/// The stage in which health that was thought to be back was lost again.
pub const RELAPSED: &str = "relapsed";

/// The state of one run, from the moment of the harm.
pub struct Watch<'a> {
    drill: &'a dyn Drill,
    plan: &'a Plan,
    released: bool,
    detected_at_ms: Option<u64>,
    replaced_at_ms: Option<u64>,
    recovered_at_ms: Option<u64>,
    well: Well,
}

impl<'a> Watch<'a> {
    /// Starts watching; the harm was done just now.
    pub fn new(drill: &'a dyn Drill, plan: &'a Plan) -> Self {
        Self {
            drill,
            plan,
            released: false,
            detected_at_ms: None,
            replaced_at_ms: None,
            recovered_at_ms: None,
            well: Well::default(),
        }
    }

    /// A lasting fault was taken back.
    pub fn release(&mut self) {
        self.released = true;
    }

    /// What does the harm has seen that the stack shows it; whether that is new.
    pub fn detected(&mut self, at_ms: u64) -> bool {
        let is_new = self.detected_at_ms.is_none();
        self.detected_at_ms.get_or_insert(at_ms);
        is_new
    }

    /// Nobody answered at this moment. What is down shows nothing, and that shows it.
    pub fn on_silence(&mut self, at_ms: u64, why: &str) -> Vec<Stage> {
        if self.detected_at_ms.is_some() || !self.drill.silences_the_stack() {
            return Vec::new();
        }
        self.detected_at_ms = Some(at_ms);
        vec![Stage::new("detected", at_ms, why)]
    }

    /// Takes the next status; returns the stages it shows for the first time, or anew after a relapse.
    pub fn on(&mut self, status: &Status, at_ms: u64) -> Vec<Stage> {
        let mut stages = Vec::new();
        if self.recovered_at_ms.is_some()
            && let Some(why) = self.well.taken_back(status)
        {
            self.recovered_at_ms = None;
            stages.push(Stage::new(RELAPSED, at_ms, why));
        }
        let signs = self.drill.signs(self.plan, status, self.released);
        let seen = [
            ("detected", signs.detected, &mut self.detected_at_ms),
            ("replaced", signs.replaced, &mut self.replaced_at_ms),
            ("recovered", signs.recovered, &mut self.recovered_at_ms),
        ];
        for (name, detail, first) in seen {
            if let Some(detail) = detail.filter(|_| first.is_none()) {
                *first = Some(at_ms);
                stages.push(Stage::new(name, at_ms, detail));
            }
        }
        if self.recovered_at_ms == Some(at_ms) {
            self.well = Well::of(self.plan, status);
        }
        stages
    }

    /// Whether there is nothing left to watch: everything has been well for as long as the plan wants to see it so, or it
    /// is not well and the time for recovery, which ended at `last_ms`, is over.
    pub fn is_over(&self, now_ms: u64, last_ms: u64) -> bool {
        self.recovered_at_ms.map_or(now_ms > last_ms, |at| now_ms >= at + self.plan.settle_ms)
    }

    /// When the stack first showed the harm.
    pub fn detected_at_ms(&self) -> Option<u64> {
        self.detected_at_ms
    }

    /// When something new stood in the place of what was harmed.
    pub fn replaced_at_ms(&self) -> Option<u64> {
        self.replaced_at_ms
    }

    /// Since when everything has been well again.
    pub fn recovered_at_ms(&self) -> Option<u64> {
        self.recovered_at_ms
    }
}
