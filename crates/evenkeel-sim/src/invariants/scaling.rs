//! The number of instances of an elastic service stays within its bounds, changes only by a decision or an order
//! (so no restart forgets it), shrinks only if nobody has needed more for long, and grows when more was needed for
//! long. What is needed is worked out from what is in flight and held at the edge, whatever the node process heard.
//!
//! Pauses of edge or node process, and messages that get slower or quicker, begin the count anew: what they measured
//! meanwhile nobody knows.

use std::{collections::VecDeque, time::Duration};

use evenkeel_core::{scale::STEP_EVERY, stack::Elastic, time::Moment};

use super::{Invariant, View};
use crate::fact::Fact;

/// A load that lasts for so long is seen in at least one whole second of the node process.
const SEEN_IN: Duration = Duration::from_millis(2_500);

/// How long a decision may take beyond its window: two seconds until it is seen, and some to be sure of it.
const SPARE: Duration = Duration::from_secs(6);

#[derive(Default)]
pub(super) struct Scaling {
    wanted: Option<u32>,
    pinned: bool,
    /// Requests in flight and held, at each look of the edge, and whether anybody answered.
    loads: VecDeque<(Moment, usize, bool)>,
    changed: Moment,
}

impl Invariant for Scaling {
    fn name(&self) -> &'static str {
        "scaling"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        let Some(settings) = &view.scenario.elastic else { return Ok(()) };
        match *fact {
            Fact::Scaled { from, to } => self.scaled(settings, from, to, view.now),
            Fact::Ordered { replicas, pinned } => {
                (self.wanted, self.pinned, self.changed) = (Some(replicas), pinned, view.now);
                self.loads.clear();
                Ok(())
            }
            Fact::Interrupted | Fact::Disturbed => {
                self.loads.clear();
                Ok(())
            }
            Fact::Ticked => self.look(settings, view),
            _ => Ok(()),
        }
    }
}

impl Scaling {
    fn scaled(&mut self, settings: &Elastic, from: u32, to: u32, now: Moment) -> Result<(), String> {
        if self.pinned {
            return Err(format!("scaled to {to} although an operator fixed the number"));
        }
        if !(settings.min..=settings.max).contains(&to) {
            return Err(format!("{to} are wanted, from {} to {} are allowed", settings.min, settings.max));
        }
        let down_after = Duration::from_millis(settings.down_after.as_ms());
        if to < from && self.lasted(settings, to, now, down_after) {
            return Err(format!("from {from} to {to} although more were needed within {}", settings.down_after));
        }
        (self.wanted, self.changed) = (Some(to), now);
        Ok(())
    }

    fn look(&mut self, settings: &Elastic, view: &View<'_>) -> Result<(), String> {
        let replicas = view.node.wanted().0.replicas;
        let wanted = *self.wanted.get_or_insert(replicas);
        if replicas != wanted {
            return Err(format!("{replicas} are wanted instead of {wanted}, and nobody has decided that"));
        }
        let load = view.edge.load();
        self.loads.push_back((view.now, load, view.edge.healthy() > 0));
        let longest = Duration::from_millis(settings.down_after.as_ms()) + SPARE;
        while self.loads.front().is_some_and(|(at, ..)| view.now.since(*at) > longest) {
            self.loads.pop_front();
        }
        self.grows(settings, wanted, view.now)
    }

    /// Whether more than `count` instances were needed for some seconds within this time.
    fn lasted(&self, settings: &Elastic, count: u32, now: Moment, within: Duration) -> bool {
        let mut since = None;
        let window = self.loads.iter().filter(|(at, ..)| now.since(*at) + Duration::from_millis(500) < within);
        for (at, load, _) in window {
            if needs_more(settings, count, *load) {
                let begun = *since.get_or_insert(*at);
                if at.since(begun) >= SEEN_IN {
                    return true;
                }
            } else {
                since = None;
            }
        }
        false
    }

    /// More were needed all the time and nothing stood in the way, so there must be more by now.
    fn grows(&self, settings: &Elastic, wanted: u32, now: Moment) -> Result<(), String> {
        let after = Duration::from_millis(settings.up_after.as_ms()) + SPARE;
        let Some((first, ..)) = self.loads.front() else { return Ok(()) };
        if self.pinned
            || wanted >= settings.max
            || now.since(*first) < after
            || now.since(self.changed) < after + STEP_EVERY
        {
            return Ok(());
        }
        let mut recent = self.loads.iter().filter(|(at, ..)| now.since(*at) <= after);
        if recent.all(|(_, load, answered)| *answered && needs_more(settings, wanted, *load)) {
            let after_s = after.as_secs();
            return Err(format!("for {after_s} s more than {wanted} were needed, and there are no more"));
        }
        Ok(())
    }
}

/// Whether this load is clearly too much for so many.
fn needs_more(settings: &Elastic, count: u32, load: usize) -> bool {
    let each = settings.target.concurrency.expect("scenarios name this target") as usize;
    load * 100 > count as usize * each * 115
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn a_number_that_is_forgotten_is_caught() {
        is_caught(Sabotage::ForgetWanted, "scaling");
    }

    #[test]
    fn going_down_too_soon_is_caught() {
        is_caught(Sabotage::FewerAtOnce, "scaling");
    }

    #[test]
    fn not_going_up_is_caught() {
        is_caught(Sabotage::NeverMore, "scaling");
    }
}
