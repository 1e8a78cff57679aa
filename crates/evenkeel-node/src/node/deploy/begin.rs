//! Orders of operators: a deploy, a rollback. Each is checked whole and refused with the way out, or kept.

use std::collections::BTreeMap;

use evenkeel_core::{
    deploy::{Control, Deploy, Kind, Output, Phase, Settings},
    journal::{Level, Reason},
    overrides::Release,
    stack::Service,
};

use super::{
    super::{Node, NotOrdered, Refused},
    Deploys,
};
use crate::{
    clock::wall_now,
    launch::{Launch, RELEASE_VARIABLE},
    state_dir::{StateDir, Stored, release_numbers},
    users,
};

/// What is to be deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) service: String,
    /// The number of an artefact that was stored.
    pub(crate) release: Option<u64>,
    /// Another command.
    pub(crate) run: Option<Vec<String>>,
    /// Variables beside those of the release in force.
    pub(crate) env: BTreeMap<String, String>,
    /// Only the first new instance is on trial, with this share of the requests.
    pub(crate) canary_percent: Option<u8>,
    /// Another length of each trial.
    pub(crate) watch_ms: Option<u64>,
}

/// Where an artefact may be put.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) dir: StateDir,
    pub(crate) most_bytes: u64,
    /// Its number is to be higher.
    pub(crate) above: u64,
}

impl Node {
    /// A release lies in the state directory, where a service's own user has no business otherwise.
    pub(in crate::node) fn let_into_release(&self, service: &str, launch: &Launch) -> Result<(), String> {
        let dir = launch.service().dir.as_ref().filter(|_| launch.release() > 0);
        let (Some(_), Some(user)) = (dir, &launch.service().user) else { return Ok(()) };
        let user = users::resolve(user).map_err(|error| error.to_string())?;
        let let_in = self.dir.let_into_releases(service, user.gid);
        let_in.map_err(|error| format!("its user cannot be let into the release's folder: {error}"))
    }

    pub(super) fn release_store(&self, service: &str) -> Result<Store, NotOrdered> {
        let of = self.run_service(service, "deployed")?;
        self.none_under_way(service)?;
        let most_bytes = of.deploy.max_size.as_bytes();
        Ok(Store { dir: self.dir.clone(), most_bytes, above: self.newest_release(service) })
    }

    /// Begins a deploy; returns whose.
    pub(super) fn begin_deploy(&mut self, wanted: &Wanted, who: &str) -> Result<String, NotOrdered> {
        if self.shutdown.is_some() {
            return Err(Refused::Stopping.into());
        }
        let service = wanted.service.clone();
        let of = self.run_service(&service, "deployed")?;
        self.none_under_way(&service)?;
        // No artefact that is being stored may get the same number meanwhile.
        let numbers = release_numbers();
        let stored = self.stored_for(wanted, &of)?;
        let (release, stored) = self.make_release(wanted, stored);
        self.check_release(&service, &release)?;
        self.dir.save_release(&service, &stored).map_err(|error| self.cannot_keep_release(&error))?;
        drop(numbers);
        let mut settings = settings(&of);
        if let Some(share) = wanted.canary_percent {
            settings.canary = true;
            settings.share_percent = share;
        }
        settings.watch_ms = wanted.watch_ms.unwrap_or(settings.watch_ms);
        let phase = match &of.before {
            Some(command) => Phase::Before { command: command.clone(), ordered: false },
            None => Phase::Rolling,
        };
        self.begin(&service, Kind::Deploy, Some(release), settings, phase, who)?;
        Ok(service)
    }

    /// Puts a former release in force, or ends the deploy under way.
    pub(super) fn roll_back(&mut self, service: &str, to: Option<u64>, who: &str) -> Result<(), NotOrdered> {
        if self.shutdown.is_some() {
            return Err(Refused::Stopping.into());
        }
        let of = self.run_service(service, "rolled back")?;
        if let Some(control) = self.deploying.running.get(service).filter(|_| !self.gives_way(service)) {
            return self.abort_deploy(service, control.clone(), to, who);
        }
        let in_force = self.revision.overrides.release(service).map_or(0, |release| release.number);
        let number = match to {
            Some(number) => number,
            None => self.former_release(service, in_force).ok_or_else(|| {
                let fix = format!("`keel rollback {service} --list` shows what there is; --to N chooses one.");
                NotOrdered::no(format!("nothing was in force before what {service} runs now"), fix)
            })?,
        };
        if number == in_force {
            let what = format!("{} is in force already", named(number));
            return Err(NotOrdered::no(what, format!("`keel rollback {service} --list` shows what there is.")));
        }
        let release = if number == 0 { None } else { Some(self.kept_release(service, number)?) };
        if let Some(release) = &release {
            self.check_release(service, release)?;
        }
        self.begin(service, Kind::Rollback, release, settings(&of), Phase::Rolling, who)
    }

