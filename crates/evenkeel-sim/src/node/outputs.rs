//! What a supervisor asks for is carried out here, in order.

use std::time::Duration;

use evenkeel_core::{
    journal::Reason,
    status::Phase,
    supervise::{Decision, Event, Output, Policy},
};

use super::{Node, Stored};
use crate::{Sabotage, context::Context, fact::Fact, fleet::Fleet, queue::NodeEvent};

impl Node {
    /// One event for one supervisor.
    pub(super) fn step(&mut self, number: u32, event: Event, fleet: &mut Fleet, ctx: &mut Context) {
        let policy = self.policy_in_force(ctx);
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        let before = slot.phase();
        let outputs = slot.supervisor.on(&policy, event, ctx.now);
        self.keep(number);
        for output in outputs {
            self.carry_out(number, output, fleet, ctx);
        }
        let Some(after) = self.slots.get(&number).map(super::Slot::phase) else {
            return;
        };
        if before != after && after == Phase::Draining {
            let drain = policy.drain;
            ctx.fact(Fact::DrainBegan { number, drain });
            if ctx.off(Sabotage::StopAtOnce) {
                self.step(number, Event::Drained, fleet, ctx);
            }
        }
    }

    /// Writes down what must survive.
    pub(super) fn keep(&mut self, number: u32) {
        let Some(slot) = self.slots.get(&number) else {
            self.disk.slots.remove(&number);
            return;
        };
        let stored = Stored {
            memory: slot.supervisor.memory().clone(),
            started: slot.supervisor.started(),
            digest: slot.digest.clone(),
            boot: slot.boot,
            process: slot.process,
        };
        let newest = self.disk.generations.entry(number).or_default();
        *newest = stored.memory.generation.max(*newest);
        self.disk.slots.insert(number, stored);
    }

    fn carry_out(&mut self, number: u32, output: Output, fleet: &mut Fleet, ctx: &mut Context) {
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        match output {
            Output::Spawn => {
                let generation = slot.supervisor.memory().generation;
                if generation > 1 && ctx.off(Sabotage::DropRestarts) {
                    return;
                }
                slot.process = fleet.spawn(number, generation, slot.boot, ctx);
                if slot.process.is_none() {
                    ctx.node_after(Duration::from_millis(1), NodeEvent::NotStarted(number, generation));
                }
                self.keep(number);
            }
            Output::Stop { grace } => {
                if let Some(key) = slot.process {
                    ctx.fact(Fact::StopSent { key });
                    fleet.stop(key, grace, ctx);
                }
            }
            Output::Kill => {
                if let Some(key) = slot.process {
                    fleet.kill(key, ctx);
                }
            }
            // The guard of this world keeps no books that would have to be cleared.
            Output::Forget => {}
            Output::Gone => {
                self.slots.remove(&number);
                self.keep(number);
                ctx.fact(Fact::Gone { number });
            }
            Output::Record(decision) => self.record(number, &decision, ctx),
        }
    }

    fn record(&self, number: u32, decision: &Decision, ctx: &mut Context) {
        let Some(slot) = self.slots.get(&number) else {
            return;
        };
        let at_once = slot.supervisor.deadline(&self.policy).is_none_or(|at| at <= ctx.now);
        ctx.seen(match (decision.kind, slot.phase()) {
            ("killing", Phase::Starting) => "supervise: killing for start",
            ("killing", _) => "supervise: killing for liveness",
            ("ready", _) => "supervise: ready",
            ("removed", _) => "supervise: removed",
            ("draining", _) => "supervise: draining",
            ("stopping", _) => "supervise: stopping",
            ("stopped", _) => "supervise: stopped",
            ("gave-up", _) => "supervise: gave-up",
            ("restarting", _) if at_once => "supervise: restarting at once",
            ("restarting", _) => "supervise: restarting after a delay",
            ("trying-again", _) => "supervise: trying-again",
            ("held", _) => "supervise: held by a pause",
            _ => "supervise: something new",
        });
        if decision.kind == "gave-up" {
            ctx.fact(Fact::GaveUp { number });
        }
        ctx.line(decision.kind, u64::from(number), 0, || format!("shop/{number}: {}", decision.message));
        ctx.trace.below(|| decision.reasons.iter().map(|reason| reason.text.clone()).collect());
    }

    pub(super) fn policy_in_force(&self, ctx: &Context) -> Policy {
        let policy = Policy { stance: self.stance(ctx), ..self.policy.clone() };
        match ctx.sabotage {
            Some(Sabotage::GiveUpEarly) => Policy { attempts: policy.attempts - 1, ..policy },
            Some(Sabotage::NoBackOff) => Policy { delay: Duration::ZERO, ..policy },
            _ => policy,
        }
    }
}

/// Reasons as one clause.
pub(super) fn words(reasons: &[Reason]) -> String {
    let texts: Vec<&str> = reasons.iter().map(|reason| reason.text.as_str()).collect();
    texts.join("; ")
}
