//! Signals as something to read: blocked, and taken from a signalfd (signalfd(2)).
//!
//! Neither std nor rustix has these functions, so they are declared here, as the C library that std is linked with
//! has them. Mask and ignored signals pass through fork and exec, and std leaves them as they are, so every process
//! that is started calls [`reset`] in between.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::process::Signal;

/// As large as `sigset_t` is in glibc and musl on every architecture: 1024 bits.
#[repr(C)]
struct SignalSet([u64; 16]);

const SIG_BLOCK: i32 = 0;
const SIG_SETMASK: i32 = 2;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SFD_FLAGS: i32 = 0o2_000_000 | 0o4_000;

unsafe extern "C" {
    fn sigemptyset(set: *mut SignalSet) -> i32;
    fn sigaddset(set: *mut SignalSet, signal: i32) -> i32;
    fn pthread_sigmask(how: i32, set: *const SignalSet, former: *mut SignalSet) -> i32;
    fn signal(signal: i32, handler: usize) -> usize;
    fn signalfd(descriptor: i32, set: *const SignalSet, flags: i32) -> i32;
}

/// Blocks and ignores nothing, as a program expects to find it. For use between fork and exec: it makes system calls
/// only (signal-safety(7)).
pub(crate) fn reset() {
    let mut set = SignalSet([0; 16]);
    // SAFETY: `set` is a writable sigset_t; the default action is valid for every signal, and numbers that cannot be
    // set are refused without effect.
    unsafe {
        for number in 1..=64 {
            signal(number, SIG_DFL);
        }
        sigemptyset(&raw mut set);
        pthread_sigmask(SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Has a write beyond a limit of the size of files fail with EFBIG instead of ending this process with SIGXFSZ
/// (`setrlimit(2)`): a process that must serve on a full disk must serve on within a limit as well.
pub fn outlive_file_limits() {
    // SAFETY: ignoring is valid for this signal, and no handler of ours is replaced: nobody sets one.
    unsafe {
        signal(Signal::XFSZ.as_raw(), SIG_IGN);
    }
}

/// Blocked signals, to be read.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Blocks these signals in this thread, which must be the only one, and makes them readable.
    pub(crate) fn block(signals: &[Signal]) -> io::Result<Self> {
        let mut set = SignalSet([0; 16]);
        // SAFETY: `set` is a writable sigset_t for as long as each call lasts, and the numbers are valid signals.
        let raw = unsafe {
            sigemptyset(&raw mut set);
            for signal in signals {
                sigaddset(&raw mut set, signal.as_raw());
            }
            let error = pthread_sigmask(SIG_BLOCK, &raw const set, ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            signalfd(-1, &raw const set, SFD_FLAGS)
        };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd(2) returned a new descriptor that nobody else owns.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(raw) } })
    }

    /// The next signal that arrived, if any.
    pub(crate) fn next(&self) -> Option<Signal> {
        // struct signalfd_siginfo is 128 bytes long and begins with the signal's number.
        let mut info = [0_u8; 128];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.descriptor, &mut info)).ok()?;
        let (number, _) = info[..read].split_first_chunk::<4>()?;
        Signal::from_named_raw(i32::from_ne_bytes(*number))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
