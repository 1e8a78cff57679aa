//! `reboot`: everything of the stack dies at once, as by a loss of power, and starts again.
//!
//! It owns no state. Nobody can be served in between, so errors of that time are counted apart; what is judged is that
//! all of it comes back, every service that was well before, by what starts it at boot, in time, without an error afterwards, and with every write that was
//! acknowledged. SIGKILL leaves the kernel's page cache as it is: a write that is lost only with the machine itself does
//! not show here.

use super::{Condition, Drill, Fault, Ground, Observed, Plan, Refusal, Signs, Target, Unavoidable, Wish, signs};
use crate::status::Status;

/// See the module.
pub(super) struct Reboot;

impl Drill for Reboot {
    fn name(&self) -> &'static str {
        "reboot"
    }

    fn summary(&self) -> &'static str {
        "kills `keel up` and every instance at once, as a loss of power does, and waits until all of it is back"
    }

    fn usual_s(&self) -> (u64, u64) {
        (4, 12)
    }

    fn target(&self) -> Target {
        Target::Stack
    }

    fn fault(&self, _ground: &Ground<'_>, _wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::Reboot)
    }

    fn notes(&self, ground: &Ground<'_>) -> Vec<String> {
        let mut notes = vec![
            "nobody can be served from the harm until recovery: requests that fail in that time do not fail the drill"
                .to_owned(),
            "where nothing starts `keel up` again within 3 s, this drill does, in the background, as a machine's start \
             would"
                .to_owned(),
            "a real loss of power also loses what the operating system had not yet put on the disk; this drill does not, \
             so it says nothing about such writes"
                .to_owned(),
            "what the machine itself takes to start is not in these times: only what runs on it was started again"
                .to_owned(),
        ];
        let others: Vec<&str> =
            ground.status.services.iter().map(|s| s.name.as_str()).filter(|name| *name != ground.service).collect();
        if !others.is_empty() {
            notes.push(format!("every service goes down with it, and must come back: {} too", others.join(", ")));
        }
        notes
    }

    fn signs(&self, plan: &Plan, status: &Status, _released: bool) -> Signs {
        let Some(guard) = plan.subject.pid.filter(|pid| *pid != status.guard.pid).map(|_| status.guard.pid) else {
            return Signs::default();
        };
        let back = format!("`keel up` is back, process {guard}");
        let in_force = status.edge.as_ref().is_some_and(|edge| edge.applied == edge.snapshot);
        let all = if in_force { signs::all_well_again(plan, status) } else { None };
        Signs { detected: Some(back.clone()), replaced: Some(back), recovered: all }
    }

    fn silences_the_stack(&self) -> bool {
        true
    }

    fn unavoidable(&self) -> Unavoidable {
        Unavoidable::UntilRecovery
    }

    fn judge_more(&self, _plan: &Plan, observed: &Observed) -> Vec<Condition> {
        let everything_ended = observed.instances_before.iter().all(|pid| !observed.instances_after.contains(pid));
        match (observed.recovered_at_ms, everything_ended) {
            (None, _) => Vec::new(),
            (Some(_), true) => vec![Ok("every instance was started anew".to_owned())],
            (Some(_), false) => vec![Err("an instance outlived the harm, so this was no reboot".to_owned())],
        }
    }
}
