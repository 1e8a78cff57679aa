//! One check of one instance: when the next probe is due, and what the probes so far say.
//!
//! An instance that has not passed yet is probed quickly, so that it gets requests within tens of milliseconds of
//! being able to serve them. After that probes keep to the interval, each instance at an offset of its own, so
//! that they never come all at once. A failure in traffic brings the next one forward.
//!
//! A check that changed counts once somebody has passed it (`health`); a probe of the former one that ends only then
//! says nothing. A check that was never passed by anybody since the edge started has nothing to stand against it.
//!
//! Without a configured check connecting decides, and only where something asks for it: until the first connection,
//! after failures in traffic, and while unhealthy. Nothing here probes; the state belongs to the control thread.

use std::time::Duration;

use evenkeel_core::{
    health::{KEPT, ProbeHealth},
    snapshot::{Check, Probe},
    status::Basis,
    time::Moment,
};

/// Bounds the quick phase: afterwards an instance that never passed is probed at its interval.
const QUICK_PROBES: u32 = 1_200;

/// The shortest time between two probes that failures in traffic may cause.
const HURRIED: Duration = Duration::from_millis(50);

/// Stands in where no check is configured.
const CONNECTING: Check = Check { probe: Probe::Tcp, interval_ms: 250, timeout_ms: 1_000, rise: 1, fall: 2 };

/// One check of one instance.
#[derive(Debug)]
pub(super) struct Checking {
    check: Check,
    /// No check is configured.
    passive: bool,
    health: ProbeHealth,
    /// How the last probe failed; empty if it passed or there was none.
    cause: String,
    probes: u32,
    running: bool,
    /// The probe under way is one of the former check.
    outdated: bool,
    /// The last that was passed.
    passed: Option<Probe>,
    started: Moment,
    due: Option<Moment>,
    /// Tells this instance's offset.
    seed: u64,
}

impl Checking {
    /// A new instance's check, due at once; `None`: none is configured.
    pub(super) fn new(check: Option<&Check>, seed: u64, now: Moment) -> Self {
        let passive = check.is_none();
        let check = check.unwrap_or(&CONNECTING).clone();
        let health = ProbeHealth::new(check.rise, check.fall);
        Self {
            check,
            passive,
            health,
            cause: String::new(),
            probes: 0,
            running: false,
            outdated: false,
            passed: None,
            started: now,
            due: Some(now),
            seed,
        }
    }

    /// Another check for the same instance: the verdict stays until probes of the new one change it.
    pub(super) fn retune(&mut self, check: Option<&Check>, now: Moment) {
        let new = check.unwrap_or(&CONNECTING);
        if self.passive == check.is_none() && self.check == *new {
            return;
        }
        self.health.retune(new.rise, new.fall);
        if decides_otherwise(&self.check, new) {
            self.health.changed();
            self.cause.clear();
            self.outdated = self.running;
        }
        self.check = new.clone();
        self.passive = check.is_none();
        self.due = Some(now);
    }

    /// What a probe does and how long it may take.
    pub(super) fn check(&self) -> &Check {
        &self.check
    }

