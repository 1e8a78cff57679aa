//! The step before a deploy: a process like any other of the guard's, started once and awaited.
//!
//! Its key holds the deploy's number, so that a successor knows it again. Its end is kept with the deploy before the
//! guard is told to forget it; until then it can be asked for again.

use std::os::fd::OwnedFd;

use evenkeel_core::{
    deploy::{BeforeStep, Deploy, Phase},
    guard::{Notice, Order},
    journal::{Level, Reason},
    stack::Service,
    status::ExitStatus,
    time::Moment,
};

use super::{super::Node, LAST_WORDS};
use crate::{channel::Received, launch::Launch, node::inventory::Process};

/// A step as the node process knows it.
#[derive(Clone, Debug)]
pub(super) struct Before {
    key: String,
    since: Moment,
    /// How it ended, and when.
    end: Option<(Result<(), String>, Moment)>,
}

impl Before {
    fn begun(key: String, since: Moment) -> Self {
        Self { key, since, end: None }
    }

    /// When its end may be told: what it printed last is read first.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.end.as_ref().map(|(_, at)| *at + LAST_WORDS)
    }
}

impl Node {
    /// How the step of a deploy is.
    pub(super) fn before_of(&self, deploy: &Deploy) -> BeforeStep {
        let step = self.deploying.before.get(&deploy.service).filter(|step| step.key == deploy.before_key());
        match step {
            None => BeforeStep::None,
            Some(step) if step.deadline().is_none_or(|at| at > self.clock.now()) => {
                BeforeStep::Running { since: step.since }
            }
            Some(Before { end: Some((Err(how), _)), .. }) => BeforeStep::Failed { how: how.clone() },
            Some(_) => BeforeStep::Succeeded,
        }
    }

    /// Orders its start. An error says why it could not even be asked for.
    pub(super) fn start_before(&mut self, service: &str) -> Result<(), String> {
        let deploy = self.deploying.running[service].deploy().clone();
        let Phase::Before { command, .. } = &deploy.phase else { return Ok(()) };
        let mut overrides = self.revision.overrides.clone();
        overrides.of(service).release.clone_from(&deploy.to);
        let stack = overrides.lay_over(&self.revision.declared);
        let of = stack.services.get(service).ok_or_else(|| format!("there is no service {service} any more"))?;
        // The step runs as an instance would, apart from what it runs.
        let step = Service { run: Some(command.clone()), files: None, ..of.clone() };
        let (key, name) = (deploy.before_key(), deploy.before_name());
        let launch = Launch::new(&step, &self.revision.dir).expect("a step has a command");
        let launch = launch.with_secrets(&self.secrets);
        self.let_into_release(service, &launch)?;
        let mut spec = launch.spec(service, &name, 0, &self.secrets).map_err(|error| error.to_string())?;
        // It listens nowhere.
        spec.env.retain(|(name, _)| name != "PORT");
        let order = Order::Spawn { key: key.clone(), spec };
        self.orders
            .give(&order)
            .map_err(|error| format!("command and environment are too large for the guard: {error}"))?;
        self.deploying.before.insert(service.to_owned(), Before::begun(key, self.clock.now()));
        let program = command.first().map_or("", String::as_str);
        let reasons = vec![Reason::rule("it runs once, before anything else is changed, and must succeed")];
        self.note(Level::Info, service, "before", format!("running `{program}` before the deploy"), reasons);
        Ok(())
    }

    pub(super) fn kill_before(&self, service: &str) {
        if let Some(step) = self.deploying.before.get(service).filter(|step| step.end.is_none()) {
            self.give(&Order::Kill { key: step.key.clone() });
        }
    }

    /// Once what came of the step is kept, the guard need not know it any more.
    pub(super) fn after_before(&mut self, former: &Deploy, now: &Deploy) {
        let was = matches!(former.phase, Phase::Before { .. });
        if !was || matches!(now.phase, Phase::Before { .. }) {
            return;
        }
        if let Some(step) = self.deploying.before.get(&now.service).filter(|step| step.end.is_some()) {
            self.give(&Order::Forget { key: step.key.clone() });
        }
    }

    /// Takes a notice about a step; `Some` gives it back, since it is about something else.
    pub(in crate::node) fn before_notice(&mut self, (notice, fd): Received) -> Option<Received> {
        let (Notice::Started { key, .. } | Notice::NotStarted { key, .. } | Notice::Exited { key, .. }) = &notice
        else {
            return Some((notice, fd));
        };
        let known = self.deploying.before.iter().find(|(_, step)| step.key == *key);
        let Some(service) = known.map(|(service, _)| service.clone()) else { return Some((notice, fd)) };
        match notice {
            Notice::Started { .. } => self.listen_to_before(&service, fd),
            Notice::NotStarted { reason, .. } => self.before_ended(&service, Err(reason)),
            Notice::Exited { status, .. } => self.before_ended(&service, outcome(status)),
            _ => {}
        }
        None
    }

    fn listen_to_before(&mut self, service: &str, pipe: Option<OwnedFd>) {
        if let Some(pipe) = pipe {
            self.logs.attach(&format!("{service}/before"), pipe);
        }
    }

    fn before_ended(&mut self, service: &str, how: Result<(), String>) {
        let now = self.clock.now();
        if let Some(step) = self.deploying.before.get_mut(service) {
            step.end = Some((how, now));
        }
    }

    /// Takes a process over that a former life started as a step; gives it back where it is none of a deploy that
    /// waits for it.
    pub(in crate::node) fn adopt_before(&mut self, process: Process) -> Option<Process> {
        let waits = |deploy: &Deploy| {
            deploy.before_key() == process.key && matches!(deploy.phase, Phase::Before { ordered: true, .. })
        };
        let service = self.deploying.running.iter().find(|(_, control)| waits(control.deploy()));
        let Some(service) = service.map(|(service, _)| service.clone()) else { return Some(process) };
        let mut step = Before::begun(process.key, self.clock.moment_of_process(process.pid, process.started));
        step.end = process.exit.map(|status| (outcome(status), self.clock.now()));
        self.deploying.before.insert(service.clone(), step);
        self.listen_to_before(&service, process.pipe);
        None
    }
}

fn outcome(status: ExitStatus) -> Result<(), String> {
    if status == ExitStatus::Code(0) { Ok(()) } else { Err(status.to_string()) }
}
