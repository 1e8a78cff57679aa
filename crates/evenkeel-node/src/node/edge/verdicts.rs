//! What the edge's verdicts mean here: they are kept beside their instances, told to supervision, and noted where
//! somebody wants to know.

use evenkeel_core::{
    health::{ENLISTED, KEPT},
    journal::{Level, Reason},
    stack::Service,
    status::{Health, InstanceId, Phase},
    supervise::Event,
};

use crate::node::{Node, instances::Place, slot::Verdict};

impl Node {
    /// The instance of this name and generation, if it has a process.
    pub(super) fn place_of_id(&self, id: &InstanceId) -> Option<Place> {
        let (service, number) = id.name.rsplit_once('/')?;
        let place = (service.to_owned(), number.parse().ok()?);
        let slot = self.slots.get(&place)?;
        (slot.supervisor.memory().generation == id.generation && slot.duty().is_some()).then_some(place)
    }

    pub(super) fn verdict(&mut self, id: &InstanceId, health: Health, reason: String) {
        let phase = |node: &Self| node.place_of_id(id).map(|place| node.slots[&place].supervisor.phase());
        let (before, expected) = (phase(self), self.is_expected(id, health));
        // Nothing changed for an instance that is kept: of its service that is said once.
        let kept = health == Health::Healthy && reason.starts_with(KEPT);
        let known = self.know_verdict(id, health, Some(&reason));
        // That an instance got ready, or still is after a restart of ours, is said elsewhere.
        let got_ready = health == Health::Healthy && before != phase(self);
        if !known || expected || got_ready || kept {
            return;
        }
        // With a minimum of capacity the edge says next who gets requests although it is not healthy.
        let keeps_some = self.service_of(id).is_some_and(|service| service.min_capacity > 0);
        let (level, message) = match health {
            Health::Healthy => (Level::Info, "healthy: it gets requests"),
            Health::Unhealthy if reason.ends_with(ENLISTED) => (Level::Warning, "unhealthy, and it gets requests"),
            Health::Ejected if reason.ends_with(ENLISTED) => (Level::Warning, "ejected, and it gets requests"),
            Health::Unhealthy if keeps_some => {
                (Level::Warning, "unhealthy: it gets no new requests while enough others are healthy")
            }
            Health::Ejected if keeps_some => {
                (Level::Warning, "ejected: it gets no requests for a while, if enough others are healthy")
            }
            Health::Unhealthy => (Level::Warning, "unhealthy: it gets no new requests"),
            Health::Silent => (Level::Warning, "silent: it gets no new requests"),
            Health::Ejected => (Level::Warning, "ejected: it gets no requests for a while"),
            Health::Unknown | Health::Draining => return,
        };
        self.note(level, &id.name, health.as_str(), message, vec![Reason::seen(reason)]);
    }

    /// The service that an instance belongs to, as the stack has it.
    pub(super) fn service_of(&self, id: &InstanceId) -> Option<&Service> {
        id.name.split_once('/').and_then(|(service, _)| self.revision.stack.services.get(service))
    }

    /// Whether a verdict only repeats what was known before this process or the edge was started again.
    pub(super) fn is_expected(&self, id: &InstanceId, health: Health) -> bool {
        let slot = self.place_of_id(id).map(|place| &self.slots[&place]);
        health == Health::Healthy && slot.is_some_and(|slot| slot.adopted && slot.supervisor.memory().ready)
    }

    /// Keeps a verdict and tells supervision. `None` as reason: heard again, not a change by itself.
    pub(super) fn know_verdict(&mut self, id: &InstanceId, health: Health, reason: Option<&str>) -> bool {
        let Some(place) = self.place_of_id(id) else {
            return self.know_fixed_verdict(id, health, reason);
        };
        let slot = self.slots.get_mut(&place).expect("its place was found");
        let changed = slot.verdict.health != health;
        slot.adopted &= matches!(health, Health::Unknown);
        if changed || reason.is_some() {
            slot.verdict.health = health;
            reason.unwrap_or_default().clone_into(&mut slot.verdict.reason);
            if matches!(health, Health::Unknown | Health::Unhealthy) && !slot.verdict.reason.is_empty() {
                slot.check_saw.clone_from(&slot.verdict.reason);
            }
        }
        if changed {
            let reason = reason.unwrap_or_default().to_owned();
            self.feed(&place, Event::Health { health, reason });
        }
        true
    }

    /// Whether the snapshot has an instance of this name that is not ours to start. Asked for each of very many.
    pub(super) fn is_fixed(&mut self, name: &str) -> bool {
        let (version, names) = &mut self.edge.fixed_names;
        if *version != self.snapshot.version {
            *version = self.snapshot.version;
            let instances = self.snapshot.services.iter().flat_map(|service| &service.instances);
            *names = instances.filter(|one| one.id.generation == 0).map(|one| one.id.name.clone()).collect();
            // Whoever gets an address again later is another one, and a name may have many over time.
            self.edge.fixed.retain(|name, _| names.contains(name));
        }
        names.contains(name)
    }

    pub(super) fn know_fixed_verdict(&mut self, id: &InstanceId, health: Health, reason: Option<&str>) -> bool {
        if id.generation != 0 || !self.is_fixed(&id.name) {
            return false;
        }
        let verdict = self.edge.fixed.entry(id.name.clone()).or_default();
        if verdict.health != health || reason.is_some() {
            verdict.health = health;
            reason.unwrap_or_default().clone_into(&mut verdict.reason);
        }
        true
    }

    pub(super) fn liveness(&mut self, id: &InstanceId, passing: bool, reason: String) {
        let Some(place) = self.place_of_id(id) else { return };
        let slot = self.slots.get_mut(&place).expect("its place was found");
        let running = slot.supervisor.phase() == Phase::Running;
        // What it shows while it starts is no news.
        if running && slot.not_live == passing {
            slot.not_live = !passing;
            let (level, kind, message) = if passing {
                (Level::Info, "live", "its liveness check passes again")
            } else {
                (Level::Warning, "not-live", "its liveness check fails")
            };
            self.note(level, &id.name, kind, message, vec![Reason::seen(reason.clone())]);
        }
        self.feed(&place, Event::Liveness { passing, reason });
    }

    pub(super) fn verdict_mut(&mut self, id: &InstanceId) -> Option<&mut Verdict> {
        match self.place_of_id(id) {
            Some(place) => self.slots.get_mut(&place).map(|slot| &mut slot.verdict),
            None => self.edge.fixed.get_mut(&id.name),
        }
    }
}
