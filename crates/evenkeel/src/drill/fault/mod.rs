//! Doing harm to exactly what was meant, and taking it back: one file for each fault.
//!
//! In two steps: [`aim`] takes hold of what is to be harmed; after that the caller asks the stack again whether this is
//! still what the plan named, and only then lets the [`Aim`] fire. So a process that was replaced in between is never
//! harmed. What lasts is a [`Harm`]: it is told how things go on, and dropping it takes it back.

mod freeze;
mod kill;

use std::{future::Future, io, pin::Pin};

use evenkeel_core::{
    drill::{Fault, Plan},
    status::Status,
};
use rustix::io::Errno;

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
    /// The freezer does not start.
    #[error("cannot start the freezer: {0}")]
    Freezer(#[source] io::Error),
    /// The freezer ended without its word.
    #[error("the freezer did not freeze process {0}")]
    NotFrozen(u32),
    /// The plan names no process where there must be one.
    #[error("{0} has no process")]
    NoProcess(String),
}

/// Something that is held and about to be harmed.
pub(super) trait Aim<'a> {
    /// Does the harm. Returns it, and what was done in words.
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>>;
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

    /// Takes back what lasts; done when this is.
    fn release(&mut self) -> Doing<'_, ()>;
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
        Fault::Kill => kill::aim(process()?),
        Fault::Freeze { for_ms } => freeze::aim(process()?, *for_ms).await,
        other => unreachable!("no drill plans {other} yet"),
    }
}
