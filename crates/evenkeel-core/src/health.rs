//! Which instances may get requests: the verdict of a check, and the one verdict over everything known.
//!
//! [`ProbeHealth`] turns probes that pass or fail into a verdict that does not flap. [`verdict`] combines that
//! with [`ejection`](crate::ejection), [`silence`](crate::silence) and the duty that the snapshot asks for into
//! one [`Health`] with its reason. [`ejection_room`] is the minimum rule: what passive removal may never do.
//!
//! A changed check counts once somebody has passed it: until then its failures take out nobody who was healthy by
//! the former one, since a check with a slip in it fails everywhere at once. Nobody there to answer is no matter of
//! the check and counts as ever. This lives in memory: whoever starts anew knows of no former check, and then the
//! present one decides alone, right or wrong.
//!
//! The state belongs to whoever probes, one [`ProbeHealth`] for each instance and check. Nothing here knows when
//! to probe, and nothing here is remembered of an instance's former generation.

use crate::{
    snapshot::Duty,
    status::{Basis, Health},
};

/// How the reason of an instance begins that is kept healthy against a changed check that nobody has passed.
pub const KEPT: &str = "kept healthy: nobody has passed the changed check yet";

/// How the reason of an instance begins that has failed its check ever since it started.
pub const NOT_PASSED: &str = "no probe has passed yet";

/// How the reason of an instance ends that is not healthy and gets requests, see [`capacity`](crate::capacity).
pub const ENLISTED: &str = "it gets requests all the same, since too few are healthy";

/// The verdict of one check about one instance, with hysteresis in both directions.
///
/// A new instance is neither healthy nor unhealthy. Its first pass makes it healthy, however many failures came
/// before, since a process that starts fails its check until it serves. From then on [`fall`] failures in a row
/// make it unhealthy and [`rise`] passes in a row make it healthy again.
///
/// [`fall`]: crate::snapshot::Check::fall
/// [`rise`]: crate::snapshot::Check::rise
#[derive(Clone, Debug)]
pub struct ProbeHealth {
    rise: u32,
    fall: u32,
    verdict: Option<bool>,
    last: bool,
    run: u32,
    former: Former,
    /// Failures in a row in which nobody was there.
    gone: u32,
}

/// What a former check, which this instance passed, still says for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Former {
    /// Nothing: the check in force was passed, or decided.
    Over,
    /// The check in force was passed by others, and has not decided here.
    Proven,
    /// Nobody has passed the check in force.
    Unproven,
}

impl ProbeHealth {
    /// A new instance. A `rise` or `fall` of 0 counts as 1.
    pub fn new(rise: u16, fall: u16) -> Self {
        let (rise, fall) = (u32::from(rise.max(1)), u32::from(fall.max(1)));
        Self { rise, fall, verdict: None, last: false, run: 0, former: Former::Over, gone: 0 }
    }

    /// The same history under new numbers, which count from the next probe on.
    pub fn retune(&mut self, rise: u16, fall: u16) {
        self.rise = u32::from(rise.max(1));
        self.fall = u32::from(fall.max(1));
    }

    /// Another check decides from the next probe on. The verdict stays; one that is healthy holds until somebody has
    /// passed the new check, see [`proven`](Self::proven).
    pub fn changed(&mut self) {
        self.verdict = self.verdict();
        self.former = if self.verdict == Some(true) { Former::Unproven } else { Former::Over };
        (self.run, self.gone) = (0, 0);
    }

    /// Another instance has passed the check in force. `Some` when that changes the verdict: what was held against the
    /// failures here is held no longer.
    pub fn proven(&mut self) -> Option<bool> {
        let before = self.verdict();
        if self.former == Former::Unproven {
            self.former = if self.verdict == Some(true) { Former::Proven } else { Former::Over };
        }
        self.verdict().filter(|_| self.verdict() != before)
    }

