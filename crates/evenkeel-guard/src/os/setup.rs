//! What a guard does to its own process before it starts anything.

use std::{
    fs::{self, File},
    io,
    mem::ManuallyDrop,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use evenkeel_core::guard::CHANNEL_FD;
use rustix::{
    io::{DupFlags, FdFlags, dup3, fcntl_getfd, fcntl_setfd},
    mm::{MlockAllFlags, mlockall},
    process::{Resource, Rlimit, getpid, getrlimit, set_child_subreaper, setrlimit},
    thread::{CapabilitySet, capabilities},
};

/// Makes descendants whose parent died children of this process (`PR_SET_CHILD_SUBREAPER`, prctl(2)).
pub(crate) fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Marks every descriptor from 3 on close-on-exec, so that nothing that was inherited by accident is passed on.
pub(crate) fn close_inherited_on_exec() -> io::Result<()> {
    let numbers: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number| number > 2)
        .collect();
    for number in numbers {
        // SAFETY: borrowed for one call; the number of the directory read above is closed by now, and fails.
        let _ = fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC);
    }
    Ok(())
}

/// Occupies [`CHANNEL_FD`] for good. A child's channel is put there between fork and exec, where it must not hit a
/// descriptor that the standard library opened for itself.
pub(crate) fn reserve_channel_descriptor() -> io::Result<()> {
    // SAFETY: borrowed for one call, which tells whether it is open.
    if fcntl_getfd(unsafe { BorrowedFd::borrow_raw(CHANNEL_FD) }).is_ok() {
        return Ok(());
    }
    let null = File::open("/dev/null")?;
    if null.as_raw_fd() == CHANNEL_FD {
        let _ = ManuallyDrop::new(null);
        return Ok(());
    }
    // SAFETY: nobody owns the number, as it is not open; it is never closed, as it is never dropped.
    let mut reserved = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) });
    Ok(dup3(&null, &mut reserved, DupFlags::CLOEXEC)?)
}

/// Raises the soft limit of open files to the hard one and returns what it was, for those who are started.
pub(crate) fn raise_open_files() -> Rlimit {
    let former = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: former.maximum, maximum: former.maximum });
    former
}

/// Keeps the guard out of swap (mlockall(2)); says whether that was permitted.
///
/// Only who may lock without a bound locks what is allocated later as well: under a bound, an allocation beyond it
/// would fail, which is worse than a page on disk. Pages are locked once they have been used (`MCL_ONFAULT`), so that
/// a large binary costs no more than what the guard needs of it.
pub(crate) fn lock_memory() -> bool {
    let unbounded = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
        || getrlimit(Resource::Memlock).current.is_none();
    let later = if unbounded { MlockAllFlags::FUTURE } else { MlockAllFlags::empty() };
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT | later).is_ok()
}
