//! A guard of a test's own, and the channels of the actors that it starts.

use std::{
    fs::{self, File, Permissions},
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus as StdStatus},
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::{
    guard::{EdgeNotice, Key, Notice, Order, ProcessSpec, wire::Message},
    secret::Secret,
};
use evenkeel_guard::channel::{self, Received, Sent};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, accept_with, bind, listen, recvmsg, send, socket_with,
    },
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Who the guard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Who runs the tests.
    Own,
    /// An unprivileged user.
    Nobody,
}

impl Identity {
    /// Whether the guard may become anybody.
    pub(crate) fn is_root(self) -> bool {
        self == Self::Own && rustix::process::geteuid().is_root()
    }
}

/// A guard and where its actors report.
pub(crate) struct World {
    pub(crate) guard: Child,
    listener: OwnedFd,
    waiting: Vec<Actor>,
    identity: Identity,
    arguments: Vec<String>,
    pub(crate) directory: TempDir,
}

/// A node process or an edge: its channel is in the test's hands.
pub(crate) struct Actor {
    pub(crate) role: String,
    pub(crate) pid: i32,
    channel: OwnedFd,
    control: OwnedFd,
}

impl World {
    /// Starts a guard whose edge does what it is told.
    pub(crate) fn start(identity: Identity) -> Self {
        Self::start_with(identity, "edge", PATIENCE)
    }

    /// Starts a guard with another edge and another bound on the end.
    pub(crate) fn start_with(identity: Identity, edge: &str, finish_within: Duration) -> Self {
        Self::start_as(identity, &[edge, &finish_within.as_millis().to_string()])
    }

    /// Starts a guard that instances outlive.
    pub(crate) fn outlived(identity: Identity) -> Self {
        Self::start_as(identity, &["edge", &PATIENCE.as_millis().to_string(), "outlived"])
    }

    fn start_as(identity: Identity, arguments: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let address = directory.path().join("test");
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&address).unwrap()).unwrap();
        listen(&listener, 16).unwrap();
        fs::set_permissions(&address, Permissions::from_mode(0o777)).unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let guard = guard(identity, &address, &arguments);
        Self { guard, listener, waiting: Vec::new(), identity, arguments, directory }
    }

    /// Kills the guard and waits until it is gone, and its node process with it.
    pub(crate) fn kill(&mut self, node: Actor) {
        self.signal(Signal::KILL);
        self.wait();
        eventually("the node process dies with its guard", || !alive(node.pid));
        self.waiting.clear();
        drop(node);
    }

    /// The next guard in the same place, and what its node process is told.
    pub(crate) fn again(&mut self) -> (Actor, Vec<(Notice, Option<OwnedFd>)>) {
        self.guard = guard(self.identity, &self.directory.path().join("test"), &self.arguments);
        let node = self.node();
        let mut told = node.inventory();
        assert!(matches!(told.remove(0).0, Notice::Hello { node_starts: 0, .. }));
        (node, told)
    }

    /// Where stubs wait for a guard.
    pub(crate) fn stubs(&self) -> std::path::PathBuf {
        self.directory.path().join("stubs")
    }

    /// A guard, and its node process with the inventory read.
    pub(crate) fn with_node(identity: Identity) -> (Self, Actor) {
        let mut world = Self::start(identity);
        let node = world.node();
        assert!(matches!(node.inventory()[..], [(Notice::Hello { node_starts: 0, .. }, None)]));
        (world, node)
    }

    /// The next node process.
    pub(crate) fn node(&mut self) -> Actor {
        self.actor("node")
    }

    /// The next edge.
    pub(crate) fn edge(&mut self) -> Actor {
        self.actor("edge")
    }

    /// Sends the guard a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.guard), signal).unwrap();
    }

    /// How the guard ends.
    pub(crate) fn wait(&mut self) -> StdStatus {
        let mut status = None;
        eventually("the guard ends", || {
            status = self.guard.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn actor(&mut self, role: &str) -> Actor {
        loop {
            if let Some(index) = self.waiting.iter().position(|actor| actor.role == role) {
                return self.waiting.remove(index);
            }
            readable(&self.listener);
            let control = accept_with(&self.listener, SocketFlags::CLOEXEC).unwrap();
            // An actor may be killed before it introduced itself.
            self.waiting.extend(introduced(control));
        }
    }
}

fn guard(identity: Identity, address: &Path, arguments: &Vec<String>) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.arg("role=guard").arg(address).args(arguments);
    if identity == Identity::Nobody {
        command.gid(65534).uid(65534);
    }
    command.spawn().unwrap()
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

impl Actor {
    /// Gives an order.
    pub(crate) fn order(&self, order: &Order) {
        self.order_with(order, None);
    }

    /// Gives an order with a descriptor.
    pub(crate) fn order_with(&self, order: &Order, descriptor: Option<&OwnedFd>) {
        self.send_raw(&order.encode().unwrap(), descriptor);
    }

    /// Sends bytes that may be no order.
    pub(crate) fn send_raw(&self, packet: &[u8], descriptor: Option<&OwnedFd>) {
        while channel::send(&self.channel, packet, descriptor.map(AsFd::as_fd)).unwrap() == Sent::Full {
            ready(&self.channel, PollFlags::OUT);
        }
    }

    /// Sends as long as the guard takes it; whether it still did.
    pub(crate) fn try_send(&self, packet: &[u8]) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match channel::send(&self.channel, packet, None) {
                Ok(Sent::Yes) => return true,
                Ok(Sent::Full) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                Ok(Sent::Full) => panic!("the guard takes nothing any more"),
                Err(_) => return false,
            }
        }
    }

    /// The guard's next message.
    pub(crate) fn next<M: Message>(&self) -> (M, Option<OwnedFd>) {
        readable(&self.channel);
        match channel::receive(&self.channel).unwrap() {
            Received::Message(message, descriptor) => (message, descriptor),
            Received::Empty => self.next(),
            Received::Closed => panic!("the guard closed the channel of the {}", self.role),
            Received::Malformed(malformed) => panic!("the guard sent what is no message: {malformed}"),
        }
    }

    /// Everything up to `Complete`.
    pub(crate) fn inventory(&self) -> Vec<(Notice, Option<OwnedFd>)> {
        let mut all = Vec::new();
        loop {
            match self.next() {
                (Notice::Complete, None) => return all,
                other => all.push(other),
            }
        }
    }

    /// What the edge is told up to `Complete`.
    pub(crate) fn edge_inventory(&self) -> Vec<(EdgeNotice, Option<OwnedFd>)> {
        let mut all = Vec::new();
        loop {
            match self.next() {
                (EdgeNotice::Complete, None) => return all,
                other => all.push(other),
            }
        }
    }

    /// Starts a process; its number and its output.
    pub(crate) fn spawn(&self, key: &str, spec: ProcessSpec) -> (i32, File) {
        self.order(&Order::Spawn { key: key.into(), spec });
        match self.next() {
            (Notice::Started { key: started, pid, .. }, Some(output)) => {
                assert_eq!(started, key);
                (pid.cast_signed(), output.into())
            }
            other => panic!("instead of starting: {other:?}"),
        }
    }

    /// The next exit.
    pub(crate) fn exited(&self) -> (Key, evenkeel_core::status::ExitStatus, u32) {
        match self.next() {
            (Notice::Exited { key, status, leftovers }, None) => (key, status, leftovers),
            other => panic!("instead of an exit: {other:?}"),
        }
    }

    /// Ends it with a code.
    pub(crate) fn end(self, code: u8) {
        send(&self.control, &[code], SendFlags::NOSIGNAL).unwrap();
    }

    /// Kills it.
    pub(crate) fn kill(self) {
        kill(self.pid, Signal::KILL);
    }
}

