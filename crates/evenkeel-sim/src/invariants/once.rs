//! A request that is not idempotent is never executed twice.

use std::collections::BTreeMap;

use super::{Invariant, View};
use crate::{fact::Fact, fleet::Key};

#[derive(Default)]
pub(super) struct Once {
    executed: BTreeMap<u64, Key>,
}

impl Invariant for Once {
    fn name(&self) -> &'static str {
        "once"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        let Fact::Executed { request, idempotent: false, key } = *fact else {
            return Ok(());
        };
        let Some(before) = self.executed.insert(request, key) else {
            return Ok(());
        };
        let (first, second) = (&view.fleet.get(before).id, &view.fleet.get(key).id);
        Err(format!("request {request} was executed by {first} and by {second}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn is_caught_when_off() {
        is_caught(Sabotage::RepeatAnything, "once");
    }
}
