//! The decisions of a deploy: what follows from an observation.
//!
//! What must survive is in [`Deploy`]; the trials' beginnings and counters are not, so that after a restart of whoever
//! runs this a trial begins anew. The caller keeps the deploy on disk whenever a step has changed it, and only then
//! does what the step returned. Each output is asked for again until the observation shows that it was done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Affected, BeforeStep, Deploy, Ledger, Note, Output, Phase, Seen, World,
    gate::{self, Limits, Tally, Verdict},
    words,
};
use crate::{
    journal::{Level, Reason},
    status::{Health, InstanceId},
    time::{Moment, WallTime, in_words},
};

/// So many ends of new processes fail a deploy. One may be an accident.
const MOST_EXITS: u64 = 2;

/// How long a new instance must be ejected.
const EJECTED_FOR: Duration = Duration::from_millis(500);

/// The edge tells its counters four times a second. They are awaited for so long: there may be no edge.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);

/// A trial, or what comes after it.
#[derive(Clone, Debug)]
struct Trial {
    since: Moment,
    new: Tally,
    old: Tally,
}

/// A deploy under way.
#[derive(Clone, Debug)]
pub struct Control {
    deploy: Deploy,
    ledger: Ledger,
    trials: BTreeMap<InstanceId, Trial>,
    /// New instances that were ready and are not well, since when.
    unwell: BTreeMap<InstanceId, Moment>,
    /// Instances of the new release, those that are gone included.
    new: BTreeSet<InstanceId>,
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
            new: BTreeSet::new(),
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

