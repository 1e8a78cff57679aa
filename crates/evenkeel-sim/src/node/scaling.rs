//! Elastic scaling as the node process does it: what the edge counts is averaged, the controller is asked once a
//! second, and what it decides is written down before it is acted upon.

use std::time::Duration;

use evenkeel_core::{
    pause::Stance,
    rollout::State,
    scale::{Decision, Kind, Observation, Reading, Scaler},
    stack::Elastic,
    time::Moment,
};

use super::{Node, outputs, reconcile::observe};
use crate::{Sabotage, context::Context, fact::Fact, queue::NodeEvent};

/// How often the controller is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Counters that are older say nothing.
const STALE: Duration = Duration::from_secs(3);

/// What a node process knows of an elastic service. It is lost with it.
#[derive(Debug)]
pub(super) struct Scaling {
    settings: Elastic,
    scaler: Scaler,
    sum: f64,
    samples: u32,
    heard: Option<Moment>,
    /// Requests that had come at the last look, and those that have come by now.
    come: (u64, u64),
}

impl Node {
    /// Begins to scale with what was wanted before this life.
    pub(super) fn begin_scaling(&mut self, ctx: &mut Context) {
        let Some(settings) = self.elastic.clone() else { return };
        if ctx.off(Sabotage::ForgetWanted) {
            self.disk.desired.replicas = settings.min;
        }
        let scaler = Scaler::new(self.disk.desired.replicas.clamp(settings.min, settings.max), ctx.now);
        self.scaling = Some(Scaling { settings, scaler, sum: 0.0, samples: 0, heard: None, come: (0, 0) });
        ctx.node_after(EVERY, NodeEvent::Look);
    }

    /// The edge counted.
    pub(super) fn counted(&mut self, in_flight: u64, come: u64, ctx: &Context) {
        let Some(scaling) = &mut self.scaling else { return };
        scaling.sum += f64::from(u32::try_from(in_flight).expect("fewer are in flight than there are requests"));
        scaling.samples += 1;
        scaling.heard = Some(ctx.now);
        scaling.come.1 = come;
    }

    /// An operator fixes the number, or leaves it to the load again.
    pub(super) fn order(&mut self, replicas: Option<u32>, ctx: &mut Context) {
        self.disk.pinned = replicas.is_some() && self.elastic.is_some();
        if let Some(replicas) = replicas {
            self.disk.desired.replicas = replicas;
        } else if let (Some(scaling), Some(settings)) = (&mut self.scaling, &self.elastic) {
            self.disk.desired.replicas = self.disk.desired.replicas.clamp(settings.min, settings.max);
            scaling.scaler = Scaler::new(self.disk.desired.replicas, ctx.now);
        } else if let Some(settings) = &self.elastic {
            self.disk.desired.replicas = self.disk.desired.replicas.clamp(settings.min, settings.max);
        }
        ctx.fact(Fact::Ordered { replicas: self.disk.desired.replicas, pinned: self.disk.pinned });
    }

    /// The controller's second is over.
    pub(super) fn look(&mut self, ctx: &mut Context) {
        ctx.node_after(EVERY, NodeEvent::Look);
        let states: Vec<State> = self.slots.iter().map(|(number, slot)| observe(*number, slot, ctx).state).collect();
        let failed = self.slots.values().filter(|slot| slot.supervisor.memory().fruitless > 0).count();
        let stance = self.stance(ctx);
        let Some(scaling) = self.scaling.as_mut().filter(|_| !self.disk.pinned) else { return };
        let seen = scaling.observe(&states, failed, ctx.now);
        let mut settings = scaling.settings.clone();
        if ctx.off(Sabotage::FewerAtOnce) {
            settings.down_after = evenkeel_core::stack::Duration::s(1);
        }
        let Some(decision) = scaling.scaler.on(&settings, &seen, ctx.now) else { return };
        if decision.kind == Kind::Up && ctx.off(Sabotage::NeverMore) {
            return;
        }
        if stance != Stance::Act {
            return ctx.seen("scale: held by a pause");
        }
        scaling.scaler.take(&decision, ctx.now);
        self.decided(&decision, ctx);
    }

    fn decided(&mut self, decision: &Decision, ctx: &mut Context) {
        let Decision { kind, from, to, message, reasons } = decision;
        ctx.seen(match kind {
            Kind::Up => "scale: up",
            Kind::Down => "scale: down",
            Kind::Limited => "scale: limited",
        });
        let words = outputs::words(reasons);
        ctx.line(kind.as_str(), u64::from(*from), u64::from(*to), || format!("{message}: {words}"));
        if from != to {
            self.disk.desired.replicas = *to;
            ctx.fact(Fact::Scaled { from: *from, to: *to });
            ctx.fact(Fact::Disturbed);
        }
    }
}

impl Scaling {
    fn observe(&mut self, states: &[State], failed: usize, now: Moment) -> Observation {
        let ready = states.iter().filter(|state| **state == State::Ready).count();
        let deaf = self.heard.is_none_or(|heard| now.since(heard) > STALE);
        let average = if self.samples == 0 { 0.0 } else { self.sum / f64::from(self.samples) };
        let asked = average > 0.0 || self.come.1 > self.come.0;
        (self.sum, self.samples, self.come.0) = (0.0, 0, self.come.1);
        let count = |n: usize| u32::try_from(n).expect("instances are few");
        Observation {
            ready: count(ready),
            drained: 0,
            failing: count(failed),
            busy: (!deaf).then_some(asked),
            in_flight: if deaf { Reading::Unknown("silence".to_owned()) } else { Reading::Known(average) },
            cpu_percent: Reading::Idle,
            p99_ms: Reading::Idle,
            p99_requests: 0,
            backlog: Reading::Idle,
        }
    }
}
