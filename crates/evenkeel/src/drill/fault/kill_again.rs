//! SIGKILL to the process of an instance, and to each process that takes its place, so many times in all.
//!
//! Each new process is taken hold of when a status shows it and killed when the next one still does, so that no other
//! process that may have got its number is ever hit. What was given up meanwhile is started again at the end, by a process
//! of its own (see `reviver`), which does so also when this one is gone.

use std::time::Duration;

use evenkeel_core::{
    drill::{Subject, stages},
    status::{InstanceStatus, Phase, Status},
};
use rustix::{io::Errno, process::Signal};

use super::{
    Aim, Doing, FaultError, Harm, Means,
    helper::{Helper, Undo},
};
use crate::{
    api::Api,
    drill::{processes::Held, reviver},
    running::Running,
};

/// How long the drill itself tries where the reviver has failed.
const AGAIN: Duration = Duration::from_secs(30);

/// Holds the first process.
struct First<'a> {
    process: Held,
    loops: Loop<'a>,
}

/// What is killed, and how often still.
struct Loop<'a> {
    subject: &'a Subject,
    reviver: Option<Helper>,
    times: u32,
    killed: u32,
    /// The process that was seen last: it is killed at the next look.
    next: Option<Held>,
    /// The start that was seen last.
    generation: u64,
    gave_up: bool,
}

/// Takes hold of a process.
pub(super) async fn aim<'a>(means: Means<'a>, pid: u32, times: u32) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    let Means { plan, control, .. } = means;
    let subject = &plan.subject;
    let generation = subject.generation;
    let process = hold(pid)?;
    let undo = Box::new(Revive { api: control.api().clone(), instance: subject.name.clone() });
    let arguments = [subject.name.clone().into(), "--state-dir".into(), control.state_dir().into()];
    let reviver = Some(Helper::start(control.helpers(), "reviver", &arguments, undo).await?);
    let loops = Loop { subject, reviver, times, killed: 0, next: None, generation, gave_up: false };
    Ok(Box::new(First { process, loops }))
}

/// The same as the reviver does, from here.
#[derive(Debug)]
struct Revive {
    api: Api,
    instance: String,
}

impl Undo for Revive {
    fn within(&self) -> Duration {
        reviver::PATIENCE + AGAIN
    }

    fn again(&self) -> Doing<'_, Result<(), String>> {
        let api = move || {
            let running = Running::in_dir(self.api.state_dir());
            Ok(running.map_or_else(|| self.api.clone(), |running| Api::of(&running)))
        };
        Box::pin(async move {
            let done = reviver::revive(&api, &self.instance, AGAIN).await;
            done.map_err(|failure| failure.what().to_owned())
        })
    }

    fn by_hand(&self) -> String {
        format!("start it by hand: keel restart {}", self.instance)
    }
}

fn hold(pid: u32) -> Result<Held, FaultError> {
    Held::open(pid).map_err(|error| match error {
        Errno::SRCH => FaultError::Gone(pid),
        source => FaultError::Refused { pid, source },
    })
}

fn kill(process: &Held) -> Result<bool, FaultError> {
    process.signal(Signal::KILL).map_err(|source| FaultError::Refused { pid: process.pid, source })
}

impl<'a> Aim<'a> for First<'a> {
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        Box::pin(async move {
            let Self { process, mut loops } = *self;
            let pid = process.pid;
            if !kill(&process)? {
                return Err(FaultError::Gone(pid));
            }
            loops.killed = 1;
            let text = format!("SIGKILL to process {pid} (1 of {})", loops.times);
            Ok((Box::new(loops) as Box<dyn Harm>, text))
        })
    }
}

impl Loop<'_> {
    fn look(&mut self, seen: &InstanceStatus) -> Result<Vec<(&'static str, String)>, FaultError> {
        let mut told = Vec::new();
        if seen.phase == Some(Phase::GaveUp) && !self.gave_up {
            self.gave_up = true;
            let last = seen.last_exit.as_deref().unwrap_or("nobody saw how it ended");
            told.push((stages::GAVE_UP, format!("it is not started any more after {} deaths: {last}", self.killed)));
        }
        if let Some(process) = self.next.take_if(|held| seen.pid == Some(held.pid))
            && kill(&process)?
        {
            self.killed += 1;
            let (pid, killed, times) = (process.pid, self.killed, self.times);
            told.push((stages::KILLED, format!("SIGKILL to process {pid} ({killed} of {times})")));
        }
        if let Some(pid) = seen.pid
            && seen.generation > self.generation
        {
            self.generation = seen.generation;
            told.push((stages::START, format!("start {}, process {pid}", seen.generation)));
            // One that has died by itself meanwhile need not be killed; its next start is seen.
            self.next = (self.killed < self.times).then(|| Held::open(pid).ok()).flatten();
        }
        Ok(told)
    }
}

impl Harm for Loop<'_> {
    fn lasts(&self) -> bool {
        self.gave_up
    }

    fn goes_on<'h>(
        &'h mut self,
        status: Option<&'h Status>,
    ) -> Doing<'h, Result<Vec<(&'static str, String)>, FaultError>> {
        let instances = status.into_iter().flat_map(|status| &status.services).flat_map(|service| &service.instances);
        let seen = instances.into_iter().find(|instance| instance.name == self.subject.name);
        let told = seen.map_or_else(|| Ok(Vec::new()), |seen| self.look(seen));
        Box::pin(async { told })
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            self.gave_up = false;
            if let Some(reviver) = self.reviver.take() {
                reviver.finish().await;
            }
        })
    }
}
