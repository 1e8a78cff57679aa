//! The rules that look at all instances: silence, ejection, the one verdict.

use std::time::Duration;

use evenkeel_core::{
    ejection::{Event as Eject, Output as Ejection},
    silence::{Asked, Event as Observe, Output as Silence, Seen},
    snapshot::Duty,
    status::Health,
};

use super::Edge;
use crate::{
    Sabotage,
    context::Context,
    fact::Fact,
    fleet::{Fleet, Key},
    queue::{NodeEvent, Report},
};

/// Instances that do not exist, for the sabotage of the minimum rule.
const PHANTOMS: std::ops::Range<Key> = (Key::MAX - 40)..Key::MAX;

impl Edge {
    /// Shows the rules what there is, and carries their outputs out.
    pub(super) fn tick(&mut self, fleet: &mut Fleet, ctx: &mut Context) {
        if !ctx.off(Sabotage::DeafToSilence) {
            let seen: Vec<Seen<Key>> = self.targets.values().map(|target| target.seen(self.asked)).collect();
            let outputs = self.silence.on(Observe::Observed(&seen), ctx.now);
            self.obey_silence(outputs, fleet, ctx);
        }
        self.ask_ejection(ctx);
        self.time_out(ctx);
        ctx.fact(Fact::Ticked);
    }

    /// Forms the verdict anew; says so if it changed.
    pub(super) fn judge(&mut self, key: Key, ctx: &mut Context) {
        let Some(target) = self.targets.get_mut(&key) else {
            return;
        };
        let (health, reason) = target.verdict();
        target.reason = reason;
        if target.health == health {
            return;
        }
        target.health = health;
        target.healthy_since = (health == Health::Healthy).then_some(ctx.now);
        ctx.line("verdict", key, health as u64, || format!("{} is {health}: {}", target.id, target.reason));
        match health {
            Health::Unknown => {}
            Health::Healthy => ctx.seen("health: healthy"),
            Health::Unhealthy => ctx.seen("health: unhealthy"),
            Health::Silent => ctx.seen("health: silent"),
            Health::Ejected => ctx.seen("health: ejected"),
            Health::Draining => ctx.seen("health: draining"),
        }
        let report = Report::Health(health, target.reason.clone());
        ctx.to_node(NodeEvent::Report(key, report));
    }

    pub(super) fn obey_silence(&mut self, outputs: Vec<Silence<Key>>, fleet: &mut Fleet, ctx: &mut Context) {
        for output in outputs {
            match output {
                Silence::ProbeNow { key, number, timeout } => self.probe_tightly(key, number, timeout, fleet, ctx),
                Silence::LookNow { key } => self.ask_kernel(key, fleet, ctx),
                Silence::Silent { key, reason } => {
                    ctx.seen("silence: silent");
                    ctx.fact(Fact::Silent { key });
                    if let Some(target) = self.targets.get_mut(&key) {
                        target.silent = Some(reason);
                    }
                    self.judge(key, ctx);
                    self.move_requests_off(key, fleet, ctx);
                }
                Silence::Answers { key, reason } => {
                    ctx.seen(match reason.as_str() {
                        "it runs again" => "silence: runs again",
                        "it sends again" => "silence: answers by sending",
                        _ => "silence: answers to a probe",
                    });
                    if let Some(target) = self.targets.get_mut(&key) {
                        target.silent = None;
                    }
                    self.judge(key, ctx);
                }
            }
        }
    }

    fn ask_kernel(&mut self, key: Key, fleet: &mut Fleet, ctx: &mut Context) {
        ctx.seen("silence: look");
        let stopped = fleet.get(key).frozen || ctx.off(Sabotage::AccuseWithoutProof);
        if !stopped {
            ctx.seen("silence: suspicion refuted");
            ctx.fact(Fact::TightPassed { key });
        }
        let result = if stopped { Err("its process is stopped") } else { Ok(()) };
        let outputs = self.silence.on(Observe::Looked { key, result }, ctx.now);
        self.obey_silence(outputs, fleet, ctx);
    }

    fn ask_ejection(&mut self, ctx: &mut Context) {
        let now = ctx.now;
        for target in self.targets.values_mut() {
            let key = target.key;
            if target.duty == Duty::Drain {
                self.ejector.on(Eject::Gone { key }, now);
                continue;
            }
            let well = target.is_well();
            self.ejector.on(Eject::Member { key, well }, now);
            let (ok, failed, trailing) = (target.ok, target.failed, target.trailing);
            if ok + failed > 0 {
                (target.ok, target.failed, target.trailing) = (0, 0, 0);
                self.ejector.on(Eject::Traffic { key, ok, failed, trailing }, now);
            }
        }
        if ctx.off(Sabotage::IgnoreMinimum) {
            for key in PHANTOMS {
                self.ejector.on(Eject::Member { key, well: true }, now);
            }
        }
        for output in self.ejector.on(Eject::Time, now) {
            self.obey_ejection(output, ctx);
        }
    }

    fn obey_ejection(&mut self, output: Ejection<Key>, ctx: &mut Context) {
        match output {
            Ejection::Ejected { key, reason } => {
                ctx.seen("ejection: ejected");
                ctx.fact(Fact::Ejected { key });
                if let Some(target) = self.targets.get_mut(&key) {
                    target.ejected = Some(reason);
                }
                self.judge(key, ctx);
            }
            Ejection::Returned { key, reason } => {
                let early = reason.contains("before its time");
                if early && ctx.off(Sabotage::IgnoreLastOnes) {
                    return;
                }
                ctx.seen(if early { "ejection: returned early" } else { "ejection: returned after its time" });
                ctx.fact(Fact::Returned { key });
                if let Some(target) = self.targets.get_mut(&key) {
                    target.ejected = None;
                }
                self.judge(key, ctx);
            }
            Ejection::Kept { key, reason } => {
                ctx.seen("ejection: kept");
                ctx.line("kept", key, 0, || format!("process {key} is not ejected: {reason}"));
            }
        }
    }

    /// Ends what waited too long, in hold or for an answer.
    fn time_out(&mut self, ctx: &mut Context) {
        let hold = Duration::from_millis(self.service.hold.max_ms);
        let response = Duration::from_millis(self.service.limits.response_timeout_ms);
        self.expire_held(hold, ctx);
        self.expire_tries(response, ctx);
    }
}

impl super::Target {
    fn seen(&self, asked: Asked) -> Seen<Key> {
        Seen {
            key: self.key,
            healthy: self.health == Health::Healthy,
            in_flight: self.in_flight,
            quiet_since: (self.in_flight > 0).then(|| self.last_received.max(Some(self.busy_since))).flatten(),
            last_received: self.last_received,
            asked,
        }
    }
}