    /// Whether an instance of the new release gets requests only as far as a trial permits.
    pub fn on_trial(&self, id: &InstanceId) -> bool {
        match self.deploy.phase {
            Phase::Rolling => !self.deploy.passed.contains(&id.to_string()),
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
        let mut reasons = vec![
            Reason::seen(how),
            Reason::rule("the step before a deploy must succeed"),
            Reason::ruled_out("replacing instances: nothing was changed, and none was"),
        ];
        if world.before == BeforeStep::None {
            reasons.push(Reason::ruled_out("running it again: it may have done its work already"));
        }
        self.deploy.failed_on = Some(self.deploy.before_name());
        self.deploy.last_output.clone_from(&world.printed);
        reasons.splice(1..1, self.last_line());
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
        for seen in world.instances.iter().filter(|seen| seen.new) {
            if let Some(reasons) = self.condemn(seen, now) {
                return self.fail(Some(seen.id.name.clone()), reasons, world.revision);
            }
        }
        let mut outputs = Vec::new();
        for seen in world.instances.iter().filter(|seen| seen.new && seen.ready) {
            match self.trial(seen, world, now) {
                Ok(note) => outputs.extend(note.map(Output::Note)),
                Err(reasons) => return self.fail(Some(seen.id.name.clone()), reasons, world.revision),
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
            Some(seen) => format!(", {} is on trial", seen.id.name),
            None => match world.instances.iter().find(|seen| seen.new && !seen.ready) {
                Some(seen) => format!(", {} is starting", seen.id.name),
                None => String::new(),
            },
        };
        format!("{serving} of {} instances passed{doing}", world.wanted)
    }

    /// Why a new instance fails the deploy by what became of its process, if it does.
    fn condemn(&mut self, seen: &Seen, now: Moment) -> Option<Vec<Reason>> {
        let name = &seen.id.name;
        let last = seen.last_exit.as_deref().unwrap_or("it never started");
        if seen.gave_up {
            return Some(vec![Reason::seen(format!("{name} gave up: {last}"))]);
        }
        if let Some(late) = &seen.too_late {
            return Some(vec![
                Reason::seen(format!("{name} did not get ready")),
                Reason::seen(late.clone()),
                Reason::seen(if seen.reason.is_empty() {
                    "it was never probed".to_owned()
                } else {
                    seen.reason.clone()
                }),
            ]);
        }
        if seen.exits >= MOST_EXITS {
            return Some(vec![
                Reason::seen(format!("{name} ended {} times: {last}", seen.exits)),
                Reason::rule("one end may be an accident, a second one is not"),
            ]);
        }
        if seen.health == Health::Ejected {
            // Whether its process has ended, which would be the cause, is heard a moment later than what that caused.
            let since = *self.unwell.entry(seen.id.clone()).or_insert(now);
            if now.since(since) < EJECTED_FOR {
                self.wake_at(since + EJECTED_FOR);
                return None;
            }
            let before = seen.last_exit.as_ref().map(|exit| Reason::seen(format!("its former process: {exit}")));
            let mut reasons =
                vec![Reason::seen(format!("{name} was ejected by what its traffic showed: {}", seen.reason))];
            reasons.extend(before);
            reasons.push(Reason::rule("a new instance that is ejected has failed its trial"));
            return Some(reasons);
        }
        if !matches!(seen.health, Health::Unhealthy | Health::Silent) {
            self.unwell.remove(&seen.id);
            return None;
        }
        let passed = self.deploy.passed.contains(&seen.id.to_string());
        if !passed && !self.trials.contains_key(&seen.id) && !self.unwell.contains_key(&seen.id) {
            // It has not been ready yet, for which there is a bound of its own.
            return None;
        }
        let since = *self.unwell.entry(seen.id.clone()).or_insert(now);
        let bound = self.watch();
        if now.since(since) < bound {
            self.wake_at(since + bound);
            return None;
        }
        let what = format!("{name} was ready and has been {} for {}: {}", seen.health, in_words(bound), seen.reason);
        Some(vec![Reason::seen(what)])
    }

    /// Begins a trial, or judges it. An error is why it failed.
    fn trial(&mut self, seen: &Seen, world: &World, now: Moment) -> Result<Option<Note>, Vec<Reason>> {
        let old = self.answered_by_old(world);
        let began = Trial { since: now, new: self.ledger.of(&seen.id), old: old.clone() };
        let trial = self.trials.entry(seen.id.clone()).or_insert(began).clone();
        let passed = self.deploy.passed.contains(&seen.id.to_string());
        let limits = Limits { watch: self.watch(), max_errors_percent: self.deploy.settings.max_errors_percent };
        let new = self.ledger.of(&seen.id).since(&trial.new);
        let verdict = gate::judge(&limits, now.since(trial.since), &new, &old.since(&trial.old));
        let reasons = match verdict {
            Verdict::Failed(mut reasons) => {
                let shown = reasons.remove(0).text;
                let cause = format!("{} answers worse than what it replaces: {shown}", seen.id.name);
                reasons.insert(0, Reason::seen(cause));
                return Err(reasons);
            }
            _ if passed => return Ok(None),
            Verdict::Passed(reasons) => reasons,
            Verdict::Watching if self.deploy.settings.canary && !self.deploy.passed.is_empty() => {
                vec![Reason::rule("only the first new instance is on trial; this one is ready")]
            }
            Verdict::Watching => {
                self.wake_at(trial.since + limits.watch);
                self.wake_at(now + gate::LEAST);
                return Ok(None);
            }
        };
        self.deploy.passed.insert(seen.id.to_string());
        Ok(Some(Note {
            level: Level::Info,
            subject: seen.id.name.clone(),
            kind: "trial-passed",
            message: format!("passed its trial as an instance of {}", words::release(self.deploy.to_number())),
            reasons,
        }))
    }

    fn answered_by_old(&self, world: &World) -> Tally {
        self.ledger.sum(|id| world.instances.iter().any(|seen| !seen.new && seen.id == *id))
    }

    fn watch(&self) -> Duration {
        Duration::from_millis(self.deploy.settings.watch_ms)
    }

    fn wake_at(&mut self, at: Moment) {
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

    /// The former release comes back.
    fn fail(&mut self, on: Option<String>, reasons: Vec<Reason>, revision: u64) -> Vec<Output> {
        self.deploy.affected = self.affected();
        self.deploy.phase = Phase::RollingBack;
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
            if world.revision != self.deploy.revision {
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
        self.deploy.last_output.clone_from(&world.printed);
        self.finish(Phase::RolledBack, wall);
        let mut reasons = self.deploy.reasons.clone();
        reasons.splice(reasons.len().min(1)..reasons.len().min(1), self.last_line());
        reasons.push(Reason::seen(self.deploy.affected.to_string()));
        let message = words::sentence(&self.deploy, None);
        vec![self.note(Level::Error, "rolled-back", message, reasons)]
    }

    /// The last thing that was printed, as a reason.
    fn last_line(&self) -> Option<Reason> {
        let line = self.deploy.last_output.iter().rev().find(|line| !line.trim().is_empty())?;
        Some(Reason::seen(format!("its last line: {}", line.trim())))
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
