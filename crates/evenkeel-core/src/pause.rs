//! Pauses: for a time, and loudly, nothing is decided without an order.
//!
//! `keel pause` stops automatic decisions about a service or the whole stack; `[stack] mode = "observe"` writes them
//! down without doing them. Both are a [`Stance`] that supervision, rollout, scaling and deploys ask for before they
//! act. [`Pauses`] is what is in force. While it runs, a pause ends by the monotonic clock, so that a step of the
//! wall clock neither lengthens nor shortens it; over a restart only the wall clock is left, and then a pause never
//! lasts longer than it was meant to from its beginning. The caller keeps pauses on disk and says when they end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::time::{Moment, WallTime};

/// The subject that stands for every service.
pub const STACK: &str = "stack";

/// What may be done without an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stance {
    /// Everything.
    #[default]
    Act,
    /// Nothing, for a time, since an operator said so.
    Paused,
    /// Nothing: what would be done is written down.
    Observe,
}

/// One pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who ordered it.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: String,
    /// When it began.
    pub since: WallTime,
    /// When it ends by itself.
    pub until: WallTime,
    /// Services of which something was ordered after the beginning: that is carried out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ordered: BTreeSet<String>,
}

impl Pause {
    /// How long it is.
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.until.as_millis().saturating_sub(self.since.as_millis()))
    }

    /// What is left of it for a process that begins at `now` and knows nothing but the wall clock.
    fn left(&self, now: WallTime) -> Duration {
        let left = Duration::from_millis(self.until.as_millis().saturating_sub(now.as_millis()));
        left.min(self.length())
    }
}

/// A pause as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce<'a> {
    /// What is paused: a service, or [`STACK`].
    pub subject: &'a str,
    /// The pause.
    pub pause: &'a Pause,
    /// When it ends.
    pub ends: Moment,
}

/// The pauses in force, by subject.
#[derive(Clone, Debug, Default)]
pub struct Pauses(BTreeMap<String, (Pause, Moment)>);

impl Pauses {
    /// Goes on with what a former life kept. What has ended meanwhile is there until [`Pauses::expire`] says so.
    pub fn restore(kept: BTreeMap<String, Pause>, wall: WallTime, now: Moment) -> Self {
        let with_end = |(subject, pause): (String, Pause)| {
            let ends = now + pause.left(wall);
            (subject, (pause, ends))
        };
        Self(kept.into_iter().map(with_end).collect())
    }

    /// What is to be kept for a successor.
    pub fn kept(&self) -> BTreeMap<String, Pause> {
        self.0.iter().map(|(subject, (pause, _))| (subject.clone(), pause.clone())).collect()
    }

    /// Begins a pause, in place of the one that the subject may have.
    pub fn begin(&mut self, subject: &str, pause: Pause, now: Moment) {
        let ends = now + pause.length();
        self.0.insert(subject.to_owned(), (pause, ends));
    }

    /// Ends a pause before its time.
    pub fn end(&mut self, subject: &str) -> Option<Pause> {
        self.0.remove(subject).map(|(pause, _)| pause)
    }

    /// Takes out those whose time is over.
    pub fn expire(&mut self, now: Moment) -> Vec<(String, Pause)> {
        let over = self.0.iter().filter(|(_, (_, ends))| *ends <= now).map(|(subject, _)| subject.clone());
        let over: Vec<String> = over.collect();
        over.into_iter().filter_map(|subject| self.end(&subject).map(|pause| (subject, pause))).collect()
    }

    /// When the next one ends.
    pub fn deadline(&self) -> Option<Moment> {
        self.0.values().map(|(_, ends)| *ends).min()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = InForce<'_>> {
        self.0.iter().map(|(subject, (pause, ends))| InForce { subject, pause, ends: *ends })
    }

    /// The pause that a service is under: that of the stack, since it has to end as well, or else its own.
    pub fn over(&self, service: &str) -> Option<InForce<'_>> {
        let of = |name: &str| self.0.get_key_value(name);
        let (subject, (pause, ends)) = of(STACK).or_else(|| of(service))?;
        Some(InForce { subject, pause, ends: *ends })
    }

    /// Something of this service was ordered: that is carried out although it is paused. Returns whether that is new.
    pub fn order(&mut self, service: &str) -> bool {
        let mut new = false;
        for subject in [STACK, service] {
            if let Some((pause, _)) = self.0.get_mut(subject) {
                new |= pause.ordered.insert(service.to_owned());
            }
        }
        new
    }

    /// Whether a change of this service's instances that was under way has to wait.
    pub fn holds_rollout(&self, service: &str) -> bool {
        let held = |subject| self.0.get(subject).is_some_and(|(pause, _)| !pause.ordered.contains(service));
        held(STACK) || held(service)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pause(since_s: u64, length_s: u64) -> Pause {
        let wall = |s: u64| WallTime::from_millis(s * 1000);
        let (since, until) = (wall(since_s), wall(since_s + length_s));
        Pause { by: "root".to_owned(), reason: "r".to_owned(), since, until, ordered: BTreeSet::new() }
    }

    fn at(s: u64) -> Moment {
        Moment::from_millis(s * 1000)
    }

    #[test]
    fn a_pause_is_over_its_service_or_over_all_until_its_time() {
        let mut pauses = Pauses::default();
        pauses.begin("shop", pause(1000, 60), at(5));
        assert_eq!(pauses.over("shop").map(|p| p.subject), Some("shop"));
        assert_eq!(pauses.over("blog"), None);
        pauses.begin(STACK, pause(1000, 30), at(5));
        assert_eq!(pauses.over("blog").map(|p| p.subject), Some(STACK));
        assert_eq!(pauses.deadline(), Some(at(35)));
        assert_eq!(pauses.expire(at(34)), []);
        assert_eq!(pauses.expire(at(35)).len(), 1);
        assert_eq!(pauses.over("shop").map(|p| (p.subject, p.ends)), Some(("shop", at(65))));
        assert!(pauses.end("shop").is_some() && pauses.end("shop").is_none());
    }

    #[test]
    fn what_is_ordered_meanwhile_is_carried_out() {
        let mut pauses = Pauses::default();
        assert!(!pauses.holds_rollout("shop") && !pauses.order("shop"));
        pauses.begin("shop", pause(0, 60), at(0));
        pauses.begin(STACK, pause(0, 60), at(0));
        assert!(pauses.holds_rollout("shop") && pauses.holds_rollout("blog"));
        assert!(pauses.order("shop") && !pauses.order("shop"));
        assert!(!pauses.holds_rollout("shop") && pauses.holds_rollout("blog"));
        let again = Pauses::restore(pauses.kept(), WallTime::from_millis(1000), at(9));
        assert!(!again.holds_rollout("shop") && again.holds_rollout("blog"));
    }

    proptest! {
        /// Whatever the wall clock says after a restart, a pause never gets longer than it was, and where the clock
        /// is right it ends when it should.
        #[test]
        fn a_restart_never_lengthens_a_pause(length in 1_u64..100_000, wall in 0_u64..2_000_000, now in 0_u64..1000) {
            let begun = 1_000_000;
            let kept = BTreeMap::from([("shop".to_owned(), pause(begun, length))]);
            let pauses = Pauses::restore(kept, WallTime::from_millis(wall * 1000), at(now));
            let left = pauses.over("shop").unwrap().ends.since(at(now)).as_secs();
            prop_assert!(left <= length);
            if (begun..=begun + length).contains(&wall) {
                prop_assert_eq!(left, begun + length - wall);
            }
        }
    }
}
