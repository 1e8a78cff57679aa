//! Deploys: keeping what core decides about them, and doing it.
//!
//! [`Deploying`] is what the node process knows of deploys. Each time the world settles, every deploy under way gets a
//! fresh observation; what it decides is kept on disk first and done then, so that a successor goes on from there. The
//! decisions are those of [`evenkeel_core::deploy`]; the replacing is done by the rollout.

mod before;
mod begin;
mod observe;
mod show;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evenkeel_core::{
    deploy::{Control, Deploy, Output, Phase},
    journal::{Level, Reason},
    time::Moment,
};
use tokio::sync::oneshot;

use self::before::Before;
pub(crate) use self::{
    begin::{Store, Wanted},
    show::History,
};
use super::{Node, NotOrdered, Refused};
use crate::{
    clock::wall_now,
    state_dir::{Deploys, StateDir, number_of, release_numbers, remove_all},
};

/// More steps than any one observation leads to; what is left then is done when the world settles next.
const MOST_ROUNDS: usize = 8;

/// Names a problem of ours.
const PROBLEM: &str = "deploys";

/// What the API asks.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Where an artefact for a service may be put.
    Store { service: String, reply: oneshot::Sender<Result<Store, NotOrdered>> },
    /// A deploy.
    Begin { wanted: Wanted, who: String, reply: oneshot::Sender<Result<History, NotOrdered>> },
    /// A former release, or the end of the deploy under way.
    Rollback { service: String, to: Option<u64>, who: String, reply: oneshot::Sender<Result<History, NotOrdered>> },
    /// What there was and is.
    History { service: String, reply: oneshot::Sender<Result<History, NotOrdered>> },
}

/// Everything known of deploys.
#[derive(Debug, Default)]
pub(super) struct Deploying {
    /// As they are on disk, by service.
    kept: BTreeMap<String, Deploys>,
    /// Those under way.
    running: BTreeMap<String, Control>,
    /// The steps before them.
    before: BTreeMap<String, Before>,
}

impl Deploying {
    /// What a former life left.
    pub(super) fn open(dir: &StateDir) -> Self {
        let left = dir.incoming();
        std::thread::spawn(move || remove_all(left));
        let kept = dir.deploys();
        let under_way = kept.iter().filter_map(|(service, deploys)| {
            let last = deploys.last().filter(|last| !last.is_over())?;
            Some((service.clone(), Control::new(last.clone())))
        });
        Self { running: under_way.collect(), before: BTreeMap::new(), kept }
    }
}

impl Node {
    /// Goes on with the deploys of a former life, once it is known which processes are left of it.
    pub(super) fn resume_deploys(&mut self) {
        let fresh = self.hello.node_starts == 0;
        for service in self.deploying.running.keys().cloned().collect::<Vec<_>>() {
            let nothing_left = !self.slots.keys().any(|(of, _)| *of == service);
            let mut control = self.deploying.running[&service].clone();
            let outputs = if fresh && nothing_left { control.found_dead(self.revision.number) } else { Vec::new() };
            if outputs.is_empty() {
                let message = format!("the deploy of {service} goes on where it was");
                let reasons = vec![Reason::seen("the node process was started again in the middle of it")];
                self.note(Level::Info, &service, "deploying", message, reasons);
                self.deploying.running.insert(service, control);
            } else if self.keep_deploy(control.deploy()) {
                self.deploying.running.insert(service.clone(), control);
                self.do_outputs(&service, outputs);
            }
        }
    }

    pub(super) fn deploy_command(&mut self, ask: Ask) {
        match ask {
            Ask::Store { service, reply } => drop(reply.send(self.release_store(&service))),
            Ask::Begin { wanted, who, reply } => {
                let begun = self.begin_deploy(&wanted, &who);
                let _ = self.settle();
                drop(reply.send(begun.and_then(|service| self.deploy_history(&service))));
            }
            Ask::Rollback { service, to, who, reply } => {
                let begun = self.roll_back(&service, to, &who);
                let _ = self.settle();
                drop(reply.send(begun.and_then(|()| self.deploy_history(&service))));
            }
            Ask::History { service, reply } => drop(reply.send(self.deploy_history(&service))),
        }
    }

    /// When a deploy has something to decide although nothing happens.
    pub(super) fn deploys_deadline(&self) -> Option<Moment> {
        let steps = self.deploying.before.values().filter_map(Before::deadline);
        self.deploying.running.values().filter_map(Control::deadline).chain(steps).min()
    }

    /// Gives the edge's counters to the deploys under way.
    pub(super) fn deploys_counted(&mut self) {
        for control in self.deploying.running.values_mut() {
            control.counted(self.traffic.newest());
        }
    }

    /// Decides and does what is due.
    pub(super) fn deploy_steps(&mut self) {
        for service in self.deploying.running.keys().cloned().collect::<Vec<_>>() {
            for _ in 0..MOST_ROUNDS {
                if !self.deploy_step(&service) {
                    break;
                }
            }
        }
    }

