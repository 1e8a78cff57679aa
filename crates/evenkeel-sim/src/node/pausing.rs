//! Pauses: for a time nothing is done without an order. They are kept on disk, so that a restart does not end them.

use std::time::Duration;

use evenkeel_core::{pause::Stance, supervise::Event, time::Moment};

use super::Node;
use crate::{Sabotage, context::Context, fact::Fact, fleet::Fleet, queue::NodeEvent};

/// A pause in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    until: Moment,
    /// Something was ordered since it began, and is carried out.
    ordered: bool,
}

impl Node {
    /// An operator pauses the service.
    pub(super) fn pause(&mut self, length: Duration, ctx: &mut Context) {
        self.disk.paused = Some(Pause { until: ctx.now + length, ordered: false });
        ctx.seen("order: pause");
        ctx.line("pause", 0, 0, || format!("paused for {} ms", length.as_millis()));
        ctx.fact(Fact::Paused);
        ctx.node_after(length, NodeEvent::PauseOver);
    }

    /// What a former life was told goes on.
    pub(super) fn go_on_with_pause(&self, ctx: &mut Context) {
        if let Some(pause) = self.disk.paused {
            ctx.node_after(pause.until.since(ctx.now), NodeEvent::PauseOver);
        }
    }

    /// The time of a pause may be over.
    pub(super) fn pause_over(&mut self, fleet: &mut Fleet, ctx: &mut Context) {
        if self.disk.paused.is_none_or(|pause| ctx.now < pause.until) {
            return;
        }
        self.disk.paused = None;
        ctx.line("resume", 0, 0, || "the pause is over".to_owned());
        ctx.fact(Fact::Resumed);
        ctx.fact(Fact::Interrupted);
        for number in self.slots.keys().copied().collect::<Vec<_>>() {
            self.step(number, Event::Tick, fleet, ctx);
        }
    }

    /// Something was ordered, which a pause does not stop.
    pub(super) fn ordered(&mut self) {
        if let Some(pause) = &mut self.disk.paused {
            pause.ordered = true;
        }
    }

    /// Whether a pause is in force.
    pub fn is_paused(&self) -> bool {
        self.disk.paused.is_some()
    }

    /// What may be done without an order.
    pub(super) fn stance(&self, ctx: &Context) -> Stance {
        if self.is_paused() && !ctx.off(Sabotage::IgnorePauses) { Stance::Paused } else { Stance::Act }
    }

    /// Whether a change of instances that is under way has to wait.
    pub(super) fn holds_rollout(&self, ctx: &Context) -> bool {
        self.stance(ctx) == Stance::Paused && self.disk.paused.is_some_and(|pause| !pause.ordered)
    }
}
