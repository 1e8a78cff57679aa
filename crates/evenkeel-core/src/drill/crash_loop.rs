//! `crash-loop`: an instance dies at each start, several times in a row, as with a broken file or a full memory.
//!
//! It owns no state. Others must answer meanwhile; the instance must be started again each time, but not in a hurry:
//! a program that dies at once and is started at once again takes the machine from those that work. So each further
//! start has to come later than the one before, and the last one has to hold. The times are taken from the stages of
//! the run, `fault` and [`KILLED`] to [`START`].

use super::{
    Condition, Drill, Fault, Ground, NOTHING_SHOWN, Observed, Plan, Refusal, Signs, Stage, Target, Wish, in_words,
    signs,
};
use crate::status::Status;

/// How often it dies.
pub(super) const TIMES: u32 = 5;
/// How much later than the quickest start the last two must come: far more than what a busy machine adds to a start.
const LATER_MS: u64 = 150;

/// The stage of a new process.
pub const START: &str = "start";
/// The stage of its death.
pub const KILLED: &str = "killed";
/// The stage of an instance that nobody starts any more.
pub const GAVE_UP: &str = "gave-up";

/// See the module.
pub(super) struct CrashLoop;

impl Drill for CrashLoop {
    fn name(&self) -> &'static str {
        "crash-loop"
    }

    fn summary(&self) -> &'static str {
        "kills one instance with SIGKILL at each of its starts, five times, while test visitors read and write"
    }

    fn usual_s(&self) -> (u64, u64) {
        (4, 7)
    }

    fn target(&self) -> Target {
        Target::Instance
    }

    fn fault(&self, _ground: &Ground<'_>, _wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::KillAgain { times: TIMES })
    }

    fn notes(&self, ground: &Ground<'_>) -> Vec<String> {
        let Some(service) = ground.stack.services.get(ground.service) else { return Vec::new() };
        let attempts = service.restart.attempts;
        if attempts > TIMES {
            return Vec::new();
        }
        vec![format!(
            "`restart.attempts` is {attempts}: the instance will be given up, and is started again at the end"
        )]
    }

    fn signs(&self, plan: &Plan, status: &Status, _released: bool) -> Signs {
        let last = plan.subject.generation + u64::from(TIMES);
        signs::of_instance(plan, status, |seen| seen.generation >= last && seen.pid.is_some())
    }

    fn judge_more(&self, plan: &Plan, observed: &Observed) -> Vec<Condition> {
        let name = &plan.subject.name;
        if let Some(stage) = observed.stages.iter().find(|stage| stage.name == GAVE_UP) {
            return vec![Err(format!("{name} was given up: {}", stage.detail))];
        }
        let waits = waits(&observed.stages);
        let (Some(quickest), [.., last_but_one, last]) = (waits.iter().min(), &waits[..]) else {
            return vec![Err(format!("{name} died at no further start, so {NOTHING_SHOWN} about a loop of crashes"))];
        };
        let words: Vec<String> = waits.iter().map(|ms| in_words(*ms)).collect();
        let words = words.join(", ");
        vec![if *last.min(last_but_one) >= quickest + LATER_MS {
            Ok(format!("each start came later than the one before: after {words}"))
        } else {
            Err(format!("nothing slowed the loop of crashes down: {name} was started again after {words}"))
        }]
    }
}

/// How long it took from each death to the start after it.
fn waits(stages: &[Stage]) -> Vec<u64> {
    let mut died = None;
    let mut waits = Vec::new();
    for stage in stages {
        match stage.name.as_str() {
            "fault" | KILLED => died = Some(stage.at_ms),
            START => waits.extend(died.take().map(|at| stage.at_ms.saturating_sub(at))),
            _ => {}
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_from_each_death_to_the_next_start() {
        let stage = |name: &str, at_ms| Stage::new(name, at_ms, "");
        let stages = [
            stage("load", 0),
            stage("fault", 100),
            stage("detected", 110),
            stage(START, 120),
            stage(KILLED, 130),
            stage(START, 260),
            stage(KILLED, 270),
        ];
        assert_eq!(waits(&stages), [20, 130]);
    }
}
