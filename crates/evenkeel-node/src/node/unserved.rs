//! Services without a healthy instance: since when, and from when on that is a problem rather than a start.
//!
//! A start takes its time, and so does the first verdict about an instance that something else runs. After [`PATIENCE`]
//! nobody should have to guess any more: `status` names the service and what was seen last of its instances, and the
//! journal has it once. Nothing is decided here; what becomes of the instances is for supervision.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{
    journal::{Level, Reason},
    stack::Service,
    status::Health,
    time::Moment,
    why,
};

use super::{Node, status::health_of};

/// How long a service may be without a healthy instance before that is a problem by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often is looked.
const EVERY: Duration = Duration::from_millis(500);

/// Services without a healthy instance.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    since: BTreeMap<String, Since>,
    next: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    at: Moment,
    /// The journal has it.
    told: bool,
}

impl Unserved {
    /// One look at a service. `true` once it is to be told.
    fn look(&mut self, service: &str, unserved: bool, now: Moment) -> bool {
        if !unserved {
            self.since.remove(service);
            return false;
        }
        let since = self.since.entry(service.to_owned()).or_insert(Since { at: now, told: false });
        let tell = !since.told && now.since(since.at) >= PATIENCE;
        since.told |= tell;
        tell
    }

    /// Whether a service has been without one for long, as it was told.
    pub(super) fn for_long(&self, service: &str) -> bool {
        self.since.get(service).is_some_and(|since| since.told)
    }
}

impl Node {
    /// Looks which services have nobody healthy, and writes down those that should have by now.
    pub(super) fn look_for_unserved(&mut self) {
        let now = self.clock.now();
        if now < self.unserved.next || self.shutdown.is_some() {
            return;
        }
        self.unserved.next = now + EVERY;
        let services = &self.revision.stack.services;
        self.unserved.since.retain(|name, _| services.contains_key(name));
        let looks: Vec<(String, bool)> =
            services.iter().map(|(name, service)| (name.clone(), self.is_unserved(name, service))).collect();
        let tell: Vec<String> =
            looks.into_iter().filter(|(name, is)| self.unserved.look(name, *is, now)).map(|(name, _)| name).collect();
        if tell.is_empty() {
            return;
        }
        let status = self.status();
        for service in status.services.iter().filter(|service| tell.contains(&service.name)) {
            let cause = why::cause(service).map(Reason::seen);
            let rule = Reason::rule(format!("it is said after {} s without one", PATIENCE.as_secs()));
            let reasons = cause.into_iter().chain([rule]).collect();
            self.note(Level::Warning, &service.name, "none-healthy", "no instance is healthy", reasons);
        }
    }

    /// When is looked next, while there is something to wait for.
    pub(super) fn unserved_deadline(&self) -> Option<Moment> {
        self.unserved.since.values().any(|since| !since.told).then_some(self.unserved.next)
    }

    /// Whether instances are wanted of a service and none is healthy. Asked often of very many, so the first healthy one
    /// is the answer.
    fn is_unserved(&self, name: &str, service: &Service) -> bool {
        let wanted = if service.is_run() {
            self.wanted(name, service) > 0
        } else {
            !service.fixed().is_empty() || self.has_named(name)
        };
        let begin = format!("{name}/");
        let fixed = self.edge.fixed.range(begin.clone()..).take_while(|(name, _)| name.starts_with(&begin));
        wanted
            && !self.slots_of(name).any(|slot| health_of(slot) == Health::Healthy)
            && !fixed.into_iter().any(|(_, verdict)| verdict.health == Health::Healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_has_its_time_and_what_lasts_is_told_once() {
        let at = Moment::from_millis;
        let mut unserved = Unserved::default();
        assert!(!unserved.look("app", true, at(1_000)) && !unserved.look("app", true, at(10_999)));
        assert!(!unserved.for_long("app"));
        assert_eq!([11_000, 12_000].map(|ms| unserved.look("app", true, at(ms))), [true, false]);
        assert!(unserved.for_long("app") && !unserved.for_long("other"));
        assert!(!unserved.look("app", false, at(13_000)) && !unserved.for_long("app"));
        assert!(!unserved.look("app", true, at(14_000)), "it begins anew");
        assert_eq!([23_999, 24_000].map(|ms| unserved.look("app", true, at(ms))), [false, true]);
    }
}
