//! `full-disk`: the processes of keel can write nothing to files, as when the disk of the state directory is full.
//!
//! It owns no state. Instances keep their disk: what is rehearsed is that serving and supervision need none of keel's
//! own. It must be said while it lasts, no client may notice, and it must be got over without help.

use super::{Condition, Drill, Fault, Ground, Observed, Plan, Refusal, Signs, Target, Wish, in_words, signs};
use crate::status::Status;

/// How a status says that the journal cannot be written begins so.
const SAID: &str = "journal cannot be written";

/// See the module.
pub(super) struct FullDisk;

impl Drill for FullDisk {
    fn name(&self) -> &'static str {
        "full-disk"
    }

    fn summary(&self) -> &'static str {
        "lets keel write nothing to its state directory for a while: clients must not notice, and it must be said"
    }

    fn usual_s(&self) -> (u64, u64) {
        (5, 12)
    }

    fn target(&self) -> Target {
        Target::Node
    }

    fn fault(&self, _ground: &Ground<'_>, wish: &Wish) -> Result<Fault, Refusal> {
        Ok(Fault::DiskFull { for_ms: wish.lasts_ms() })
    }

    fn notes(&self, _ground: &Ground<'_>) -> Vec<String> {
        vec![
            "the disk itself stays as it is: the kernel is told that files of the node process (and of the edge, \
             where that is permitted) may have no byte (RLIMIT_FSIZE), and what was allowed before is restored afterwards"
                .to_owned(),
            "what the node process starts meanwhile, as a check by a command, is under the same limit until the end"
                .to_owned(),
            "instances may write as before".to_owned(),
        ]
    }

    fn signs(&self, plan: &Plan, status: &Status, released: bool) -> Signs {
        let said = status.problems.iter().find(|problem| problem.contains(SAID));
        let over = released && said.is_none() && Some(status.node.pid) == plan.subject.pid;
        Signs {
            detected: said.cloned(),
            replaced: None,
            recovered: signs::service_of(plan, status).filter(|_| over).and_then(signs::all_healthy),
        }
    }

    fn judge_more(&self, plan: &Plan, observed: &Observed) -> Vec<Condition> {
        let mut conditions = vec![match (observed.detected_at_ms, observed.released_at_ms) {
            (Some(at), Some(released)) if at <= released => {
                Ok("`keel status` said that nothing can be written while it was so".to_owned())
            }
            (Some(_), _) => Err("that nothing can be written was said only when it was over".to_owned()),
            (None, _) => Err(format!("nobody said in {} that nothing can be written", in_words(plan.fault.lasts_ms()))),
        }];
        conditions.extend(signs::same_instances(observed));
        conditions
    }
}
