//! The system's service manager: what it is told (`sd_notify(3)`), and the listening sockets that it keeps for us.
//!
//! Nothing here waits: a message that its socket does not take is queued, and where too many are queued the manager
//! is given up, which costs no client anything. Sockets that the guard is told to hold go to the manager's descriptor
//! store (`FDSTORE=1`) under the names by which they are held; at the next start they come back under these. What a
//! socket unit handed over comes under other names: it is held as `activated/NAME/N`, for the node process to match
//! by address, belongs to the manager, and is neither stored nor ever shut down.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    rc::Rc,
    time::Duration,
};

use evenkeel_core::{guard::Key, time::Moment};
use rustix::{
    fs::fstat,
    io::Errno,
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
        connect, sendmsg, socket_with,
    },
};

use super::Guard;
use crate::{activation::Activation, os::log};

/// How many messages may wait.
const QUEUE: usize = 4096;

/// Keys of what a socket unit handed over begin so.
const HANDED_OVER: &str = "activated/";

/// Keys of what is kept for the next start begin so.
const KEPT: &str = "listener/";

/// Whether a held descriptor is a socket of a socket unit as it came.
pub(super) fn is_handed_over(key: &str) -> bool {
    key.starts_with(HANDED_OVER)
}

/// What names a socket: device and inode.
type Identity = (u64, u64);

struct Message {
    text: String,
    descriptor: Option<Rc<OwnedFd>>,
}

/// The service manager, which may not be there.
pub(super) struct Manager {
    /// Connected, since only then poll(2) tells when there is room at the other end.
    socket: Option<OwnedFd>,
    queue: VecDeque<Message>,
    /// Sockets that are the manager's own.
    owned: HashSet<Identity>,
    /// What it keeps for us, by the name there.
    kept: BTreeMap<Key, Identity>,
    /// Half of the time after which it would kill us.
    alive_every: Option<Duration>,
    alive_at: Option<Moment>,
    status: String,
    ready: bool,
}

impl Manager {
    /// With what is to be held from the start. What is released later must be closed, so nothing else keeps it.
    pub(super) fn new(activation: Activation) -> (Self, BTreeMap<Key, Rc<OwnedFd>>) {
        let socket = activation.notify.as_deref().and_then(|name| match open(name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                log::line(format_args!("the service manager cannot be told anything: {error}"));
                None
            }
        });
        let alive_every = activation.watchdog.filter(|_| socket.is_some()).map(|within| within / 2);
        let mut manager = Self {
            socket,
            queue: VecDeque::new(),
            owned: HashSet::new(),
            kept: BTreeMap::new(),
            alive_every,
            alive_at: alive_every.map(|_| Moment::ORIGIN),
            status: String::new(),
            ready: false,
        };
        let mut held = BTreeMap::new();
        let mut doubles = Vec::new();
        for (number, (name, descriptor)) in activation.sockets.into_iter().enumerate() {
            let Some(identity) = identity(&descriptor) else { continue };
            if name.starts_with(KEPT) {
                manager.kept.insert(name.clone(), identity);
                if held.insert(name.clone(), descriptor).is_some() {
                    doubles.push(name);
                }
            } else {
                manager.owned.insert(identity);
                held.insert(format!("{HANDED_OVER}{name}/{number}"), descriptor);
            }
        }
        for name in doubles {
            // Nobody would accept from the other one, which the manager alone still has.
            manager.release(&name);
            manager.keep(&name, &held[&name]);
        }
        (manager, held)
    }

    /// Whether this socket is the manager's own, so that it outlives us whatever we do.
    pub(super) fn owns(&self, descriptor: &OwnedFd) -> bool {
        identity(descriptor).is_some_and(|identity| self.owned.contains(&identity))
    }

    /// The stack is taken over and its listeners are open.
    pub(super) fn ready(&mut self) {
        if !self.ready {
            self.ready = true;
            self.tell("READY=1".to_owned(), None);
        }
    }

    /// The end has begun, and may take so long.
    pub(super) fn stopping(&mut self, within: Duration) {
        self.tell(format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()), None);
    }

    /// Has it keep a listening socket for the next start.
    pub(super) fn keep(&mut self, key: &Key, descriptor: &Rc<OwnedFd>) {
        let Some(identity) = identity(descriptor).filter(|_| key.starts_with(KEPT)) else { return };
        if self.kept.get(key) == Some(&identity) {
            return;
        }
        self.release(key);
        // A name with a colon cannot be stored (sd_notify(3)).
        if self.owned.contains(&identity) || key.contains(':') || self.socket.is_none() {
            return;
        }
        self.kept.insert(key.clone(), identity);
        self.tell(format!("FDSTORE=1\nFDNAME={key}"), Some(Rc::clone(descriptor)));
    }

    /// Has it keep a socket no longer.
    pub(super) fn release(&mut self, key: &Key) {
        if self.kept.remove(key).is_some() {
            self.tell(format!("FDSTOREREMOVE=1\nFDNAME={key}"), None);
        }
    }

    /// When it is to hear from us next.
    pub(super) const fn due_at(&self) -> Option<Moment> {
        self.alive_at
    }

    /// The socket, where something waits for room in it.
    pub(super) fn waiting(&self) -> Option<&OwnedFd> {
        self.socket.as_ref().filter(|_| !self.queue.is_empty())
    }

    /// Sends what can be sent now.
    pub(super) fn flush(&mut self) {
        while let (Some(socket), Some(message)) = (&self.socket, self.queue.front()) {
            match send(socket, message) {
                Ok(()) => _ = self.queue.pop_front(),
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::TOOMANYREFS) if self.queue.len() < QUEUE => return,
                Err(errno) => {
                    log::line(format_args!("the service manager cannot be told anything any more: {errno}"));
                    self.socket = None;
                    self.queue.clear();
                    self.alive_at = None;
                }
            }
        }
    }

    fn tell(&mut self, text: String, descriptor: Option<Rc<OwnedFd>>) {
        if self.socket.is_some() {
            self.queue.push_back(Message { text, descriptor });
            self.flush();
        }
    }
}

