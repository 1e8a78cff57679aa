//! What follows every event: the next plan of the rollout, and a snapshot where the edge would need one.

use std::rc::Rc;

use evenkeel_core::{
    rollout::{self, Observed, Step},
    snapshot::{Duty, FORMAT, Instance, Service, Snapshot},
    status::{InstanceId, Phase},
    supervise::{Event, Memory, Supervisor},
};

use super::{Node, Slot, outputs};
use crate::{
    Sabotage,
    context::Context,
    fleet::Fleet,
    queue::{EdgeEvent, NodeEvent},
};

impl Node {
    /// After every event: what the stack wants, what the edge must know, when to look again.
    pub(super) fn settle(&mut self, fleet: &mut Fleet, ctx: &mut Context) {
        // A step may be over at once, with nothing to follow that would ask for the next plan.
        while !self.holds_rollout(ctx) && self.roll_out(fleet, ctx) {}
        self.publish(fleet, ctx);
        let policy = self.policy_in_force(ctx);
        let deadline = |slot: &Slot| slot.supervisor.deadline(&policy);
        let next = self.slots.values().filter_map(deadline).min();
        if let Some(at) = next
            && self.armed.is_none_or(|armed| at < armed)
        {
            self.armed = Some(at);
            ctx.node_after(at.since(ctx.now), NodeEvent::Wake);
        }
    }

    /// Takes the steps of one plan; whether there were any.
    fn roll_out(&mut self, fleet: &mut Fleet, ctx: &mut Context) -> bool {
        let observed: Vec<Observed> = self.slots.iter().map(|(number, slot)| observe(*number, slot, ctx)).collect();
        let plan = rollout::plan(&self.disk.desired, &observed);
        if let Some(waiting) = &plan.waiting {
            let stopped = waiting.contains("gave up");
            ctx.seen(if stopped { "rollout: stopped by a broken specification" } else { "rollout: waiting" });
        }
        let any = !plan.steps.is_empty();
        for step in plan.steps {
            match step {
                Step::Create { number, reasons } => {
                    ctx.seen("rollout: create");
                    ctx.line("create", u64::from(number), 0, || format!("shop/{number}: {}", outputs::words(&reasons)));
                    self.create(number, ctx);
                }
                Step::Retire { number, reasons } => {
                    ctx.seen("rollout: retire");
                    let reason = outputs::words(&reasons);
                    ctx.line("retire", u64::from(number), 0, || format!("shop/{number}: {reason}"));
                    self.step(number, Event::Retire { reason }, fleet, ctx);
                }
            }
        }
        any
    }

    fn create(&mut self, number: u32, ctx: &Context) {
        let known = self.disk.generations.get(&number).filter(|_| !ctx.off(Sabotage::ForgetGenerations));
        let memory = Memory { generation: known.copied().unwrap_or_default(), ..Memory::default() };
        let slot = Slot {
            supervisor: Supervisor::new(memory, ctx.now),
            digest: self.disk.desired.digest.clone(),
            boot: self.disk.boot,
            process: None,
        };
        self.slots.insert(number, slot);
        self.keep(number);
    }

    /// Sends the edge a snapshot if it would differ from the last one.
    fn publish(&mut self, fleet: &Fleet, ctx: &mut Context) {
        let duties: Vec<(InstanceId, Duty)> =
            self.slots.values().filter_map(|slot| Some((fleet.get(slot.process?).id.clone(), slot.duty()))).collect();
        if self.published.as_ref() == Some(&duties) {
            return;
        }
        self.published = Some(duties.clone());
        self.disk.version += 1;
        let instance = |(id, duty): (InstanceId, Duty)| {
            let address = format!("127.0.0.1:{}", id.generation);
            Instance { duty, ..Instance::new(id, address) }
        };
        let service = Service { instances: duties.into_iter().map(instance).collect(), ..self.service.clone() };
        let snapshot = Snapshot {
            format: FORMAT,
            version: self.disk.version,
            revision: self.disk.revision,
            stack: "shop".to_owned(),
            threads: 1,
            listeners: Vec::new(),
            routes: Vec::new(),
            services: vec![service],
        };
        ctx.to_edge(EdgeEvent::Snapshot(Rc::new(snapshot)));
    }
}

impl Slot {
    fn duty(&self) -> Duty {
        match self.phase() {
            Phase::Starting | Phase::Running if !self.supervisor.is_doomed() => Duty::Serve,
            _ => Duty::Drain,
        }
    }
}

pub(super) fn observe(number: u32, slot: &Slot, ctx: &Context) -> Observed {
    let state = match slot.phase() {
        Phase::Starting if ctx.off(Sabotage::BelieveNewOnes) => rollout::State::Ready,
        // What got ready and is not healthy now does not count, so that a bad specification does not spread.
        Phase::Running if slot.supervisor.is_healthy() => rollout::State::Ready,
        Phase::Waiting | Phase::Starting | Phase::Running => rollout::State::Starting,
        Phase::Draining | Phase::Stopping => rollout::State::Leaving,
        Phase::GaveUp => rollout::State::GaveUp,
    };
    Observed { number, digest: slot.digest.clone(), state }
}