    fn begin(
        &mut self,
        service: &str,
        kind: Kind,
        to: Option<Release>,
        settings: Settings,
        phase: Phase,
        who: &str,
    ) -> Result<(), NotOrdered> {
        self.end_for_another(service, who)?;
        let number = self.deploying.kept.get(service).and_then(Deploys::last).map_or(0, |last| last.number) + 1;
        let deploy = Deploy {
            number,
            service: service.to_owned(),
            kind,
            from: self.revision.overrides.release(service).cloned(),
            to,
            by: format!("by {who}"),
            began: wall_now(),
            ended: None,
            settings,
            phase,
            revision: self.revision.number,
            passed: std::collections::BTreeSet::new(),
            reasons: Vec::new(),
            failed_on: None,
            last_output: Vec::new(),
            affected: evenkeel_core::deploy::Affected::default(),
        };
        if !self.keep_deploy(&deploy) {
            let why = self.problems.get(super::PROBLEM).cloned().unwrap_or_default();
            return Err(NotOrdered::no("the deploy cannot be kept on disk, so it was not begun", why));
        }
        let mut reasons = vec![Reason::seen(&deploy.by)];
        if let Some(rollout) = self.rollouts.get(service) {
            reasons.push(Reason::seen(format!("instances were being replaced already: {rollout}")));
        }
        reasons.push(Reason::rule("instances are replaced one by one, and each proves itself first"));
        let message =
            format!("{} is being deployed in place of {}", named(deploy.to_number()), named(deploy.from_number()));
        self.note(Level::Info, service, "deploying", message, reasons);
        self.ordered_of(service);
        self.deploying.running.insert(service.to_owned(), Control::new(deploy));
        Ok(())
    }

    fn abort_deploy(
        &mut self,
        service: &str,
        mut control: Control,
        to: Option<u64>,
        who: &str,
    ) -> Result<(), NotOrdered> {
        let from = control.deploy().from_number();
        if to.is_some_and(|to| to != from) {
            let what = format!("{} of {service} is being deployed", named(control.deploy().to_number()));
            let fix = format!("`keel rollback {service}` ends it and puts {} in force again.", named(from));
            return Err(NotOrdered::no(what, fix));
        }
        let outputs = control.abort(&format!("by {who}"), self.revision.number, wall_now());
        if outputs.is_empty() {
            return Err(NotOrdered::no(
                format!("{service} is being rolled back already"),
                format!("keel why {service}"),
            ));
        }
        if !self.keep_deploy(control.deploy()) {
            let why = self.problems.get(super::PROBLEM).cloned().unwrap_or_default();
            return Err(NotOrdered::no("the rollback cannot be kept on disk, so it was not begun", why));
        }
        self.deploying.running.insert(service.to_owned(), control);
        self.ordered_of(service);
        self.do_outputs(service, outputs);
        Ok(())
    }

    /// Whether the deploy under way only waits for instances of a former release that is in force again already.
    fn gives_way(&self, service: &str) -> bool {
        self.deploying.running.get(service).is_some_and(|control| {
            let world = self.world_of(control.deploy());
            !control.clone().give_way(&world, "", wall_now()).is_empty()
        })
    }

    /// Ends the deploy under way that gives way.
    fn end_for_another(&mut self, service: &str, who: &str) -> Result<(), NotOrdered> {
        let Some(mut control) = self.deploying.running.get(service).cloned() else { return Ok(()) };
        let world = self.world_of(control.deploy());
        let outputs = control.give_way(&world, &format!("by {who}"), wall_now());
        if !self.keep_deploy(control.deploy()) {
            let why = self.problems.get(super::PROBLEM).cloned().unwrap_or_default();
            return Err(NotOrdered::no("the deploy cannot be kept on disk, so it was not begun", why));
        }
        // Releases are pruned at the end of the next one, which may be about to put one of them in force.
        self.deploying.running.remove(service);
        for output in outputs {
            if let Output::Note(note) = output {
                self.note(note.level, &note.subject, note.kind, note.message, note.reasons);
            }
        }
        Ok(())
    }

    fn none_under_way(&self, service: &str) -> Result<(), NotOrdered> {
        let Some(control) = self.deploying.running.get(service).filter(|_| !self.gives_way(service)) else {
            return Ok(());
        };
        let release = named(control.deploy().to_number());
        if control.deploy().phase == Phase::RollingBack {
            let fix = "`keel status` shows how far that is; try again in a moment.";
            return Err(NotOrdered::no(format!("{release} of {service} is being rolled back"), fix));
        }
        let fix = format!("`keel status` shows how far it is; `keel rollback {service}` ends it.");
        Err(NotOrdered::no(format!("{release} of {service} is being deployed"), fix))
    }

    /// The artefact that was stored for this deploy.
    fn stored_for(&self, wanted: &Wanted, of: &Service) -> Result<Option<Stored>, NotOrdered> {
        let service = &wanted.service;
        if wanted.run.is_some() && of.files.is_some() {
            let fix = format!("Give the folder: keel deploy {service} --from DIR");
            return Err(NotOrdered::no(format!("{service} serves files and runs no command"), fix));
        }
        if wanted.release.is_none() && wanted.run.is_none() && wanted.env.is_empty() {
            let fix = format!("Give an artefact, a command or variables: keel deploy {service} --from DIR");
            return Err(NotOrdered::no("there is nothing to deploy", fix));
        }
        let Some(number) = wanted.release else { return Ok(None) };
        let stored = self.dir.releases(service).into_iter().find(|stored| stored.number == number);
        stored.filter(|stored| stored.release.is_none()).map(Some).ok_or_else(|| {
            let fix = format!("Send its artefact first: keel deploy {service} --from DIR");
            NotOrdered::no(format!("release {number} of {service} is not one that waits to be deployed"), fix)
        })
    }

