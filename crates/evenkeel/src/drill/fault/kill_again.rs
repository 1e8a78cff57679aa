//! SIGKILL to the process of an instance, and to each process that takes its place, so many times in all.
//!
//! Each new process is taken hold of when a status shows it and killed when the next one still does, so that no other
//! process that may have got its number is ever hit. What was given up meanwhile is started again at the end.

use evenkeel_core::{
    drill::{Subject, stages},
    status::{InstanceStatus, Phase, Status},
};
use rustix::{io::Errno, process::Signal};

use super::{Aim, Doing, FaultError, Harm, Means};
use crate::drill::{control::Control, processes::Held};

/// Holds the first process.
struct First<'a> {
    process: Held,
    loops: Loop<'a>,
}

/// What is killed, and how often still.
struct Loop<'a> {
    subject: &'a Subject,
    control: &'a Control,
    times: u32,
    killed: u32,
    /// The process that was seen last: it is killed at the next look.
    next: Option<Held>,
    /// The start that was seen last.
    generation: u64,
    gave_up: bool,
}

/// Takes hold of a process.
pub(super) fn aim<'a>(means: Means<'a>, pid: u32, times: u32) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    let Means { plan, control, .. } = means;
    let subject = &plan.subject;
    let generation = subject.generation;
    let loops = Loop { subject, control, times, killed: 0, next: None, generation, gave_up: false };
    Ok(Box::new(First { process: hold(pid)?, loops }))
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
            if std::mem::take(&mut self.gave_up) {
                self.control.restart(&self.subject.name).await;
            }
        })
    }
}
