//! Starting the node process, the edge and stubs: each in a session of its own, with its channel at
//! [`CHANNEL_FD`].
//!
//! A session of its own keeps a Ctrl-C at the terminal from everything but the guard. What carries a fence gets
//! SIGKILL when the guard dies (`PR_SET_PDEATHSIG`, prctl(2)). Between fork and exec only system calls are made.

use std::{
    ffi::OsString,
    io,
    mem::ManuallyDrop,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
};

use evenkeel_core::guard::CHANNEL_FD;
use rustix::{
    io::dup2,
    process::{
        Gid, Pid, Resource, Rlimit, Signal, Uid, getpid, getppid, kill_process, set_parent_process_death_signal,
        setrlimit, setsid,
    },
    thread::{set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid},
};

use crate::{activation::ACTIVATION_VARIABLES, os::signals};

/// How a process differs from the guard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// It dies with the guard.
    pub(crate) dies_with_us: bool,
    /// It may never gain privileges (`PR_SET_NO_NEW_PRIVS`, prctl(2)).
    pub(crate) confined: bool,
    /// It runs as this user and group, without any further groups; `None`: as the guard.
    pub(crate) user: Option<(u32, u32)>,
    /// It begins with an empty environment and without standard streams.
    pub(crate) bare: bool,
    /// Its limit of open files.
    pub(crate) open_files: Rlimit,
}

/// Starts `argv` with `channel` as its end of the channel.
pub(crate) fn launch(argv: &[OsString], channel: OwnedFd, shape: Shape) -> io::Result<Pid> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    for name in ACTIVATION_VARIABLES {
        // Meant for the guard alone.
        command.env_remove(name);
    }
    if shape.bare {
        command.env_clear().stdout(Stdio::null()).stderr(Stdio::null());
    }
    let guard = getpid();
    // SAFETY: `prepare` makes system calls only; it neither allocates nor takes locks.
    unsafe {
        command.pre_exec(move || prepare(&channel, shape, guard));
    }
    command.spawn().map(|child| Pid::from_child(&child))
}

fn prepare(channel: &OwnedFd, shape: Shape, guard: Pid) -> io::Result<()> {
    signals::reset();
    setsid()?;
    setrlimit(Resource::Nofile, shape.open_files)?;
    if let Some((user, group)) = shape.user {
        set_thread_groups(&[])?;
        set_thread_gid(Gid::from_raw_unchecked(group))?;
        set_thread_uid(Uid::from_raw_unchecked(user))?;
    }
    if shape.confined {
        set_no_new_privs(true)?;
    }
    if shape.dies_with_us {
        // After the change of user, which clears it. The guard may have died before it took effect.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(guard) {
            // An error would go to the guard, and std aborts with a message where nobody is left to take it.
            kill_process(getpid(), Signal::KILL)?;
        }
    }
    // SAFETY: the number is reserved in the guard for this purpose; in the child nobody owns it, and it is not
    // closed here.
    let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) });
    dup2(channel.as_fd(), &mut place)?;
    Ok(())
}
