//! The decisions of a deploy: what follows from an observation.
//!
//! What must survive is in [`Deploy`]; the trials' beginnings and counters are not, so that after a restart of whoever
//! runs this a trial begins anew. The caller keeps the deploy on disk whenever a step has changed it, and only then
//! does what the step returned. Each output is asked for again until the observation shows that it was done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Affected, BeforeStep, Deploy, Ledger, Note, Output, Phase, Seen, World, trial::Trial, words};
use crate::{
    journal::{Level, Reason},
    status::InstanceId,
    time::{Moment, WallTime, in_words},
};

/// The edge tells its counters four times a second. They are awaited for so long: there may be no edge.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);

/// A deploy under way.
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) deploy: Deploy,
    pub(super) ledger: Ledger,
    pub(super) trials: BTreeMap<InstanceId, Trial>,
    /// New instances that were ready and are not well, since when.
    pub(super) unwell: BTreeMap<InstanceId, Moment>,
    /// How often new instances were ejected.
    pub(super) ejections: BTreeMap<InstanceId, u32>,
    /// Instances of the new release, those that are gone included.
    pub(super) new: BTreeSet<InstanceId>,
    /// What it would be rolled back for, were that not left to an operator: the instance, and why.
    held: Option<(Option<String>, Vec<Reason>)>,
    waiting: Option<String>,
    wake: Option<Moment>,
    /// Since when it is to be rolled back, and how often the edge has told its counters since.
    failed: Option<(Moment, u64)>,
}

impl Control {
    /// Goes on with a deploy from wherever it stands.
    pub fn new(deploy: Deploy) -> Self {
        Self {
            deploy,
            ledger: Ledger::default(),
            trials: BTreeMap::new(),
            unwell: BTreeMap::new(),
            ejections: BTreeMap::new(),
            new: BTreeSet::new(),
            held: None,
            waiting: None,
            wake: None,
            failed: None,
        }
    }

    /// What must be kept.
    pub fn deploy(&self) -> &Deploy {
        &self.deploy
    }

    /// What it waits for, in words.
    pub fn waiting(&self) -> Option<&str> {
        self.waiting.as_deref()
    }

    /// When to call [`Control::step`] again if nothing else happens before.
    pub fn deadline(&self) -> Option<Moment> {
        self.wake
    }

    /// Takes the edge's counters.
    pub fn counted(&mut self, counters: &crate::link::Counters) {
        let new = &self.new;
        self.ledger.update(&self.deploy.service, counters, |id| new.contains(id));
        if let Some((_, counted)) = &mut self.failed {
            *counted += 1;
        }
    }

    /// Why it would be rolled back, were that not left to an operator, as a clause.
    pub fn held(&self) -> Option<&str> {
        let (_, reasons) = self.held.as_ref()?;
        reasons.first().map(|reason| reason.text.as_str())
    }

    /// Whether an instance of the new release gets only requests that can be sent elsewhere should it fail them.
    pub fn is_sheltered(&self, id: &InstanceId) -> bool {
        let is_open = || self.held.is_none() && self.trials.get(id).is_some_and(|trial| trial.open);
        self.on_trial(id) && (self.deploy.phase == Phase::RollingBack || !is_open())
    }

    /// Whether an instance of the new release gets no more than a trial's share, and the next one waits for it.
    pub fn on_trial(&self, id: &InstanceId) -> bool {
        match self.deploy.phase {
            // Where nobody watches, nobody is on trial, not even for the moment until that is noted.
            Phase::Rolling => self.deploy.settings.watch_ms > 0 && !self.deploy.passed.contains(&id.to_string()),
            // It failed, or is of the same make as what failed.
            Phase::RollingBack => true,
            _ => false,
        }
    }

    /// What could not be put in force or started: the deploy ends as far as it got.
    pub fn refused(&mut self, what: &str, wall: WallTime) -> Vec<Output> {
        self.give_up(vec![Reason::seen(what)], wall)
    }

    /// An operator wants the former release back.
    pub fn abort(&mut self, by: &str, revision: u64, wall: WallTime) -> Vec<Output> {
        let reasons = vec![Reason::seen(format!("an operator asked for it {by}"))];
        match self.deploy.phase {
            Phase::Before { .. } => {
                let mut outputs = self.give_up(reasons, wall);
                outputs.push(Output::KillBefore);
                outputs
            }
            Phase::Rolling => self.fail(None, reasons, revision),
            _ => Vec::new(),
        }
    }

