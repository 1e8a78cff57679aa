//! Doing harm to exactly what was meant, and taking it back: one file for each fault.
//!
//! In two steps: [`aim`] takes hold of what is to be harmed; after that the caller asks the stack again whether this is
//! still what the plan named, and only then lets the [`Aim`] fire. So a process that was replaced in between is never
//! harmed. What lasts is a [`Harm`]: it is told how things go on, and dropping it takes it back.

mod asked;
mod bad_release;
mod clock;
mod disk;
mod freeze;
mod guard;
pub(super) mod helper;
mod kill;
mod kill_again;
mod ramp;
mod slow_dependency;
mod spike;

use std::{future::Future, io, pin::Pin};

use evenkeel_core::{
    drill::{Capacity, Fault, Plan, Target},
    status::Status,
};
use rustix::io::Errno;

use self::freeze::Pattern;
use super::{control::Control, load::Load};

/// A step of a fault, which may wait.
pub(super) type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Everything that a fault may be done with.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    /// What is going to happen.
    pub(super) plan: &'a Plan,
    /// The stack.
    pub(super) control: &'a Control,
    /// The clients.
    pub(super) load: &'a Load,
}

/// Why the harm could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FaultError {
    /// There is no such process any more.
    #[error("process {0} is gone")]
    Gone(u32),
    /// The kernel refuses.
    #[error("process {pid} cannot be signalled: {source}")]
    Refused {
        /// Which process.
        pid: u32,
        /// What the kernel says.
        source: Errno,
    },
    /// The freezer ended without its word.
    #[error("the freezer did not freeze process {0}")]
    NotFrozen(u32),
    /// This program's own file cannot be found.
    #[error("cannot start the process that takes the harm back: {0}")]
    Helper(#[source] io::Error),
    /// The stack does not do what it is told.
    #[error("{0}")]
    Stack(String),
    /// Something that does harm and takes it back does not work.
    #[error("the {name} does not do its work: {source}")]
    Broken {
        /// Which process.
        name: &'static str,
        /// What is wrong.
        source: io::Error,
    },
    /// It cannot be done on this machine, or by this user.
    #[error("{0}")]
    NotHere(String),
    /// The plan names no process where there must be one.
    #[error("{0} has no process")]
    NoProcess(String),
}

/// Harm that was done, and what was done in words.
pub(super) type Fired<'a> = Result<(Box<dyn Harm + 'a>, String), FaultError>;

/// Something that is held and about to be harmed.
pub(super) trait Aim<'a> {
    /// Does the harm. Returns it, and what was done in words.
    fn fire(self: Box<Self>) -> Doing<'a, Fired<'a>>;
}

/// Harm that was done. Dropping it takes it back as well as a process that ends can.
pub(super) trait Harm {
    /// Whether there is still something to take back.
    fn lasts(&self) -> bool;

    /// Goes on with what needs more than one moment, at each look at the stack. Returns stages to note: a name and words.
    fn goes_on<'h>(
        &'h mut self,
        _status: Option<&'h Status>,
    ) -> Doing<'h, Result<Vec<(&'static str, String)>, FaultError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Whether it came to its end before its time was over.
    fn is_over(&self) -> bool {
        false
    }

    /// What it found out of what the service bears.
    fn found(&self) -> Option<Capacity> {
        None
    }

    /// Takes back what lasts; done when this is.
    fn release(&mut self) -> Doing<'_, ()>;

    /// Stages to note after that, if it took more than taking back.
    fn afterwards(&mut self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// Harm of which nothing is left to take back.
pub(super) struct Done;

impl Harm for Done {
    fn lasts(&self) -> bool {
        false
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {})
    }
}

/// Takes hold of what the plan is about.
pub(super) async fn aim<'a>(means: Means<'a>) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    let subject = &means.plan.subject;
    let process = || subject.pid.ok_or_else(|| FaultError::NoProcess(subject.name.clone()));
    match &means.plan.fault {
        Fault::Kill if subject.target == Target::Guard => guard::aim(process()?, guard::Reach::Guard, means).await,
        Fault::Reboot => guard::aim(process()?, guard::Reach::Everything, means).await,
        Fault::DiskFull { .. } => disk::aim(process()?, means).await,
        Fault::ClockStep { by_ms, .. } => clock::aim(process()?, *by_ms, means).await,
        Fault::Kill => kill::aim(process()?),
        Fault::Freeze { for_ms } => {
            freeze::aim(means.control.helpers(), process()?, Pattern { for_ms: *for_ms, by_turns_ms: None }).await
        }
        Fault::Stutter { for_ms, stopped_ms, running_ms } => {
            let by_turns_ms = Some((*stopped_ms, *running_ms));
            freeze::aim(means.control.helpers(), process()?, Pattern { for_ms: *for_ms, by_turns_ms }).await
        }
        Fault::KillAgain { times } => kill_again::aim(means, process()?, *times).await,
        Fault::BadRelease => bad_release::aim(means).await,
        Fault::Spike { factor, .. } => spike::aim(means, *factor).await,
        Fault::Ramp { step_ms, p99_ms } => ramp::aim(means, *step_ms, *p99_ms).await,
        Fault::SlowDependency { service, for_ms, stopped_ms, running_ms } => {
            let by_turns_ms = Some((*stopped_ms, *running_ms));
            slow_dependency::aim(means, service, Pattern { for_ms: *for_ms, by_turns_ms }).await
        }
    }
}