    /// When the next probe is to be started.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due.filter(|_| !self.running && !self.is_told())
    }

    /// Whether a probe is to be started now.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// The next probe is at least so long after the last one began, where it will hardly bring news: the last one was as
    /// those before it, and the quick phase is over.
    pub(super) fn put_off(&mut self, least: Duration) {
        let failing = !self.cause.is_empty();
        let settled = if self.verdict() == Some(true) { !failing } else { failing && self.probes >= 25 };
        if settled {
            self.due = self.due.map(|due| due.max(self.started + least));
        }
    }

    /// Whether a probe is to be started now. If so it counts as started.
    pub(super) fn starts(&mut self, now: Moment) -> bool {
        let starts = self.is_due(now);
        if starts {
            self.running = true;
            self.started = now;
            self.due = None;
        }
        starts
    }

    /// Whether the node process probes, by a command, and says how that ended.
    fn is_told(&self) -> bool {
        matches!(self.check.probe, Probe::Exec { .. })
    }

    /// Whether this command decides here.
    pub(super) fn runs(&self, digest: u64) -> bool {
        self.check.probe == (Probe::Exec { digest })
    }

    /// A run of its command ended. `Some` when that changes the verdict.
    pub(super) fn told(&mut self, result: Result<(), Failed>, now: Moment) -> Option<bool> {
        // A probe of a former check may be under way still, and is to stay one that says nothing.
        let (running, outdated) = (self.running, std::mem::take(&mut self.outdated));
        let change = self.ended(result, now);
        (self.running, self.outdated) = (running, outdated);
        change
    }

    /// A probe ended. `Some` when that changes the verdict.
    pub(super) fn ended(&mut self, result: Result<(), Failed>, now: Moment) -> Option<bool> {
        self.running = false;
        if std::mem::take(&mut self.outdated) {
            self.due = Some(now);
            return None;
        }
        self.probes = self.probes.saturating_add(1);
        let change = match &result {
            Err(Failed { gone: true, .. }) => self.health.on_gone(),
            result => self.health.on(result.is_ok()),
        };
        if result.is_ok() && self.passed.as_ref() != Some(&self.check.probe) {
            self.passed = Some(self.check.probe.clone());
        }
        self.cause = result.err().map(|failed| failed.cause).unwrap_or_default();
        let next = self.delay(change).map(|delay| (self.started + delay).max(now));
        // Something may have asked for one while this one ran.
        self.due = [self.due, next].into_iter().flatten().min();
        change
    }

    /// Traffic failed, or something else calls for a probe: soon, but not for every failure.
    pub(super) fn hurry(&mut self, now: Moment) {
        let soon = (self.started + HURRIED).max(now);
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Whether a pass shows that the process answers. Connecting does not: a kernel does that for a frozen one.
    pub(super) fn shows_answers(&self) -> bool {
        matches!(self.check.probe, Probe::Http { .. } | Probe::Grpc { .. })
    }

    /// The verdict; `None` until the first pass.
    pub(super) fn verdict(&self) -> Option<bool> {
        self.health.verdict()
    }

    /// What the verdict rests on.
    pub(super) fn basis(&self) -> Basis {
        self.health.basis()
    }

    /// Somebody else has passed this check.
    pub(super) fn proven(&mut self) {
        self.health.proven();
    }

    /// The probe under way is one of a former check, so its end says nothing about this one.
    pub(super) fn is_outdated(&self) -> bool {
        self.outdated
    }

    /// What this instance is known to answer: the probe that it passed last, or else the one of its check.
    pub(super) fn answered(&self) -> &Probe {
        self.passed.as_ref().unwrap_or(&self.check.probe)
    }

    /// How the last probe failed, with what would have passed; empty if it passed.
    pub(super) fn saw(&self) -> String {
        match self.check.probe {
            Probe::Http { status: (low, high), .. } if self.cause.starts_with("status ") => {
                let wanted = if low == high { low.to_string() } else { format!("{low} to {high}") };
                format!("{} where {wanted} was wanted", self.cause)
            }
            _ => self.cause.clone(),
        }
    }

    /// How the last probe failed; empty if it passed.
    pub(super) fn cause(&self) -> &str {
        &self.cause
    }

    /// What led to the verdict, in words.
    pub(super) fn reason(&self) -> String {
        let run = self.health.run();
        if self.basis() == Basis::Kept {
            return format!("{KEPT}: {}", self.saw());
        }
        match (self.verdict(), run) {
            (None, _) => self.cause.clone(),
            (Some(true), 0) => "it passed its check before".to_owned(),
            (Some(true), _) if !self.cause.is_empty() => "its check has not failed often enough yet".to_owned(),
            (Some(true), 1) => "a probe passed".to_owned(),
            (Some(true), _) => format!("{run} probes in a row passed"),
            (Some(false), _) if self.cause.is_empty() => "its check has not passed often enough yet".to_owned(),
            (Some(false), 1) => format!("a probe failed: {}", self.cause),
            (Some(false), _) => format!("{run} probes in a row failed: {}", self.cause),
        }
    }

    /// From the start of this probe to the start of the next one; `None`: only when something asks for it.
    fn delay(&self, change: Option<bool>) -> Option<Duration> {
        let interval_ms = self.check.interval_ms.max(1);
        let quick_ms = match self.probes {
            0..25 => 20,
            25..600 => 50,
            _ => 100,
        };
        let ms = match self.verdict() {
            None if self.probes < QUICK_PROBES => quick_ms.min(interval_ms),
            Some(true) if self.passive && self.cause.is_empty() => return None,
            Some(true) if self.passive => 50,
            Some(true) if change.is_some() => 1 + self.seed % interval_ms,
            _ => interval_ms,
        };
        Some(Duration::from_millis(ms))
    }
}

/// Why a probe failed.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    /// In words.
    pub(super) cause: String,
    /// Nobody was there to answer, which no check can be wrong about.
    pub(super) gone: bool,
}

