//! What a deploy sees of the world, and what it means for those who decide about instances.

use evenkeel_core::{
    deploy::{Control, Deploy, Phase, Seen, World, trial_weight},
    pause::Stance,
    snapshot::Duty,
    stack::Service,
    status,
};

use super::super::{Node, slot::Slot};

/// Lines of output that are kept of what failed.
const LAST_LINES: usize = 20;

impl Node {
    /// As it is now.
    pub(super) fn world_of(&self, deploy: &Deploy) -> World {
        let service = &deploy.service;
        let wanted = self.revision.stack.services.get(service).map_or(0, |of| self.wanted(service, of));
        let staying = self.slots_of(service).filter(|slot| slot.is_staying());
        let paused = self.pauses.holds_rollout(service).then(|| "it goes on once the pause ends".to_owned());
        World {
            instances: staying.map(|slot| seen(slot, deploy.to_number())).collect(),
            wanted,
            revision: self.revision.number,
            release: self.revision.overrides.release(service).map_or(0, |release| release.number),
            before: self.before_of(deploy),
            printed: self.printed(deploy),
            paused,
            observing: self.stance(service) == Stance::Observe,
            gone: !self.revision.stack.services.get(service).is_some_and(Service::is_run),
        }
    }

    /// What the step, or the instance that it failed on, has printed since it began.
    fn printed(&self, deploy: &Deploy) -> Vec<String> {
        let who = match (&deploy.failed_on, &deploy.phase) {
            (_, Phase::Before { .. }) => deploy.before_name(),
            (Some(on), _) => on.clone(),
            (None, _) => return Vec::new(),
        };
        self.logs.last_since(&who, LAST_LINES, deploy.began)
    }

    /// Whether an instance must still prove itself.
    pub(in crate::node) fn on_trial(&self, slot: &Slot) -> bool {
        self.proving(slot).is_some_and(|control| control.on_trial(&slot.id()))
    }

    /// Whether it gets only what can be sent elsewhere should it fail.
    pub(in crate::node) fn is_sheltered(&self, slot: &Slot) -> bool {
        self.proving(slot).is_some_and(|control| control.is_sheltered(&slot.id()))
    }

    /// The deploy that brings this instance.
    fn proving(&self, slot: &Slot) -> Option<&Control> {
        let control = self.deploying.running.get(&slot.service)?;
        (slot.launch.release() == control.deploy().to_number()).then_some(control)
    }

    /// The weight of an instance beside the others of its service, so that one on trial gets its share and no more.
    pub(in crate::node) fn weight_of(&self, slot: &Slot) -> u16 {
        let Some(control) = self.deploying.running.get(&slot.service) else { return 1 };
        let serving = || self.slots_of(&slot.service).filter(|slot| slot.duty() == Some(Duty::Serve));
        let on_trial = serving().filter(|slot| self.on_trial(slot)).count();
        match on_trial {
            0 => 1,
            _ if !self.on_trial(slot) => evenkeel_core::deploy::WEIGHT,
            several => {
                let share = control.deploy().settings.share_percent;
                trial_weight(share, (serving().count() - several) / several)
            }
        }
    }
}

fn seen(slot: &Slot, release: u64) -> Seen {
    let memory = slot.supervisor.memory();
    let phase = slot.supervisor.phase();
    let waits_after_an_end = phase == status::Phase::Waiting && memory.exits > 0;
    let too_late = slot.supervisor.killed().filter(|_| phase == status::Phase::Starting && !memory.ready);
    Seen {
        id: slot.id(),
        new: slot.launch.release() == release,
        ready: phase == status::Phase::Running && slot.supervisor.is_healthy(),
        health: slot.verdict.health,
        reason: slot.verdict.reason.clone(),
        exits: memory.restarts + u64::from(waits_after_an_end),
        last_exit: slot.last_exit.clone(),
        too_late: too_late.map(str::to_owned),
        gave_up: phase == status::Phase::GaveUp,
    }
}
