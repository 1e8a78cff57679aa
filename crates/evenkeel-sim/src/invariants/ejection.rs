//! Ejection never takes the last healthy instance, never more than its share, and lets those that are well come
//! back when nobody else is left.

use evenkeel_core::snapshot::Duty;

use super::{Invariant, View};
use crate::fact::Fact;

pub(super) struct Ejection;

impl Invariant for Ejection {
    fn name(&self) -> &'static str {
        "ejection"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        match *fact {
            Fact::Ejected { key } => {
                let id = &view.fleet.get(key).id;
                if !view.edge.targets().any(|target| target.is_well() && target.ejected.is_none()) {
                    return Err(format!("{id} was ejected although no other instance is healthy"));
                }
                let serving = || view.edge.targets().filter(|target| target.duty == Duty::Serve);
                let out = serving().filter(|target| target.ejected.is_some()).count();
                let most = usize::from(view.scenario.service.ejection.max_percent);
                if out * 100 > serving().count() * most {
                    let all = serving().count();
                    return Err(format!("{id} was ejected: {out} of {all} are out, more than {most} %"));
                }
                Ok(())
            }
            Fact::Ticked if view.edge.healthy() == 0 => {
                let out = view.edge.targets().find(|target| target.is_well() && target.ejected.is_some());
                out.map_or(Ok(()), |out| Err(format!("{} stays ejected although nobody else is healthy", out.id)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn too_many_are_caught() {
        is_caught(Sabotage::IgnoreMinimum, "ejection");
    }

    #[test]
    fn staying_out_alone_is_caught() {
        is_caught(Sabotage::IgnoreLastOnes, "ejection");
    }
}