/// Whether what passes one of these checks may fail the other.
fn decides_otherwise(one: &Check, other: &Check) -> bool {
    one.probe != other.probe || one.timeout_ms != other.timeout_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(cause: &str) -> Failed {
        Failed { cause: cause.to_owned(), gone: false }
    }

    fn ms(at: u64) -> Moment {
        Moment::from_millis(at)
    }

    fn check() -> Check {
        Check { probe: Probe::Tcp, interval_ms: 1_000, timeout_ms: 500, rise: 2, fall: 2 }
    }

    /// Runs probes of no duration every millisecond in which one is due; returns when they started.
    fn run(checking: &mut Checking, from: u64, to: u64, result: &Result<(), Failed>) -> Vec<u64> {
        let started = (from..to).filter(|&at| {
            let starts = checking.starts(ms(at));
            if starts {
                checking.ended(result.clone(), ms(at));
            }
            starts
        });
        started.collect()
    }

    #[test]
    fn quick_until_it_passes_and_then_at_its_own_offset() {
        let refused = Err(failed("connect: refused"));
        let mut checking = Checking::new(Some(&check()), 1_234, ms(0));
        let started = run(&mut checking, 0, 2_000, &refused);
        assert_eq!(started[..4], [0, 20, 40, 60]);
        assert!(started.windows(2).all(|pair| pair[1] - pair[0] <= 100));
        assert_eq!((checking.verdict(), checking.reason()), (None, "connect: refused".to_owned()));
        let started = run(&mut checking, 2_000, 5_000, &Ok(()));
        let first = started[0];
        assert_eq!(started, [first, first + 235, first + 1_235, first + 2_235]);
        assert_eq!(checking.reason(), "4 probes in a row passed");
        run(&mut checking, 5_000, 8_000, &refused);
        assert_eq!(
            (checking.verdict(), checking.reason()),
            (Some(false), "3 probes in a row failed: connect: refused".to_owned())
        );
    }

    #[test]
    fn without_a_check_only_what_asks_for_it() {
        let refused = Err(failed("connect: refused"));
        let mut checking = Checking::new(None, 7, ms(0));
        assert_eq!(run(&mut checking, 0, 10_000, &Ok(())), [0]);
        checking.hurry(ms(10_000));
        assert_eq!(run(&mut checking, 10_000, 20_000, &Ok(())), [10_000]);
        checking.hurry(ms(20_000));
        let started = run(&mut checking, 20_000, 21_000, &refused);
        assert_eq!(started, [20_000, 20_050, 20_300, 20_550, 20_800]);
        assert_eq!(checking.verdict(), Some(false));
        assert_eq!(run(&mut checking, 21_000, 30_000, &Ok(())), [21_050]);
        assert_eq!(checking.verdict(), Some(true));
    }

    #[test]
    fn failures_in_traffic_hurry_within_bounds() {
        let mut checking = Checking::new(Some(&check()), 0, ms(0));
        run(&mut checking, 0, 900, &Ok(()));
        let mut started = 0;
        for at in 900..1_000 {
            checking.hurry(ms(at));
            started += run(&mut checking, at, at + 1, &Ok(())).len();
        }
        assert_eq!(started, 2);
        assert!(checking.starts(ms(5_000)));
        checking.hurry(ms(5_010));
        assert!(!checking.starts(ms(5_020)), "one at a time");
        checking.ended(Ok(()), ms(5_030));
        assert!(checking.starts(ms(5_050)), "what was asked for meanwhile is not forgotten");
    }

    #[test]
    fn another_check_keeps_the_verdict_and_probes_at_once() {
        let mut checking = Checking::new(Some(&check()), 0, ms(0));
        run(&mut checking, 0, 100, &Ok(()));
        checking.retune(Some(&check()), ms(100));
        assert!(!checking.starts(ms(100)), "nothing changed");
        checking.retune(Some(&Check { fall: 1, ..check() }), ms(100));
        assert_eq!(checking.verdict(), Some(true));
        assert!(checking.starts(ms(100)));
        assert_eq!(checking.ended(Err(failed("status 500")), ms(110)), Some(false));
    }

    #[test]
    fn a_changed_check_counts_once_somebody_has_passed_it() {
        let http = |status| Probe::Http { path: "/healthz".to_owned(), host: None, status };
        let mut checking = Checking::new(Some(&Check { probe: http((200, 299)), ..check() }), 0, ms(0));
        run(&mut checking, 0, 100, &Ok(()));
        assert!(checking.starts(ms(5_000)));
        checking.retune(Some(&Check { probe: http((404, 404)), ..check() }), ms(5_000));
        assert!(checking.is_outdated());
        assert_eq!((checking.ended(Ok(()), ms(5_001)), checking.basis()), (None, Basis::Former), "the former's pass");
        run(&mut checking, 5_001, 9_000, &Err(failed("status 200")));
        assert_eq!((checking.verdict(), checking.basis()), (Some(true), Basis::Kept));
        let reason = "kept healthy: nobody has passed the changed check yet: status 200 where 404 was wanted";
        assert_eq!(checking.reason(), reason);
        assert_eq!(*checking.answered(), http((200, 299)), "what it is known to answer");
        checking.proven();
        assert_eq!(checking.verdict(), Some(false));
    }
}