impl Guard {
    /// Signs of life, and how things stand.
    pub(super) fn tell_manager(&mut self, now: Moment) {
        let running = self.processes.values().filter(|process| process.is_live()).count();
        let manager = &mut self.manager;
        if manager.socket.is_none() {
            return;
        }
        if manager.alive_at.is_some_and(|at| at <= now) {
            manager.alive_at = manager.alive_every.map(|every| now + every);
            // One that waits says the same.
            if manager.queue.is_empty() {
                manager.tell("WATCHDOG=1".to_owned(), None);
            }
        }
        let node = if self.node.child.is_some() { "" } else { "; the node process is being started" };
        let edge = if self.edge.child.is_some() { "" } else { "; no edge runs" };
        let verb = if running == 1 { "instance runs" } else { "instances run" };
        let status = format!("STATUS={running} {verb}{node}{edge}");
        if manager.ready && manager.status != status {
            manager.status.clone_from(&status);
            manager.tell(status, None);
        }
    }
}

fn open(name: &OsStr) -> io::Result<OwnedFd> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddrUnix::new_abstract_name(rest)?,
        _ => SocketAddrUnix::new(name)?,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    connect(&socket, &address)?;
    Ok(socket)
}

fn send(socket: &OwnedFd, message: &Message) -> Result<(), Errno> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = message.descriptor.as_ref().map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors {
        let pushed = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(pushed, "the buffer has room for one descriptor");
    }
    let text = [io::IoSlice::new(message.text.as_bytes())];
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| sendmsg(socket, &text, &mut control, flags)).map(drop)
}

fn identity(descriptor: &OwnedFd) -> Option<Identity> {
    fstat(descriptor).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    };

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn told_at(name: &str) -> Manager {
        let notify = Some(name.into());
        Manager::new(Activation { notify, watchdog: None, sockets: Vec::new() }).0
    }

    #[test]
    fn a_manager_that_does_not_read_is_waited_for_and_then_hears_everything_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let reader = UnixDatagram::bind(&path).unwrap();
        reader.set_nonblocking(true).unwrap();
        let mut manager = told_at(path.to_str().unwrap());
        for number in 0..2000 {
            manager.tell(number.to_string(), None);
        }
        let waiting = manager.waiting().expect("it takes no more than so many");
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let writable = poll(&mut [PollFd::new(waiting, PollFlags::OUT)], Some(&at_once)).unwrap();
        assert_eq!(writable, 0, "the guard would turn round and round");
        let (mut heard, mut text) = (0, [0; 100]);
        while heard < 2000 {
            match reader.recv(&mut text) {
                Ok(length) => {
                    assert_eq!(std::str::from_utf8(&text[..length]).unwrap(), heard.to_string());
                    heard += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    let waiting = manager.waiting().expect("there is more");
                    assert_eq!(poll(&mut [PollFd::new(waiting, PollFlags::OUT)], Some(&at_once)), Ok(1));
                    manager.flush();
                }
            }
        }
        assert!(manager.waiting().is_none());
    }

    #[test]
    fn a_manager_at_an_abstract_name_is_told() {
        let name = format!("evenkeel-test-{}", std::process::id());
        let reader = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        told_at(&format!("@{name}")).ready();
        let mut text = [0; 100];
        let length = reader.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1");
    }
}
