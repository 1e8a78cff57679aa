//! No request is sent to an instance that is not healthy by the edge's present verdict, or that is draining.

use evenkeel_core::{snapshot::Duty, status::Health};

use super::{Invariant, View};
use crate::fact::Fact;

pub(super) struct Routing;

impl Invariant for Routing {
    fn name(&self) -> &'static str {
        "routing"
    }

    fn on(&mut self, fact: &Fact, view: &View<'_>) -> Result<(), String> {
        match *fact {
            Fact::Sent { request, key, verdict, duty } if verdict != Health::Healthy || duty == Duty::Drain => {
                let id = &view.fleet.get(key).id;
                Err(format!("request {request} was sent to {id}, which is {verdict} and has duty {duty:?}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Sabotage, invariants::tests::is_caught};

    #[test]
    fn is_caught_when_off() {
        is_caught(Sabotage::IgnoreVerdict, "routing");
    }
}