    /// `keel` itself had ended, and nothing that it had started runs any more.
    pub fn found_dead(&mut self, revision: u64) -> Vec<Output> {
        if self.deploy.phase == Phase::RollingBack {
            self.failed = Some((Moment::ORIGIN, 1));
        }
        if self.deploy.phase != Phase::Rolling || self.deploy.kind == super::Kind::Rollback {
            return Vec::new();
        }
        let reasons = vec![
            Reason::seen("keel and everything that it ran ended in the middle of it"),
            Reason::rule("a release that has not proven itself does not start in place of one that has"),
        ];
        // Nothing of it may start meanwhile, and nothing was counted.
        self.failed = Some((Moment::ORIGIN, 1));
        self.fail(None, reasons, revision)
    }

    /// Decides. The caller keeps [`Control::deploy`] if it changed, then does what is returned, in order.
    pub fn step(&mut self, world: &World, now: Moment, wall: WallTime) -> Vec<Output> {
        self.wake = None;
        self.new.extend(world.instances.iter().filter(|seen| seen.new).map(|seen| seen.id.clone()));
        if world.gone {
            return self.service_is_gone(wall);
        }
        if let Some(paused) = &world.paused {
            self.waiting = Some(paused.clone());
            return Vec::new();
        }
        match self.deploy.phase.clone() {
            Phase::Before { command, ordered } => self.before(&command, ordered, world, now, wall),
            Phase::Rolling => self.rolling(world, now, wall),
            Phase::RollingBack => self.rolling_back(world, now, wall),
            Phase::Done | Phase::RolledBack | Phase::Failed => Vec::new(),
        }
    }

    fn before(&mut self, command: &[String], ordered: bool, world: &World, now: Moment, wall: WallTime) -> Vec<Output> {
        let program = command.first().map_or("", String::as_str);
        if !ordered {
            self.deploy.phase = Phase::Before { command: command.to_vec(), ordered: true };
            return vec![Output::StartBefore];
        }
        self.waiting = Some(format!("`{program}` runs first"));
        let bound = Duration::from_millis(self.deploy.settings.before_timeout_ms);
        let (how, kill) = match &world.before {
            BeforeStep::Succeeded => return self.begin_rolling(world.revision),
            BeforeStep::Running { since } if now.since(*since) < bound => {
                self.wake = Some(*since + bound);
                return Vec::new();
            }
            BeforeStep::Running { .. } => {
                (format!("`{program}` was killed: it took longer than {}", in_words(bound)), true)
            }
            BeforeStep::Failed { how } => (format!("`{program}` failed: {how}"), false),
            BeforeStep::None => {
                (format!("how `{program}` ended is not known: keel ended while it ran, and so did it"), false)
            }
        };
        self.deploy.failed_on = Some(self.deploy.before_name());
        self.deploy.last_output.clone_from(&world.printed);
        let said = self.last_line().map_or_else(String::new, |line| format!(": {line} (its last line)"));
        let mut reasons = vec![
            Reason::seen(format!("{how}{said}; nothing else was changed")),
            Reason::rule("the step before a deploy must succeed"),
        ];
        if world.before == BeforeStep::None {
            reasons.push(Reason::ruled_out("running it again: it may have done its work already"));
        }
        let mut outputs = self.give_up(reasons, wall);
        if kill {
            outputs.push(Output::KillBefore);
        }
        outputs
    }

    /// From the revision in force.
    fn begin_rolling(&mut self, revision: u64) -> Vec<Output> {
        self.deploy.phase = Phase::Rolling;
        self.deploy.revision = revision;
        self.waiting = None;
        Vec::new()
    }