    /// A probe found nobody there, which no check can be wrong about. `Some` when that changes the verdict.
    pub fn on_gone(&mut self) -> Option<bool> {
        let (before, gone) = (self.verdict(), self.gone + 1);
        self.count(false);
        self.gone = gone;
        if self.gone >= self.fall {
            self.former = Former::Over;
        }
        self.verdict().filter(|_| self.verdict() != before)
    }

    /// A probe passed or failed. `Some` when that changes the verdict.
    pub fn on(&mut self, passed: bool) -> Option<bool> {
        let before = self.verdict();
        // An instance that was kept was never out, so a single pass is enough for it.
        if passed && self.former == Former::Unproven {
            self.verdict = Some(true);
        }
        self.count(passed);
        if passed || self.verdict == Some(false) && self.former == Former::Proven {
            self.former = Former::Over;
        }
        self.verdict().filter(|_| self.verdict() != before)
    }

    fn count(&mut self, passed: bool) {
        self.gone = 0;
        self.run = if self.run > 0 && self.last == passed { self.run.saturating_add(1) } else { 1 };
        self.last = passed;
        let changes = match (self.verdict, passed) {
            (None, true) => true,
            (None, false) => false,
            (Some(healthy), _) if healthy == passed => false,
            (Some(_), true) => self.run >= self.rise,
            (Some(_), false) => self.run >= self.fall,
        };
        if changes {
            self.verdict = Some(passed);
        }
    }

    /// The verdict; `None` until the first pass.
    pub fn verdict(&self) -> Option<bool> {
        if self.basis() == Basis::Kept { Some(true) } else { self.verdict }
    }

    /// What the verdict rests on.
    pub fn basis(&self) -> Basis {
        match (self.former, self.verdict) {
            (Former::Over, _) => Basis::Check,
            (Former::Unproven, Some(false)) => Basis::Kept,
            (Former::Proven | Former::Unproven, _) => Basis::Former,
        }
    }

    /// How many probes in a row ended as the last one did.
    pub fn run(&self) -> u32 {
        self.run
    }
}

/// What is known of one instance, each part with the reason that led to it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What the snapshot asks for.
    pub duty: Duty,
    /// The check's verdict; `None` until a probe passes.
    pub check: Option<bool>,
    /// What the check saw last, as "3 probes in a row failed: connect: refused".
    pub check_reason: &'a str,
    /// Why it is silent, if it is.
    pub silent: Option<&'a str>,
    /// Why it is ejected, if it is.
    pub ejected: Option<&'a str>,
}

/// The one verdict about an instance, and why.
///
/// What forbids requests for the strongest reason is named first: it drains, it is silent, nothing is known of it,
/// its check fails, its traffic failed. Healthy is what nothing speaks against.
pub fn verdict(known: &Known<'_>) -> (Health, String) {
    match *known {
        Known { duty: Duty::Drain, .. } => (Health::Draining, "it was asked to drain".to_owned()),
        Known { silent: Some(why), .. } => (Health::Silent, why.to_owned()),
        Known { check: None, check_reason: "", .. } => (Health::Unknown, "not probed yet".to_owned()),
        Known { check: None, check_reason, .. } => (Health::Unknown, format!("{NOT_PASSED}: {check_reason}")),
        Known { check: Some(false), check_reason, .. } => (Health::Unhealthy, check_reason.to_owned()),
        Known { ejected: Some(why), .. } => (Health::Ejected, why.to_owned()),
        Known { check_reason, .. } => (Health::Healthy, check_reason.to_owned()),
    }
}

