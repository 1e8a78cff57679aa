//! The edge's process: from the descriptor that the guard left open to serving.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    process::ExitCode,
};

use evenkeel_core::guard::CHANNEL_FD;

use crate::{
    control::{End, serve},
    sandbox,
};

/// Runs the edge in this process until the guard says otherwise. To be called by a process that the guard started, as
/// the first thing after logging was set up and before any other thread exists.
pub fn run() -> ExitCode {
    let channel = match channel() {
        Ok(channel) => channel,
        Err(cause) => {
            tracing::error!(%cause, "`keel edge` is started by the guard (`keel up`), not by hand: no channel to it");
            return ExitCode::from(2);
        }
    };
    for step in sandbox::enter() {
        tracing::warn!(step = step.step, cause = %step.cause, "not permitted; serving without it");
    }
    match serve(channel) {
        End::Told => ExitCode::SUCCESS,
        end => {
            tracing::error!("the edge ends: {end}");
            ExitCode::FAILURE
        }
    }
}

/// The channel to the guard. A copy at another number is used and the original left alone, so that nothing is
/// closed here that somebody else may own.
fn channel() -> io::Result<OwnedFd> {
    // SAFETY: the number is only borrowed for this one call; where nothing is open there, the call says so.
    let inherited = unsafe { BorrowedFd::borrow_raw(CHANNEL_FD) };
    let channel = rustix::io::fcntl_dupfd_cloexec(inherited, CHANNEL_FD + 1)?;
    rustix::net::sockopt::socket_type(&channel)?;
    Ok(channel)
}