    fn rolling(&mut self, world: &World, now: Moment, wall: WallTime) -> Vec<Output> {
        let to = self.deploy.to_number();
        if world.release != to {
            if world.revision == self.deploy.revision {
                let (release, verb) = (self.deploy.to.clone(), words::release(to));
                let why = format!("{}: {verb} is deployed", self.deploy.service);
                return vec![Output::PutInForce { release, why, reasons: vec![Reason::seen(&self.deploy.by)] }];
            }
            return self.superseded(world, wall);
        }
        if let Some((on, reasons)) = self.held.clone() {
            return self.fails(on, reasons, world);
        }
        for seen in world.instances.iter().filter(|seen| seen.new) {
            if let Some(reasons) = self.condemn(seen, now) {
                return self.fails(Some(seen.id.name.clone()), reasons, world);
            }
        }
        let mut outputs = Vec::new();
        for seen in world.instances.iter().filter(|seen| seen.new && seen.ready) {
            match self.trial(seen, now) {
                Ok(note) => outputs.extend(note.map(Output::Note)),
                Err(reasons) => return self.fails(Some(seen.id.name.clone()), reasons, world),
            }
        }
        self.trials.retain(|id, _| world.instances.iter().any(|seen| seen.id == *id && seen.ready));
        let passed = |seen: &&Seen| seen.new && seen.ready && self.deploy.passed.contains(&seen.id.to_string());
        let serving = world.instances.iter().filter(passed).count();
        let left = world.instances.iter().filter(|seen| !seen.new).count();
        self.waiting = Some(self.progress(world, serving));
        if left == 0 && serving >= world.wanted as usize {
            outputs.push(self.done(world, serving, wall));
        }
        outputs
    }

    fn progress(&self, world: &World, serving: usize) -> String {
        let on_trial = |seen: &&Seen| seen.new && seen.ready && self.on_trial(&seen.id);
        let doing = match world.instances.iter().find(on_trial) {
            Some(seen) => match self.trials.get(&seen.id).and_then(|trial| trial.doubt) {
                Some(doubt) => format!(", {} is on trial for longer: {doubt}", seen.id.name),
                None => format!(", {} is on trial", seen.id.name),
            },
            None => match world.instances.iter().find(|seen| seen.new && !seen.ready) {
                Some(seen) => format!(", {} is starting", seen.id.name),
                None => String::new(),
            },
        };
        format!("{serving} of {} instances passed{doing}", world.wanted)
    }

    pub(super) fn wake_at(&mut self, at: Moment) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn done(&mut self, world: &World, serving: usize, wall: WallTime) -> Output {
        self.deploy.affected = self.affected();
        self.finish(Phase::Done, wall);
        let mut reasons = vec![Reason::seen(&self.deploy.by)];
        if world.wanted == 0 {
            reasons.push(Reason::seen("no instance of this service is wanted now, so none was on trial"));
        }
        reasons.push(Reason::seen(self.deploy.affected.to_string()));
        let what = words::release(self.deploy.to_number());
        let instances = if serving == 1 { "instance" } else { "instances" };
        let message = format!("{what} is deployed: {serving} {instances} passed");
        self.note(Level::Info, "deployed", message, reasons)
    }

    /// The former release comes back, unless that is left to an operator.
    fn fails(&mut self, on: Option<String>, reasons: Vec<Reason>, world: &World) -> Vec<Output> {
        if !world.observing {
            return self.fail(on, reasons, world.revision);
        }
        let service = &self.deploy.service;
        let cause = reasons.first().map_or("", |reason| reason.text.as_str());
        self.waiting = Some(format!("it would be rolled back: {cause}; `keel rollback {service}` does it"));
        if self.held.is_some() {
            return Vec::new();
        }
        let mut noted = reasons.clone();
        noted.push(Reason::rule("mode = \"observe\": nothing is done without an order, and it goes no further"));
        noted.push(Reason::rule(format!("`keel rollback {service}` rolls it back")));
        self.held = Some((on, reasons));
        let message = format!("{} would be rolled back", words::release(self.deploy.to_number()));
        vec![self.note(Level::Error, "would-roll-back", message, noted)]
    }

    /// The former release comes back.
    fn fail(&mut self, on: Option<String>, reasons: Vec<Reason>, revision: u64) -> Vec<Output> {
        self.deploy.affected = self.affected();
        self.deploy.phase = Phase::RollingBack;
        self.held = None;
        self.deploy.revision = revision;
        self.deploy.failed_on = on;
        self.deploy.reasons = reasons;
        self.waiting = Some("instances of the former release take over again".to_owned());
        let mut noted = self.deploy.reasons.clone();
        noted.push(Reason::rule(format!("{} comes back by itself", words::release(self.deploy.from_number()))));
        let message = format!("{} does not go on: it is rolled back", words::release(self.deploy.to_number()));
        vec![self.note(Level::Error, "rolling-back", message, noted)]
    }