    /// One observation and what follows from it. Returns whether there may be more to do at once.
    fn deploy_step(&mut self, service: &str) -> bool {
        let Some(mut control) = self.deploying.running.get(service).cloned() else { return false };
        let former = control.deploy().clone();
        let world = self.world_of(&former);
        let outputs = control.step(&world, self.clock.now(), wall_now());
        let changed = *control.deploy() != former;
        if changed && !self.keep_deploy(control.deploy()) {
            // Nothing was done yet, so it is decided again when the disk takes it.
            return false;
        }
        self.after_before(&former, control.deploy());
        self.deploying.running.insert(service.to_owned(), control);
        self.do_outputs(service, outputs) && changed
    }

    /// Does what was decided. Returns whether all of it could be done.
    fn do_outputs(&mut self, service: &str, outputs: Vec<Output>) -> bool {
        let mut done = true;
        for output in outputs {
            let refused = match output {
                Output::StartBefore => self.start_before(service).err(),
                Output::KillBefore => {
                    self.kill_before(service);
                    None
                }
                Output::PutInForce { release, why, reasons } => {
                    let applied = self.override_with(&why, reasons, |of| of.of(service).release = release);
                    applied.err().map(|refused| in_words(&refused))
                }
                Output::Note(note) => {
                    self.note(note.level, &note.subject, note.kind, note.message, note.reasons);
                    None
                }
            };
            if let Some(why) = refused {
                done = false;
                self.deploy_refused(service, &why);
            }
        }
        self.end_deploy(service);
        done
    }

    /// Something could not be done. On the way there the deploy ends; on the way back it is tried again.
    fn deploy_refused(&mut self, service: &str, why: &str) {
        let Some(mut control) = self.deploying.running.get(service).cloned() else { return };
        if control.deploy().phase == Phase::RollingBack {
            let problem = format!("{service} cannot be rolled back yet, which is tried again: {why}");
            if self.problems.insert(PROBLEM, problem.clone()).is_none() {
                self.note(Level::Error, service, "rollback-delayed", problem, Vec::new());
            }
            return;
        }
        let outputs = control.refused(why, wall_now());
        if !self.keep_deploy(control.deploy()) {
            // Its state says what it said before, and this is found again when the disk takes it.
            return;
        }
        self.deploying.running.insert(service.to_owned(), control);
        for output in outputs {
            if let Output::Note(note) = output {
                self.note(note.level, &note.subject, note.kind, note.message, note.reasons);
            }
        }
    }

    /// Keeps a deploy on disk. Whether that worked.
    fn keep_deploy(&mut self, deploy: &Deploy) -> bool {
        let mut deploys = self.deploying.kept.get(&deploy.service).cloned().unwrap_or_default();
        deploys.put(deploy);
        match self.dir.save_deploys(&deploy.service, &deploys) {
            Ok(()) => {
                self.deploying.kept.insert(deploy.service.clone(), deploys);
                self.problems.remove(PROBLEM);
                true
            }
            Err(error) => {
                let problem = format!("the deploy of {} waits: it cannot be kept on disk ({error})", deploy.service);
                if self.problems.insert(PROBLEM, problem.clone()).is_none() {
                    self.note(Level::Error, &deploy.service, "deploy-delayed", problem, Vec::new());
                }
                false
            }
        }
    }

    /// What follows the end of a deploy: nothing waits for it any more, and old releases go.
    fn end_deploy(&mut self, service: &str) {
        if !self.deploying.running.get(service).is_some_and(|control| control.deploy().is_over()) {
            return;
        }
        self.deploying.running.remove(service);
        self.deploying.before.remove(service);
        self.prune_releases(service);
    }

    /// Removes releases that nobody will need: from here on nothing finds them, and a thread of its own frees their room.
    fn prune_releases(&self, service: &str) {
        let keep = self.revision.stack.services.get(service).map_or(u8::MAX, |of| of.deploy.keep);
        let numbers = release_numbers();
        let deploys = self.deploying.kept.get(service).map_or(&[][..], |deploys| &deploys.all);
        self.dir.judge_releases(service, deploys);
        let gone = self.dir.prune_releases(service, usize::from(keep), &self.releases_in_use(service));
        drop(numbers);
        tokio::task::spawn_blocking(move || remove_all(gone));
    }

    /// Releases whose folders somebody runs in, or will when this or that fails.
    fn releases_in_use(&self, service: &str) -> BTreeSet<u64> {
        let last = self.deploying.kept.get(service).and_then(Deploys::last);
        let deployed = last.into_iter().flat_map(|last| [last.to.as_ref(), last.from.as_ref()]).flatten();
        let in_force = self.revision.overrides.release(service);
        let folders = deployed.chain(in_force).filter_map(|release| release.dir.as_deref()).filter_map(number_of);
        let number = self.revision.overrides.release(service).map_or(0, |release| release.number);
        let target = self.former_release(service, number);
        let running = self.slots_of(service).filter_map(|slot| number_of(slot.launch.service().dir.as_deref()?));
        folders.chain(running).chain(target).collect()
    }
}

fn in_words(refused: &Refused) -> String {
    match refused {
        Refused::Stack(faults) => format!("{} is not valid", faults.file),
        Refused::Machine(error) => error.split().0,
        _ => "keel is being stopped".to_owned(),
    }
}

/// How long after its end the last words of a step are still read from its pipe.
const LAST_WORDS: Duration = Duration::from_millis(100);
