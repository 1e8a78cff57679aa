//! Pauses in force: begun and ended by operators or by their time, kept over every restart, and loud meanwhile.
//!
//! What a pause means is decided where decisions are made; they ask for [`Node::stance`] first. `pauses.json` in the
//! state directory holds what a successor must go on with.

use std::time::Duration;

use evenkeel_core::{
    journal::{Level, Reason},
    pause::{InForce, Pause, Pauses, STACK, Stance},
    stack::Mode,
    time::{Moment, WallTime},
};

use super::{
    Node,
    operate::{NotOrdered, Ordered, no_such},
};
use crate::{clock::wall_now, state_dir::replace};

/// The longest pause: what is meant for longer belongs into the stack file.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// The file that keeps pauses.
const FILE: &str = "pauses.json";

impl Node {
    /// What may be done about a service, or with [`STACK`] about the whole, without an order.
    pub(super) fn stance(&self, service: &str) -> Stance {
        if self.pauses.over(service).is_some() {
            return Stance::Paused;
        }
        match self.revision.stack.stack.mode {
            Mode::Act => Stance::Act,
            Mode::Observe => Stance::Observe,
        }
    }

    /// Goes on with the pauses of a former life. A `first_start`, of which nothing ran before, is an order: it is carried
    /// out. Where instances outlived a guard, nobody has ordered anything.
    pub(super) fn restore_pauses(&mut self, first_start: bool) {
        let path = self.dir.path(FILE);
        let read = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        let kept = match read {
            Ok(kept) => kept,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                let problem = format!("{FILE} cannot be read ({error}): a pause that was in force is lost");
                self.note(Level::Error, STACK, "pauses", problem.clone(), Vec::new());
                self.problems.insert("pauses", problem);
                return;
            }
        };
        self.pauses = Pauses::restore(kept, wall_now(), self.clock.now());
        if first_start {
            for service in self.revision.stack.services.keys().cloned().collect::<Vec<_>>() {
                self.ordered_of(&service);
            }
        }
    }

    pub(super) fn pause(
        &mut self,
        subject: &str,
        length: Duration,
        reason: &str,
        who: &str,
    ) -> Result<Ordered, NotOrdered> {
        let services = &self.revision.stack.services;
        if subject != STACK && !services.contains_key(subject) {
            let service = subject.split_once('/').map(|(service, _)| service);
            if let Some(service) = service.filter(|service| services.contains_key(*service)) {
                let fix = format!("Pause `{service}`, or take the instance out with `keel drain {subject}`.");
                return Err(NotOrdered::no("a single instance cannot be paused", fix));
            }
            let known = std::iter::once(STACK.to_owned()).chain(services.keys().cloned()).collect();
            return Err(no_such(subject, known));
        }
        if length.is_zero() || length > LONGEST {
            let fix = "Give a length from 1s to 30d. What is meant for longer is `mode = \"observe\"` below `[stack]`.";
            return Err(NotOrdered::no("a pause cannot be so long", fix));
        }
        if reason.trim().is_empty() {
            return Err(NotOrdered::no("a pause needs a reason", "Say why, for whoever finds it: --reason WORDS"));
        }
        let since = wall_now();
        let until = WallTime::from_millis(since.as_millis() + u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
        let (by, reason) = (who.to_owned(), reason.trim().to_owned());
        let pause = Pause { by, reason, since, until, ordered: std::collections::BTreeSet::new() };
        self.pauses.begin(subject, pause, self.clock.now());
        self.save_pauses();
        let what = self.pauses.iter().find(|one| one.subject == subject).map(|one| self.in_words(one));
        let what = what.expect("it was begun just now");
        let reasons = vec![Reason::rule(
            "nothing is started again, killed, ejected, scaled or replaced without an order; what is ordered is done",
        )];
        self.note(Level::Warning, subject, "paused", what.clone(), reasons);
        Ok(Ordered { revision: self.revision.number, changes: vec![what], ..Ordered::default() })
    }

    /// Ends a pause before its time, if there is one, and says so.
    pub(super) fn end_pause(&mut self, subject: &str, who: &str) -> Option<String> {
        let pause = self.pauses.end(subject)?;
        self.save_pauses();
        let message = format!("{subject} is paused no more: what is due is done now");
        let reasons = vec![Reason::seen(format!("resumed by {who}")), began(&pause)];
        self.note(Level::Info, subject, "resumed", message.clone(), reasons);
        Some(message)
    }

    /// Ends the pauses whose time is over.
    pub(super) fn expire_pauses(&mut self) {
        let over = self.pauses.expire(self.clock.now());
        for (subject, pause) in &over {
            let message = format!("the pause of {subject} is over: what is due is done now");
            let reasons = vec![Reason::seen("its time is over"), began(pause)];
            self.note(Level::Info, subject, "resumed", message, reasons);
        }
        if !over.is_empty() {
            self.save_pauses();
        }
    }

    /// Something about this service was ordered: that is carried out although it may be paused.
    pub(super) fn ordered_of(&mut self, service: &str) {
        if self.pauses.order(service) {
            self.save_pauses();
        }
    }

    /// When the next pause ends.
    pub(super) fn pauses_deadline(&self) -> Option<Moment> {
        self.pauses.deadline()
    }

    fn save_pauses(&mut self) {
        let bytes = serde_json::to_vec_pretty(&self.pauses.kept()).expect("pauses are plain data");
        match replace(&self.dir.path(FILE), &bytes) {
            Ok(()) => drop(self.problems.remove("pauses")),
            Err(error) => {
                let problem = format!("pauses cannot be kept ({error}): a restart of the node process forgets them");
                self.problems.insert("pauses", problem);
            }
        }
    }

    /// What needs attention since nothing is done about it.
    pub(super) fn pause_problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.pauses.iter().map(|one| self.in_words(one)).collect();
        if self.revision.stack.stack.mode == Mode::Observe {
            let what = "mode = \"observe\": what would be done without an order is only written down (`keel events`)";
            problems.push(what.to_owned());
        }
        problems
    }

    /// Why nothing of a service is decided without an order.
    pub(super) fn hands_off(&self, service: &str) -> Option<String> {
        match self.stance(service) {
            Stance::Act => None,
            Stance::Paused => self.pause_of(service),
            Stance::Observe => Some("mode = \"observe\": nothing is done without an order".to_owned()),
        }
    }

    /// The pause that a subject is under, as a clause; for an instance that of its service.
    pub(super) fn pause_of(&self, subject: &str) -> Option<String> {
        let service = subject.split_once('/').map_or(subject, |(service, _)| service);
        self.pauses.over(service).map(|one| self.in_words(one))
    }

    /// The same without what is left of it, for what is said again only when it has changed.
    pub(super) fn pause_until(&self, service: &str) -> Option<String> {
        let InForce { subject, pause: Pause { by, reason, until, .. }, .. } = self.pauses.over(service)?;
        Some(format!("{subject} is PAUSED until {until}, by {by}: {reason}; `keel resume {subject}` ends it"))
    }

    fn in_words(&self, InForce { subject, pause, ends }: InForce<'_>) -> String {
        let left = left(ends.since(self.clock.now()));
        let Pause { by, reason, until, .. } = pause;
        format!(
            "{subject} is PAUSED for {left} more, until {until}, by {by}: {reason}; `keel resume {subject}` ends it"
        )
    }
}

/// What is left of a pause, as people say it.
fn left(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn began(pause: &Pause) -> Reason {
    Reason::seen(format!("paused by {} since {}: {}", pause.by, pause.since, pause.reason))
}
