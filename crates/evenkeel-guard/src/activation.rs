//! What the system's service manager hands to the process that it starts: listening sockets (`sd_listen_fds(3)`),
//! where to send notifications (`sd_notify(3)`), and how closely it watches (`sd_watchdog_enabled(3)`).
//!
//! It is read once, before anything opens a descriptor that stays or starts a process: the sockets begin at the very
//! number that channels have in children ([`CHANNEL_FD`]), and nobody besides the guard may inherit them. Nothing is
//! sent here; that is the guard's part (`guard::notify`).

use std::{
    env,
    ffi::OsString,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    process,
    rc::Rc,
    time::Duration,
};

use evenkeel_core::guard::CHANNEL_FD;
use rustix::io::fcntl_dupfd_cloexec;

/// The environment that belongs to the guard alone; no process that it starts may see it.
pub const ACTIVATION_VARIABLES: [&str; 6] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Where sockets that were handed over begin (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Where they are put, so that [`CHANNEL_FD`] is free.
const PLACE: RawFd = CHANNEL_FD + 7;

/// More than anybody hands over; a larger number is an error of whoever set it.
const MOST: RawFd = 4096;

/// What was handed over.
#[derive(Clone, Debug)]
pub struct Activation {
    /// Descriptors with the names that they were given.
    pub(crate) sockets: Vec<(String, Rc<OwnedFd>)>,
    /// A path, or an abstract name that begins with `@`.
    pub(crate) notify: Option<OsString>,
    /// After this time without a sign of life we are killed.
    pub(crate) watchdog: Option<Duration>,
}

impl Activation {
    /// Nothing: nobody started us so.
    pub const fn none() -> Self {
        Self { sockets: Vec::new(), notify: None, watchdog: None }
    }

    /// Takes what this process was given, from its environment. To be called once, before anything opens a descriptor
    /// that stays; whatever was handed over is closed with what is returned, and by exec.
    pub fn take() -> Self {
        Self::take_if(|name| env::var(name).ok().and_then(|value| value.parse().ok()) == Some(process::id()))
    }

    /// The same from a parent that is known to have meant this process, and could not name it before it was there.
    pub fn take_from_parent() -> Self {
        Self::take_if(|_| true)
    }

    fn take_if(ours: impl Fn(&str) -> bool) -> Self {
        let text = |name: &str| env::var(name).ok();
        let number = |name: &str| text(name)?.parse::<u64>().ok();
        let count = number("LISTEN_FDS").filter(|_| ours("LISTEN_PID")).unwrap_or(0);
        let names = text("LISTEN_FDNAMES").unwrap_or_default();
        // Without a process named it is meant for whoever has the variable.
        let watched = text("WATCHDOG_PID").is_none() || ours("WATCHDOG_PID");
        Self {
            sockets: sockets(count, &names),
            notify: env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()),
            watchdog: number("WATCHDOG_USEC").filter(|usec| watched && *usec > 0).map(Duration::from_micros),
        }
    }
}

fn sockets(count: u64, names: &str) -> Vec<(String, Rc<OwnedFd>)> {
    let count = RawFd::try_from(count).unwrap_or(0).min(MOST);
    let mut names = names.split(':');
    (FIRST..FIRST + count)
        .filter_map(|number| {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
            // SAFETY: borrowed for one call, which fails where it is not open.
            let moved = fcntl_dupfd_cloexec(unsafe { BorrowedFd::borrow_raw(number) }, PLACE).ok()?;
            // SAFETY: it is open, as the call above showed; by the protocol it is ours alone, and nobody took it yet.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
            Some((name, Rc::new(moved)))
        })
        .collect()
}