/// Whether one more instance of a service may be ejected. `Err` says which rule forbids it.
///
/// `serving` counts the instances that should serve, `healthy` those that get requests now (the candidate among
/// them), `ejected` those out already. Ejection guesses from traffic, so it never takes the last instance that
/// gets requests, and never more than `max_percent` of the service: where most fail, the cause is more likely
/// something that they share.
pub fn ejection_room(serving: usize, healthy: usize, ejected: usize, max_percent: u8) -> Result<(), String> {
    if healthy <= 1 {
        return Err("it is the last healthy instance of its service".to_owned());
    }
    if serving * usize::from(max_percent) < 100 {
        return Err(format!("{max_percent} % of {serving} instances is less than one, so none may ever be ejected"));
    }
    if (ejected + 1) * 100 > serving * usize::from(max_percent) {
        return Err(format!(
            "{ejected} of {serving} instances are ejected already, and at most {max_percent} % may be"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_instance_is_healthy_with_its_first_pass() {
        let mut health = ProbeHealth::new(3, 2);
        for _ in 0..10 {
            assert_eq!(health.on(false), None);
            assert_eq!(health.verdict(), None);
        }
        assert_eq!(health.on(true), Some(true));
        assert_eq!(health.verdict(), Some(true));
    }

    #[test]
    fn falls_and_rises_only_in_a_row() {
        let mut health = ProbeHealth::new(2, 3);
        health.on(true);
        let changes: Vec<_> =
            [false, false, true, false, false, false, true, false, true, true].map(|p| health.on(p)).into();
        let at = |index: usize| changes[index];
        assert_eq!((at(1), at(4), at(5)), (None, None, Some(false)), "three in a row, not three");
        assert_eq!((at(6), at(8), at(9)), (None, None, Some(true)), "two in a row, not two");
        assert_eq!(health.run(), 2);
    }

    #[test]
    fn zero_counts_as_one() {
        let mut health = ProbeHealth::new(0, 0);
        assert_eq!(health.on(true), Some(true));
        assert_eq!(health.on(false), Some(false));
        assert_eq!(health.on(true), Some(true));
    }

    #[test]
    fn a_changed_check_takes_out_nobody_until_somebody_passed_it() {
        let mut kept = ProbeHealth::new(2, 3);
        kept.on(true);
        kept.changed();
        assert_eq!((kept.verdict(), kept.basis()), (Some(true), Basis::Former));
        assert_eq!([false; 10].map(|passed| kept.on(passed)), [None; 10]);
        assert_eq!((kept.verdict(), kept.basis(), kept.run()), (Some(true), Basis::Kept, 10));

        let mut passing = kept.clone();
        assert_eq!(passing.on(true), None, "it was never out, so it need not rise");
        assert_eq!((passing.verdict(), passing.basis()), (Some(true), Basis::Check));
        let mut corrected = kept.clone();
        corrected.changed();
        assert_eq!((corrected.on(false), corrected.basis()), (None, Basis::Former), "another check counts anew");

        assert_eq!(kept.proven(), Some(false), "what it failed meanwhile counts at once");
        assert_eq!((kept.proven(), kept.basis()), (None, Basis::Check));
        assert_eq!((kept.on(true), kept.on(true)), (None, Some(true)));
        kept.changed();
        assert_eq!((kept.proven(), kept.basis()), (None, Basis::Former));
        assert_eq!([false; 3].map(|passed| kept.on(passed)), [None, None, Some(false)], "a proven one decides as ever");
        kept.changed();
        assert_eq!((kept.verdict(), kept.basis()), (Some(false), Basis::Check), "nothing speaks for who was out");
        let mut new = ProbeHealth::new(2, 3);
        new.changed();
        assert_eq!((new.on(false), new.verdict(), new.basis()), (None, None, Basis::Check));
    }

    #[test]
    fn nobody_there_is_no_matter_of_the_check() {
        let mut health = ProbeHealth::new(2, 3);
        health.on(true);
        health.changed();
        assert_eq!((health.on_gone(), health.on_gone()), (None, None));
        assert_eq!(health.on(false), None, "it answers again: kept, although three failed in a row");
        assert_eq!((health.basis(), health.verdict()), (Basis::Kept, Some(true)));
        assert_eq!([(); 3].map(|()| health.on_gone()), [None, None, Some(false)]);
        assert_eq!((health.basis(), health.proven()), (Basis::Check, None));
    }

    #[test]
    fn the_strongest_reason_is_named() {
        let all = Known {
            duty: Duty::Drain,
            check: Some(false),
            check_reason: "3 probes in a row failed: status 503",
            silent: Some("nothing received for 500 ms"),
            ejected: Some("5 failures in a row"),
        };
        assert_eq!(verdict(&all).0, Health::Draining);
        let serving = Known { duty: Duty::Serve, ..all };
        assert_eq!(verdict(&serving), (Health::Silent, "nothing received for 500 ms".to_owned()));
        let answering = Known { silent: None, ..serving };
        assert_eq!(verdict(&answering), (Health::Unhealthy, "3 probes in a row failed: status 503".to_owned()));
        let well = Known { check: Some(true), check_reason: "2 probes in a row passed", ..answering };
        assert_eq!(verdict(&well), (Health::Ejected, "5 failures in a row".to_owned()));
        assert_eq!(verdict(&Known { ejected: None, ..well }).0, Health::Healthy);
        let new = Known { check: None, check_reason: "connect: refused", ejected: None, ..well };
        assert_eq!(verdict(&new), (Health::Unknown, "no probe has passed yet: connect: refused".to_owned()));
        assert_eq!(verdict(&Known { check_reason: "", ..new }).1, "not probed yet");
    }

    #[test]
    fn the_minimum_rule() {
        assert!(ejection_room(3, 1, 0, 100).unwrap_err().contains("last healthy"));
        assert!(ejection_room(3, 3, 0, 50).is_ok());
        assert!(ejection_room(3, 2, 1, 50).unwrap_err().contains("at most 50 %"));
        assert!(ejection_room(2, 2, 0, 50).is_ok());
        assert!(ejection_room(2, 2, 0, 49).unwrap_err().contains("49 % of 2 instances is less than one"));
    }

    proptest! {
        /// The verdict equals the one found by looking at the whole history anew.
        #[test]
        fn equals_the_definition(rise in 1u16..5, fall in 1u16..5, probes in prop::collection::vec(any::<bool>(), 0..200)) {
            let mut health = ProbeHealth::new(rise, fall);
            let mut expected = None;
            for (index, &passed) in probes.iter().enumerate() {
                let run = probes[..=index].iter().rev().take_while(|&&p| p == passed).count();
                let needed = usize::from(if passed { rise } else { fall });
                let before = expected;
                match expected {
                    None if passed => expected = Some(true),
                    Some(healthy) if healthy != passed && run >= needed => expected = Some(passed),
                    _ => {}
                }
                prop_assert_eq!(health.on(passed).is_some(), before != expected);
                prop_assert_eq!(health.verdict(), expected);
            }
        }

        /// Without a pass and with somebody there, a changed check says nothing against who was healthy; once proven,
        /// the verdict is the one of an instance that never knew another check.
        #[test]
        fn a_proof_leaves_no_trace(fall in 1u16..5, before in 0usize..8, after in 0usize..8) {
            let mut changed = ProbeHealth::new(1, fall);
            changed.on(true);
            let mut plain = changed.clone();
            changed.changed();
            for _ in 0..before {
                prop_assert_eq!(changed.on(false), None);
                plain.on(false);
            }
            prop_assert_eq!(changed.verdict(), Some(true));
            changed.proven();
            prop_assert_eq!(changed.verdict(), plain.verdict());
            for _ in 0..after {
                prop_assert_eq!(changed.on(false), plain.on(false));
            }
            prop_assert_eq!((changed.on(true), changed.verdict()), (plain.on(true), plain.verdict()));
        }

        /// Whatever the numbers, one healthy instance stays and the share is kept.
        #[test]
        fn room_keeps_both_bounds(serving in 0usize..50, healthy in 0usize..50, ejected in 0usize..50, percent in 0u8..=100) {
            if ejection_room(serving, healthy, ejected, percent).is_ok() {
                prop_assert!(healthy >= 2);
                prop_assert!((ejected + 1) * 100 <= serving * usize::from(percent));
            }
        }
    }
}