    fn rolling_back(&mut self, world: &World, now: Moment, wall: WallTime) -> Vec<Output> {
        let from = self.deploy.from_number();
        if world.release != from {
            // Whatever else was changed meanwhile, what failed does not stay.
            if world.release != self.deploy.to_number() {
                return self.superseded(world, wall);
            }
            // The edge forgets what it counted of an instance once that is gone, so it is heard before.
            let (since, counted) = *self.failed.get_or_insert((now, 0));
            if counted == 0 && now.since(since) < COUNTED_WITHIN {
                self.wake_at(since + COUNTED_WITHIN);
                return Vec::new();
            }
            self.deploy.affected = self.affected();
            let why = format!("{}: {} is rolled back", self.deploy.service, words::release(self.deploy.to_number()));
            let reasons = self.deploy.reasons.clone();
            return vec![Output::PutInForce { release: self.deploy.from.clone(), why, reasons }];
        }
        if world.instances.iter().any(|seen| seen.new) {
            return Vec::new();
        }
        self.rolled_back(world, Vec::new(), wall)
    }

    /// Another order for this service is wanted while the former release, in force again, does not get ready: waiting
    /// for it must not keep a better one out. Nothing is returned where that is not so.
    pub fn give_way(&mut self, world: &World, by: &str, wall: WallTime) -> Vec<Output> {
        if self.deploy.phase != Phase::RollingBack || world.release != self.deploy.from_number() {
            return Vec::new();
        }
        let left = world.instances.iter().filter(|seen| seen.new).count();
        let more = Reason::seen(format!("another order came {by} while {left} of its instances were left"));
        self.rolled_back(world, vec![more], wall)
    }

    fn rolled_back(&mut self, world: &World, more: Vec<Reason>, wall: WallTime) -> Vec<Output> {
        self.deploy.last_output.clone_from(&world.printed);
        self.finish(Phase::RolledBack, wall);
        let mut reasons = self.deploy.reasons.clone();
        let said = self.last_line().map(|line| Reason::seen(format!("its last line: {line}")));
        reasons.splice(reasons.len().min(1)..reasons.len().min(1), said);
        reasons.extend(more);
        reasons.push(Reason::seen(self.deploy.affected.to_string()));
        let message = words::sentence(&self.deploy, None);
        vec![self.note(Level::Error, "rolled-back", message, reasons)]
    }

    /// The last thing that was printed.
    fn last_line(&self) -> Option<&str> {
        self.deploy.last_output.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty())
    }

    /// Somebody else changed which release is in force.
    fn superseded(&mut self, world: &World, wall: WallTime) -> Vec<Output> {
        let mut reasons = vec![Reason::seen(format!(
            "another change put {} in force meanwhile (revision {})",
            words::release(world.release),
            world.revision
        ))];
        reasons.append(&mut self.deploy.reasons);
        self.give_up(reasons, wall)
    }

    fn service_is_gone(&mut self, wall: WallTime) -> Vec<Output> {
        if self.deploy.is_over() {
            return Vec::new();
        }
        let was_before = matches!(self.deploy.phase, Phase::Before { .. });
        let mut reasons = vec![Reason::seen(format!("the stack has no processes of {} any more", self.deploy.service))];
        reasons.append(&mut self.deploy.reasons);
        let mut outputs = self.give_up(reasons, wall);
        outputs.extend(was_before.then_some(Output::KillBefore));
        outputs
    }

    /// Ends it without changing anything.
    fn give_up(&mut self, reasons: Vec<Reason>, wall: WallTime) -> Vec<Output> {
        self.deploy.reasons.clone_from(&reasons);
        self.finish(Phase::Failed, wall);
        let message = words::sentence(&self.deploy, None);
        vec![self.note(Level::Error, "deploy-failed", message, reasons)]
    }

    fn finish(&mut self, phase: Phase, wall: WallTime) {
        self.deploy.phase = phase;
        self.deploy.ended = Some(wall);
        self.waiting = None;
        self.wake = None;
    }

    /// What it cost. The edge forgets what it counted of a process once that is gone, so this goes by the counters of
    /// the service: errors that no former instance answered, and tries after the first.
    fn affected(&self) -> Affected {
        let cost = self.ledger.cost();
        let former = self.ledger.sum(|id| !self.new.contains(id)).refused;
        let known = self.deploy.affected;
        Affected {
            clients: known.clients.max(cost.bad.saturating_sub(former)),
            repeated: known.repeated.max(cost.repeated),
        }
    }

    fn note(&self, level: Level, kind: &'static str, message: String, reasons: Vec<Reason>) -> Output {
        Output::Note(Note { level, subject: self.deploy.service.clone(), kind, message, reasons })
    }
}
