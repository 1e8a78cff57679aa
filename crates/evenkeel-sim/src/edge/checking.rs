//! Probes: when they are sent and what their results are told to.

use std::time::Duration;

use evenkeel_core::{silence, snapshot::Check, time::Moment};

use super::{Edge, tell_liveness};
use crate::{
    Sabotage,
    context::Context,
    fact::Fact,
    fleet::{Fleet, Key},
    queue::{EdgeEvent, Which},
};

/// A probe whose result is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) key: Key,
    kind: Kind,
    sent: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Check,
    Liveness,
    /// Asked for by the silence rule under this number.
    Tight(u64),
}

impl Edge {
    /// A probe is due; so is the next one after the interval.
    pub(super) fn probe_due(&mut self, key: Key, which: Which, fleet: &mut Fleet, ctx: &mut Context) {
        let (kind, check) = match which {
            Which::Check => (Kind::Check, self.service.check.as_ref()),
            Which::Liveness => (Kind::Liveness, self.service.liveness.as_ref()),
        };
        let times = |check: &Check| (check.interval_ms, check.timeout_ms);
        let (Some((interval_ms, timeout_ms)), true) = (check.map(times), self.targets.contains_key(&key)) else {
            return;
        };
        ctx.edge_after(Duration::from_millis(interval_ms), EdgeEvent::ProbeDue(key, which));
        self.send_probe(key, kind, Duration::from_millis(timeout_ms), fleet, ctx);
    }

    /// The silence rule wants to know.
    pub(super) fn probe_tightly(
        &mut self,
        key: Key,
        number: u64,
        timeout: Duration,
        fleet: &mut Fleet,
        ctx: &mut Context,
    ) {
        ctx.seen("silence: probe");
        self.send_probe(key, Kind::Tight(number), timeout, fleet, ctx);
    }

    fn send_probe(&mut self, key: Key, kind: Kind, timeout: Duration, fleet: &mut Fleet, ctx: &mut Context) {
        let probe = self.name();
        self.probes.insert(probe, Probe { key, kind, sent: ctx.now });
        // Where an answer comes within a few milliseconds no timeout can come before it.
        if !fleet.get_mut(key).probe(probe, ctx) {
            let result = Err("no answer in time");
            ctx.edge_after(timeout, EdgeEvent::Probed { probe, result });
        }
    }

    /// A probe ended. A result that comes after its timeout finds nobody waiting.
    pub(super) fn probed(
        &mut self,
        probe: u64,
        result: Result<(), &'static str>,
        fleet: &mut Fleet,
        ctx: &mut Context,
    ) {
        let Some(Probe { key, kind, sent }) = self.probes.remove(&probe) else {
            return;
        };
        match kind {
            Kind::Check => {
                self.checked(key, result, ctx);
                self.ask_silence(key, 0, (sent, result), fleet, ctx);
            }
            Kind::Liveness => self.liveness_checked(key, result.is_ok(), ctx),
            Kind::Tight(number) => {
                let lie = ctx.off(Sabotage::AccuseWithoutProof);
                let result = if lie { Err("no answer in time") } else { result };
                if result.is_ok() {
                    ctx.seen("silence: suspicion refuted");
                    ctx.fact(Fact::TightPassed { key });
                }
                self.ask_silence(key, number, (sent, result), fleet, ctx);
            }
        }
    }

    fn checked(&mut self, key: Key, result: Result<(), &'static str>, ctx: &mut Context) {
        let Some(target) = self.targets.get_mut(&key) else {
            return;
        };
        let changed = target.check.on(result.is_ok());
        target.check_reason = match result {
            Ok(()) => "its check passes".to_owned(),
            Err(cause) => format!("{} probes in a row failed: {cause}", target.check.run()),
        };
        if changed.is_some() {
            self.judge(key, ctx);
        }
    }

    fn liveness_checked(&mut self, key: Key, passing: bool, ctx: &mut Context) {
        let Some(target) = self.targets.get_mut(&key) else {
            return;
        };
        let before = target.live;
        if before == Some(passing) || (before.is_none() && !passing) {
            return;
        }
        target.live = Some(passing);
        if !passing {
            ctx.seen("liveness: failing");
        } else if before == Some(false) {
            ctx.seen("liveness: passing again");
        }
        ctx.line("liveness", key, u64::from(passing), || format!("process {key}: passing {passing}"));
        tell_liveness(key, passing, ctx);
    }

    fn ask_silence(
        &mut self,
        key: Key,
        number: u64,
        (sent, result): (Moment, Result<(), &'static str>),
        fleet: &mut Fleet,
        ctx: &mut Context,
    ) {
        let took = ctx.now.since(sent);
        let outputs = self.silence.on(silence::Event::Probed { key, number, took, result }, ctx.now);
        self.obey_silence(outputs, fleet, ctx);
    }
}
