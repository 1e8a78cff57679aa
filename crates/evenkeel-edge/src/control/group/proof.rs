//! Whether a changed check has been passed by anybody: until then it takes out nobody who was healthy.
//!
//! A check that is wrong must not take a whole service down, so one that changed counts once an instance has passed it
//! (`evenkeel_core::health`). Here is kept whether that is awaited and what was said of it. Nothing here probes.

use evenkeel_core::{
    health::KEPT,
    link::EventKind,
    snapshot::{Check, Duty},
    status::{Basis, InstanceId},
    time::Moment,
};

use super::{Group, Hands, Key};
use crate::clock;

/// What is awaited of a changed check.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// The check in force changed, and nobody has passed it yet.
    pub(super) wanted: bool,
    /// The check of which that was said.
    said: Option<Check>,
}

impl Group {
    /// Whose verdict rests on something other than the check in force.
    pub(in crate::control) fn basis(&self) -> impl Iterator<Item = (InstanceId, Basis)> {
        let serving = self.members.values().filter(|member| member.duty == Duty::Serve);
        let others =
            serving.map(|member| (&member.shared.id, member.check.basis())).filter(|(_, basis)| !basis.is_check());
        others.map(|(id, basis)| (id.clone(), basis))
    }

    /// Says so when an instance begins or ceases to be kept against the check in force.
    pub(super) fn basis_changed(&mut self, key: Key, before: Basis, hands: &mut Hands, now: Moment) {
        let Some(member) = self.members.get_mut(&key).filter(|member| member.duty == Duty::Serve) else { return };
        let basis = member.check.basis();
        let news = match basis {
            Basis::Kept => before != Basis::Kept,
            Basis::Check => member.told.reason.starts_with(KEPT),
            Basis::Former => false,
        };
        if !news {
            return;
        }
        let (health, reason) = member.verdict();
        if health == member.told.health && reason != member.told.reason {
            let event = member.remark(reason, clock::wall(), now);
            hands.report(&self.config.name, event, now);
        }
        if basis == Basis::Kept && self.proof.said.as_ref() != Some(member.check.check()) {
            self.proof.said = Some(member.check.check().clone());
            let reason = member.check.saw();
            tracing::warn!(service = self.config.name, reason, "its changed check fails everywhere so far");
            let what = EventKind::CheckUnproven { reason };
            hands.events.of_service(&self.config.name, what, clock::wall(), now);
        }
    }

    /// Whether somebody serves by what a former check said. A new instance that passes the check in force proves nothing
    /// against those: where command and check change together, they serve until they are replaced.
    pub(super) fn rests_on_former_check(&self) -> bool {
        self.members.values().any(|member| member.duty == Duty::Serve && !member.check.basis().is_check())
    }

    /// This one has passed the check in force: it counts for everybody from now on.
    pub(super) fn proven(&mut self, by: &InstanceId, hands: &mut Hands, now: Moment) {
        self.proof.wanted = false;
        if self.proof.said.take().is_some() {
            let what = EventKind::CheckProven { by: by.clone() };
            tracing::info!(service = self.config.name, %by, "its changed check counts from now on");
            hands.events.of_service(&self.config.name, what, clock::wall(), now);
        }
        let unproven: Vec<Key> =
            self.members.iter().filter(|(_, member)| !member.check.basis().is_check()).map(|(key, _)| *key).collect();
        for key in unproven {
            self.members.entry(key).and_modify(|member| member.check.proven());
            self.judge(key, None, hands, now);
        }
    }
}
