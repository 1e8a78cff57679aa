//! One timer for the earliest of all deadlines: a timerfd on `CLOCK_BOOTTIME` (`timerfd_create(2)`), so that a
//! deadline that passed while the machine was suspended is met at once afterwards.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use evenkeel_core::time::Moment;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Readable from the armed moment on.
#[derive(Debug)]
pub(crate) struct Timer {
    descriptor: OwnedFd,
    armed: Option<Moment>,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { descriptor: timerfd_create(TimerfdClockId::Boottime, flags)?, armed: None })
    }

    /// Sets it to `at`, or to never.
    pub(crate) fn arm(&mut self, at: Option<Moment>) -> io::Result<()> {
        if self.armed == at {
            return Ok(());
        }
        // Zero would disarm it; a moment long past does not.
        let nanos = at.map_or(0, |at| at.as_nanos().max(1));
        let value = Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: never, it_value: value };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::ABSTIME, &setting)?;
        self.armed = at;
        Ok(())
    }

    /// It was readable: from now on it is disarmed.
    pub(crate) fn expired(&mut self) {
        let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
        self.armed = None;
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