    /// What is not given stays as it is in the release in force.
    fn make_release(&self, wanted: &Wanted, stored: Option<Stored>) -> (Release, Stored) {
        let service = &wanted.service;
        let in_force = self.revision.overrides.release(service);
        let stored = stored.unwrap_or_else(|| Stored {
            number: self.newest_release(service) + 1,
            digest: String::new(),
            files: 0,
            size_bytes: 0,
            release: None,
            whole: false,
            fault: None,
        });
        let number = stored.number;
        let mut env = in_force.map(|release| release.env.clone()).unwrap_or_default();
        env.extend(wanted.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        env.insert(RELEASE_VARIABLE.to_owned(), number.to_string());
        let (digest, dir) = if wanted.release.is_some() {
            (stored.digest.clone(), Some(self.dir.release_dir(service, number).display().to_string()))
        } else {
            in_force.map(|release| (release.digest.clone(), release.dir.clone())).unwrap_or_default()
        };
        let run = wanted.run.clone().or_else(|| in_force.and_then(|release| release.run.clone()));
        let release = Release { number, digest, dir, run, env, deployed: wall_now() };
        (release.clone(), Stored { release: Some(release), ..stored })
    }

    /// Whether what a release needs is there: its folder, its secrets.
    fn check_release(&self, service: &str, release: &Release) -> Result<(), NotOrdered> {
        if let Some(dir) = release.dir.as_deref().filter(|dir| !std::path::Path::new(dir).is_dir()) {
            let fix = format!("`keel rollback {service} --list` shows what there is.");
            return Err(NotOrdered::no(format!("the files of release {} are gone: {dir}", release.number), fix));
        }
        let mut overrides = self.revision.overrides.clone();
        overrides.of(service).release = Some(release.clone());
        let stack = overrides.lay_over(&self.revision.declared);
        self.check_secrets_of(service, &stack).map_err(|error| Refused::Machine(error).into())
    }

    fn kept_release(&self, service: &str, number: u64) -> Result<Release, NotOrdered> {
        let kept = self.dir.releases(service);
        let found = kept.iter().find(|stored| stored.number == number).and_then(|stored| stored.release.clone());
        found.ok_or_else(|| {
            let deployed = kept.iter().filter(|stored| stored.release.is_some());
            let known = deployed.map(|stored| stored.number.to_string());
            let known: Vec<String> = std::iter::once("0 (what the stack file says)".to_owned()).chain(known).collect();
            let fix = format!("There are: {}.", known.join(", "));
            NotOrdered::no(format!("release {number} of {service} is not kept"), fix)
        })
    }

    /// What was in force before the release in force, by the newest deploy that put it there, and so on further back: one
    /// that was rolled back itself comes again only where it is named.
    pub(super) fn former_release(&self, service: &str, in_force: u64) -> Option<u64> {
        let all = &self.deploying.kept.get(service)?.all;
        let releases = self.dir.releases(service);
        let is_faulty = |number: u64| {
            let stored = releases.iter().find(|stored| stored.number == number);
            stored.is_some_and(|stored| {
                let mut stored = stored.clone();
                stored.judge(all);
                stored.fault.is_some()
            })
        };
        let mut number = in_force;
        for deploy in all.iter().rev().filter(|deploy| deploy.phase == Phase::Done) {
            if deploy.to_number() == number {
                number = deploy.from_number();
                if number != in_force && !is_faulty(number) {
                    return Some(number);
                }
            }
        }
        None
    }

    /// The highest number that was ever given.
    fn newest_release(&self, service: &str) -> u64 {
        let stored = self.dir.releases(service).last().map_or(0, |stored| stored.number);
        let deployed = self.deploying.kept.get(service).into_iter().flat_map(|deploys| &deploys.all);
        let in_force = self.revision.overrides.release(service).map_or(0, |release| release.number);
        deployed.map(Deploy::to_number).max().unwrap_or(0).max(stored).max(in_force)
    }

    fn cannot_keep_release(&self, error: &std::io::Error) -> NotOrdered {
        let path = self.dir.path("releases");
        NotOrdered::no(
            format!("the release cannot be kept in {}: {error}", path.display()),
            "Make room on the disk or check its mode, and deploy again; nothing was changed.",
        )
    }
}

fn settings(of: &Service) -> Settings {
    Settings {
        watch_ms: of.deploy.watch.as_ms(),
        canary: false,
        share_percent: of.deploy.share_percent,
        max_errors_percent: of.deploy.max_errors_percent,
        before_timeout_ms: of.deploy.before_timeout.as_ms(),
    }
}

fn named(number: u64) -> String {
    if number == 0 { "what the stack file says".to_owned() } else { format!("release {number}") }
}
