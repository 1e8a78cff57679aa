//! SIGKILL to one process.

use rustix::{io::Errno, process::Signal};

use super::{Aim, Doing, Done, FaultError, Harm};
use crate::drill::processes::Held;

/// Holds the process that will be killed.
struct Kill(Held);

/// Takes hold of a process.
pub(super) fn aim<'a>(pid: u32) -> Result<Box<dyn Aim<'a>>, FaultError> {
    match Held::open(pid) {
        Ok(held) => Ok(Box::new(Kill(held))),
        Err(Errno::SRCH) => Err(FaultError::Gone(pid)),
        Err(source) => Err(FaultError::Refused { pid, source }),
    }
}

impl<'a> Aim<'a> for Kill {
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        let Held { pid, .. } = self.0;
        let done = match self.0.signal(Signal::KILL) {
            Ok(true) => Ok((Box::new(Done) as Box<dyn Harm>, format!("SIGKILL to process {pid}"))),
            Ok(false) => Err(FaultError::Gone(pid)),
            Err(source) => Err(FaultError::Refused { pid, source }),
        };
        Box::pin(async { done })
    }
}
