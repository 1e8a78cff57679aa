//! Changing what is in force without another file: the overrides that `scale`, `deploy` and `drain` make.
//!
//! All of them go through [`Node::override_with`], which makes the next revision: the same file with other overrides,
//! kept on disk before it counts. The rollout and the next snapshot do the rest, as after `apply`.

use evenkeel_core::{journal::Reason, overrides::Overrides, supervise::Event};

use super::{
    Node,
    apply::{Applied, Refused, cannot_keep},
};
use crate::{clock::wall_now, state_dir::Revision};

impl Node {
    /// Puts the same file with other overrides in force, as the next revision. `why` says as a clause what was asked
    /// ("shop was scaled to 5"), `reasons` who asked and what led to it; both go to the journal. Where `change`
    /// changes nothing, the revision in force stays and the answer names no changes.
    pub(super) fn override_with(
        &mut self,
        why: &str,
        reasons: Vec<Reason>,
        change: impl FnOnce(&mut Overrides),
    ) -> Result<Applied, Refused> {
        if self.shutdown.is_some() {
            return Err(Refused::Stopping);
        }
        let former = &self.revision;
        let mut overrides = former.overrides.clone();
        change(&mut overrides);
        overrides.prune(&former.declared);
        if overrides == former.overrides {
            let (kept, dropped) = (Vec::new(), Vec::new());
            return Ok(Applied { revision: former.number, changes: Vec::new(), kept, dropped });
        }
        let touched = touched(&former.overrides, &overrides);
        let revision = Revision { number: former.number + 1, ..former.clone() }.with(overrides);
        self.check_more_secrets(&revision.stack).map_err(Refused::Machine)?;
        self.dir.save_revision(&revision, wall_now().as_millis()).map_err(|source| cannot_keep(&self.dir, source))?;
        let applied = self.put_in_force(revision, Vec::new(), why, reasons);
        for service in &touched {
            self.ordered_of(service);
        }
        // Only where something was asked for: what gave up in another service is no business of this change.
        for place in self.slots.keys().filter(|(service, _)| touched.contains(service)).cloned().collect::<Vec<_>>() {
            self.feed(&place, Event::TryAgain { reason: why.to_owned() });
        }
        Ok(applied)
    }
}

/// The services whose own overrides differ.
fn touched(former: &Overrides, next: &Overrides) -> Vec<String> {
    let names = former.services.keys().chain(next.services.keys());
    names.filter(|name| former.services.get(*name) != next.services.get(*name)).cloned().collect()
}