/// A shell that runs this script, with the usual path.
pub(crate) fn sh(script: &str) -> ProcessSpec {
    command(&["sh", "-c", script])
}

/// A command with the usual path.
pub(crate) fn command(argv: &[&str]) -> ProcessSpec {
    ProcessSpec {
        argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
        env: vec![("PATH".into(), Secret::new("/usr/local/bin:/usr/bin:/bin"))],
        cwd: "/".into(),
        user: None,
        groups: vec![],
        memory_bytes: None,
    }
}

/// This binary in another role.
pub(crate) fn actor(role: &str, argument: &str) -> ProcessSpec {
    command(&["/proc/self/exe", &format!("role={role}"), argument])
}

/// Sends a signal.
pub(crate) fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Whether it runs; a process that only waits to be reaped does not.
pub(crate) fn alive(pid: i32) -> bool {
    fs::exists(format!("/proc/{pid}/stat")).unwrap() && state(pid) != "Z"
}

/// The letter of its state, as proc(5) has them; "Z" where it is gone.
pub(crate) fn state(pid: i32) -> String {
    fields(pid).map_or_else(|| "Z".to_owned(), |fields| fields[0].clone())
}

/// The parent of a process.
pub(crate) fn parent(pid: i32) -> i32 {
    fields(pid).expect("it runs")[1].parse().unwrap()
}

/// What follows a process's name in proc(5)'s `stat`.
pub(crate) fn fields(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat[stat.rfind(')')? + 1..].split_whitespace().map(str::to_owned).collect())
}

/// Waits until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to this: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads up to the end of a line.
pub(crate) fn line(output: &mut File) -> String {
    let mut line = Vec::new();
    loop {
        readable(output);
        let mut byte = [0];
        match output.read(&mut byte) {
            Ok(0) => panic!("the output ended after {:?}", String::from_utf8_lossy(&line)),
            Ok(_) if byte == *b"\n" => return String::from_utf8(line).unwrap(),
            Ok(_) => line.push(byte[0]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

/// Reads up to the end of the output.
pub(crate) fn rest(output: &mut File) -> String {
    let mut text = String::new();
    loop {
        readable(output);
        match output.read_to_string(&mut text) {
            Ok(_) => return text,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

/// Waits until there is something to read.
pub(crate) fn readable(descriptor: &impl AsFd) {
    ready(descriptor, PollFlags::IN);
}

fn ready(descriptor: &impl AsFd, flags: PollFlags) {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let count = poll(&mut [PollFd::new(descriptor, flags)], Some(&patience)).unwrap();
    assert_eq!(count, 1, "nothing came");
}

fn introduced(control: OwnedFd) -> Option<Actor> {
    readable(&control);
    let mut bytes = [0; 64];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [std::io::IoSliceMut::new(&mut bytes)];
    let length = recvmsg(&control, slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?.bytes;
    let channel = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })?;
    let text = std::str::from_utf8(&bytes[..length]).unwrap();
    let (role, pid) = text.split_once(' ')?;
    Some(Actor { role: role.to_owned(), pid: pid.parse().unwrap(), channel, control })
}
