//! What a stub has beside its process so that it can go on without a guard: the read end of the output pipe, and a
//! socket on which the next guard finds it.
//!
//! Without a guard nobody reads the output. It stays in the pipe, which is made larger, and where that is nearly full
//! the oldest lines are dropped and counted: the process must neither wait nor get EPIPE. Only the user that runs the
//! stub may connect (`SO_PEERCRED`, unix(7)). A stub whose socket is gone from its folder can never be found again.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::time::Moment;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::ioctl_fionread,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
        sockopt::socket_peercred,
    },
    pipe::{fcntl_getpipe_size, fcntl_setpipe_size},
    process::geteuid,
};

use crate::os::clock;

/// How large the pipe is made while nobody reads it; as much as Linux grants everybody (pipe(7)).
const PIPE_BYTES: usize = 1024 * 1024;

/// How often the pipe is looked at while nobody reads it. There is no event for a pipe that fills up.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often it is made sure that the next guard can find us.
const REACHABLE_EVERY: Duration = Duration::from_secs(1);

/// How far beyond what must be dropped the end of a line is looked for.
const LONGEST_LINE: usize = 8 * 1024;

/// The file name of the socket of the stub with this number.
pub(crate) fn socket_name(stub: u32) -> String {
    format!("{stub}.sock")
}

/// Whether whoever is at the other end of a connection is our own user or root.
fn may_command(connection: &OwnedFd) -> bool {
    socket_peercred(connection).is_ok_and(|peer| peer.uid == geteuid() || peer.uid.is_root())
}

/// The means to outlive a guard.
pub(super) struct Afterlife {
    listener: OwnedFd,
    path: PathBuf,
    inode: u64,
    output: OwnedFd,
    dropped_bytes: u64,
    /// Who connected and has not yet said what it wants.
    visitor: Option<OwnedFd>,
    reachable_until: Moment,
}

impl Afterlife {
    /// Listens below `folder`.
    pub(super) fn new(folder: &Path, output: OwnedFd) -> io::Result<Self> {
        let path = folder.join(socket_name(std::process::id()));
        // Of a former process with our number, which is no more.
        let _ = fs::remove_file(&path);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&listener, &SocketAddrUnix::new(&path)?)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listen(&listener, 4)?;
        let inode = fs::symlink_metadata(&path)?.ino();
        Ok(Self { listener, path, inode, output, dropped_bytes: 0, visitor: None, reachable_until: Moment::ORIGIN })
    }

    /// The guard is gone.
    pub(super) fn begin(&mut self) {
        // An error leaves it as large as it was.
        let _ = fcntl_setpipe_size(&self.output, PIPE_BYTES);
    }

    /// A guard has taken over: what was dropped until now is its to tell.
    pub(super) fn end(&mut self) {
        self.dropped_bytes = 0;
        self.visitor = None;
    }

    pub(super) const fn output(&self) -> &OwnedFd {
        &self.output
    }

    pub(super) const fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// What to wait for beside signals.
    pub(super) fn source(&self) -> impl AsFd {
        self.visitor.as_ref().unwrap_or(&self.listener)
    }

    /// Whoever has connected and may. One that says nothing makes room for the next.
    pub(super) fn visitor(&mut self) -> Option<&OwnedFd> {
        if let Ok(connection) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
            && may_command(&connection)
        {
            self.visitor = Some(connection);
        }
        self.visitor.as_ref()
    }

    /// Whether somebody has connected.
    pub(super) fn is_visited(&self) -> bool {
        let mut ready = [PollFd::new(&self.listener, PollFlags::IN)];
        poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
    }

    /// The visitor becomes the guard, or is shown out.
    pub(super) fn take_visitor(&mut self) -> Option<OwnedFd> {
        self.visitor.take()
    }

    /// Whether a guard can still find us.
    pub(super) fn is_reachable(&mut self) -> bool {
        let now = clock::now();
        if now < self.reachable_until {
            return true;
        }
        self.reachable_until = now + REACHABLE_EVERY;
        match fs::symlink_metadata(&self.path) {
            Ok(found) => found.ino() == self.inode,
            // Any other error may pass.
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }

    /// Drops the oldest lines where the pipe is nearly full.
    ///
    /// A pipe is full when its pages are, and a page may be half empty: of two neighbours together more than one
    /// page is used, so a full pipe holds at least half of its size. It is kept below three eighths.
    pub(super) fn make_room(&mut self) {
        let (Ok(waiting), Ok(size)) = (ioctl_fionread(&self.output), fcntl_getpipe_size(&self.output)) else {
            return;
        };
        let bound = size / 8 * 3;
        let waiting = usize::try_from(waiting).unwrap_or(0);
        if waiting < bound {
            return;
        }
        let mut buffer = vec![0; 64 * 1024];
        let mut surplus = waiting - bound / 2;
        while surplus > 0 {
            let most = surplus.min(buffer.len());
            let read = self.discard(&mut buffer[..most]);
            if read == 0 {
                return;
            }
            surplus -= read;
        }
        // What is left should begin with a whole line.
        let mut byte = [0];
        for _ in 0..LONGEST_LINE {
            if self.discard(&mut byte) == 0 || byte == *b"\n" {
                return;
            }
        }
    }

    fn discard(&mut self, buffer: &mut [u8]) -> usize {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.output, &mut *buffer)).unwrap_or(0);
        self.dropped_bytes = self.dropped_bytes.saturating_add(read as u64);
        read
    }
}

impl Drop for Afterlife {
    fn drop(&mut self) {
        // Only what is ours: the folder may have been made anew, and the number used again.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
