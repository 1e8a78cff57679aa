//! What a service manager does for a guard, as far as a demo needs it: it keeps the listening sockets, so that a guard
//! that was killed is started again without anybody having been refused (`sd_notify(3)`, `sd_listen_fds(3)`).
//!
//! It owns the socket at which the guard tells what to keep, in a folder of this user alone, and what is kept. It starts
//! nothing and ends nothing.

use std::{
    io::{self, IoSliceMut},
    mem::{ManuallyDrop, MaybeUninit},
    os::{
        fd::{AsFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustix::{
    io::{dup2, fcntl_dupfd_cloexec},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use tokio::process::Command;

/// The socket in the folder of sockets.
const SOCKET: &str = "notify";
/// Where descriptors begin that are handed over (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// More than a demo has listening sockets: one for each thread.
const MOST: usize = 4096;
/// Above everything that is put in place.
const ASIDE: RawFd = 100;
/// Longer than anything that a guard says.
const LONGEST: usize = 4096;

type Store = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// The sockets of a guard, kept for the next one.
pub(super) struct Keeper {
    path: PathBuf,
    store: Store,
}

impl Keeper {
    /// Listens in the folder of sockets.
    pub(super) fn new(runtime_dir: &Path) -> io::Result<Self> {
        let path = runtime_dir.join(SOCKET);
        // Of a former demo: its lock is not held, or this one would not start.
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path)?;
        let store = Store::default();
        let kept = Arc::clone(&store);
        // It ends with this process: nobody waits for it, and the socket has no other owner.
        thread::spawn(move || while hear(&socket, &kept).is_ok() {});
        Ok(Self { path, store })
    }

    /// Has a guard that is about to be started tell us, and hands it what was kept. It must not ask to whom that is
    /// meant: nobody can know its number before it is there.
    pub(super) fn equip(&self, command: &mut Command) -> io::Result<()> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<&str> = store.iter().map(|(name, _)| name.as_str()).collect();
        let copies: io::Result<Vec<OwnedFd>> =
            store.iter().map(|(_, kept)| Ok(fcntl_dupfd_cloexec(kept.as_fd(), ASIDE)?)).collect();
        let copies = copies?;
        command.env("NOTIFY_SOCKET", &self.path).env("LISTEN_FDNAMES", names.join(":"));
        command.env("LISTEN_FDS", copies.len().to_string());
        // SAFETY: `hand_over` makes system calls only; it neither allocates nor takes locks.
        unsafe {
            command.pre_exec(move || hand_over(&copies));
        }
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Puts descriptors from [`FIRST`] on, in order, and lets them be inherited.
fn hand_over(copies: &[OwnedFd]) -> io::Result<()> {
    for (place, copy) in (FIRST..).zip(copies) {
        // SAFETY: in this new process nobody owns the number, and it is not closed here.
        let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(place) });
        dup2(copy, &mut place)?;
    }
    Ok(())
}

/// Takes one notification.
fn hear(socket: &UnixDatagram, store: &Store) -> io::Result<()> {
    let mut bytes = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.next().and_then(|mut descriptors| descriptors.next());
    let text = String::from_utf8_lossy(&bytes[..got.bytes]);
    let Some(name) = text.lines().find_map(|line| line.strip_prefix("FDNAME=")) else { return Ok(()) };
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    // Whatever is stored under a name replaces what was.
    store.retain(|(stored, _)| stored != name);
    if let Some(descriptor) = descriptor.filter(|_| store.len() < MOST && text.lines().any(|line| line == "FDSTORE=1"))
    {
        store.push((name.to_owned(), descriptor));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::fd::{AsRawFd, BorrowedFd},
        process::Stdio,
        time::Duration,
    };

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    fn tell(path: &Path, text: &str, descriptor: Option<BorrowedFd<'_>>) {
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(path).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let rights = descriptor.map(|descriptor| [descriptor]);
        if let Some(rights) = &rights {
            assert!(control.push(SendAncillaryMessage::ScmRights(rights)));
        }
        sendmsg(&socket, &[io::IoSlice::new(text.as_bytes())], &mut control, SendFlags::empty()).unwrap();
    }

    fn wait_for(keeper: &Keeper, count: usize) {
        let begun = std::time::Instant::now();
        while keeper.store.lock().unwrap().len() != count {
            assert!(begun.elapsed() < Duration::from_mins(1), "it keeps something else");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_kept_is_handed_to_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(folder.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for name in ["listener/web", "listener/old", "listener/web"] {
            tell(&keeper.path, &format!("FDSTORE=1\nFDNAME={name}"), Some(listener.as_fd()));
        }
        tell(&keeper.path, "STATUS=1 instance runs", None);
        wait_for(&keeper, 2);
        tell(&keeper.path, "FDSTOREREMOVE=1\nFDNAME=listener/old", None);
        wait_for(&keeper, 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let said = runtime.block_on(async {
            let mut command = Command::new("sh");
            command.args(["-c", "echo $LISTEN_FDS $LISTEN_FDNAMES; readlink /proc/$$/fd/3"]).stdin(Stdio::null());
            keeper.equip(&mut command).unwrap();
            command.output().await.unwrap()
        });
        let socket = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), format!("1 listener/web\n{}\n", socket.display()));
    }
}
