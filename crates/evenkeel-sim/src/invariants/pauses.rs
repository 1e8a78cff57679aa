//! While a service is paused, nothing is started again and nothing is scaled, unless something was ordered meanwhile;
//! and a restart of the node process does not end a pause.

use super::{Invariant, View};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct Pauses {
    /// Paused, and nothing has been ordered since.
    quiet: bool,
}

impl Invariant for Pauses {
    fn name(&self) -> &'static str {
        "pauses"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        match *fact {
            Fact::Paused => self.quiet = true,
            Fact::Resumed | Fact::Ordered { .. } | Fact::Applied { .. } | Fact::TriedAgain { .. } => self.quiet = false,
            Fact::Spawned { key } if self.quiet => {
                return Err(format!("{} was started although the service is paused", view.fleet.get(key).id));
            }
            Fact::Scaled { from, to } if self.quiet => {
                return Err(format!("scaled from {from} to {to} although the service is paused"));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn is_caught_when_off() {
        is_caught(Sabotage::IgnorePauses, "pauses");
    }
}
