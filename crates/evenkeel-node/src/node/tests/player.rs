//! The guard's and the edge's side, played by threads: real processes, and an edge that finds everyone healthy but
//! instances of a service named `broken`.

use std::{
    collections::{BTreeMap, HashSet},
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex},
};

use evenkeel_core::{
    guard::{MAX_PACKET_BYTES, Notice, Order, ProcessSpec, VERSION, wire::Message},
    health::ENLISTED,
    link::{self, EventKind, ProxyFault, ToEdge, ToNode},
    snapshot::{Duty, Instance, Service, Snapshot},
    status::{ExitStatus, Health},
};
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{Pid, Signal, kill_process},
};

use super::PATIENCE;
use crate::{channel, clock::wall_now, node::publish::read_held};

/// A guard that outlives node processes.
#[derive(Clone)]
pub(super) struct Guard(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    channel: Option<Arc<OwnedFd>>,
    node_starts: u64,
    held: BTreeMap<String, OwnedFd>,
    processes: BTreeMap<String, Process>,
    edge: Edge,
    bounds: Option<(u64, u64)>,
    terminating: bool,
    finished: Option<u8>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Edge {
    #[default]
    NotYet,
    Runs,
    /// For good, as at the end of `keel`.
    Gone,
}

struct Process {
    pid: u32,
    started_ms: u64,
    exit: Option<ExitStatus>,
    pipe: OwnedFd,
    command: String,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Starts serving one node process; the other end is its channel.
    pub(super) fn connect(&self) -> OwnedFd {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let ours = Arc::new(ours);
        self.greet(&ours);
        let guard = self.clone();
        std::thread::spawn(move || guard.serve(&ours));
        theirs
    }

    /// Ends the connection, as far as the node process can see.
    pub(super) fn disconnect(&self) {
        let channel = self.0.0.lock().unwrap().channel.take().unwrap();
        rustix::net::shutdown(&*channel, rustix::net::Shutdown::Both).unwrap();
    }

    pub(super) fn terminate(&self) {
        self.0.0.lock().unwrap().terminating = true;
        self.tell(&Notice::Terminate, None);
    }

    /// Nobody is connected, `keel` was told to end, and the edge has ended already.
    pub(super) fn terminate_unheard(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.terminating = true;
        state.edge = Edge::Gone;
    }

    /// How long the end may take, as the node process said last: the edge's part and the whole, in milliseconds.
    pub(super) fn bounds(&self) -> Option<(u64, u64)> {
        self.0.0.lock().unwrap().bounds
    }

    /// `SIGHUP`.
    pub(super) fn reload(&self) {
        self.tell(&Notice::Reload, None);
    }

    /// The exit code that the node process asked for.
    pub(super) fn finished(&self) -> Option<u8> {
        let (state, changed) = &*self.0;
        let waiting = changed.wait_timeout_while(state.lock().unwrap(), PATIENCE, |state| state.finished.is_none());
        waiting.unwrap().0.finished
    }

    /// Kills what a failed test left behind.
    pub(super) fn kill_all(&self) {
        let state = self.0.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for process in state.processes.values().filter(|process| process.exit.is_none()) {
            signal(process.pid, Signal::KILL);
        }
    }

    pub(super) fn alive(&self) -> usize {
        self.0.0.lock().unwrap().processes.values().filter(|process| process.exit.is_none()).count()
    }

    /// Commands of the processes that run.
    pub(super) fn commands(&self) -> Vec<String> {
        let state = self.0.0.lock().unwrap();
        state.processes.values().filter(|p| p.exit.is_none()).map(|p| p.command.clone()).collect()
    }

    pub(super) fn newest_snapshot(&self) -> Snapshot {
        let state = self.0.0.lock().unwrap();
        read_held(state.held["snapshot"].try_clone().unwrap()).unwrap()
    }

    fn greet(&self, channel: &Arc<OwnedFd>) {
        let mut state = self.0.0.lock().unwrap();
        let say = |notice: Notice, fd: Option<&OwnedFd>| channel::send(channel, &notice.encode().unwrap(), fd).unwrap();
        let since_ms = wall_now().as_millis();
        let node_starts = state.node_starts;
        say(Notice::Hello { version: VERSION, guard_pid: std::process::id(), since_ms, node_starts }, None);
        for (key, fd) in &state.held {
            say(Notice::Held { key: key.clone() }, Some(fd));
        }
        for (key, p) in &state.processes {
            let notice = Notice::Process { key: key.clone(), pid: p.pid, started_ms: p.started_ms, exit: p.exit };
            say(notice, Some(&p.pipe));
        }
        if state.edge == Edge::Runs {
            say(Notice::EdgeStarted { pid: 99, starts: 0 }, Some(&start_edge()));
        }
        if state.terminating {
            say(Notice::Terminate, None);
        }
        say(Notice::Complete, None);
        state.node_starts += 1;
        state.channel = Some(Arc::clone(channel));
    }

    fn tell(&self, notice: &Notice, fd: Option<&OwnedFd>) {
        if let Some(channel) = &self.0.0.lock().unwrap().channel {
            // A node process that has ended hears nothing, as with the real guard.
            let _ = channel::send(channel, &notice.encode().unwrap(), fd);
        }
    }

    fn serve(&self, channel: &OwnedFd) {
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        while let Ok(Some((bytes, fd))) = channel::receive(channel, &mut buffer) {
            match Order::decode(&buffer[..bytes]).unwrap() {
                Order::Spawn { key, spec } => self.spawn(key, &spec),
                Order::Stop { key, signal: number, .. } => {
                    let named = Signal::from_named_raw(number).expect("a named signal");
                    self.signal(&key, named);
                }
                Order::Kill { key } => self.signal(&key, Signal::KILL),
                Order::Forget { key } => {
                    self.0.0.lock().unwrap().processes.remove(&key);
                }
                Order::Hold { key } => {
                    self.0.0.lock().unwrap().held.insert(key, fd.expect("a held descriptor is attached"));
                }
                Order::Release { key } => {
                    self.0.0.lock().unwrap().held.remove(&key);
                }
                Order::StartEdge => {
                    let mut state = self.0.0.lock().unwrap();
                    let first = state.edge == Edge::NotYet;
                    if first {
                        state.edge = Edge::Runs;
                        drop(state);
                        self.tell(&Notice::EdgeStarted { pid: 99, starts: 0 }, Some(&start_edge()));
                    }
                }
                Order::Bounds { edge_grace_ms, finish_ms } => {
                    self.0.0.lock().unwrap().bounds = Some((edge_grace_ms, finish_ms));
                }
                // The player does not watch.
                Order::Alive { .. } | Order::KillEdge => {}
                Order::Outlive { .. } | Order::Adopt { .. } => panic!("an order that is for stubs only"),
                Order::Finish { code } | Order::Leave { code } => {
                    let mut state = self.0.0.lock().unwrap();
                    state.finished = Some(code);
                    state.channel = None;
                    self.0.1.notify_all();
                    return;
                }
            }
        }
    }

    fn signal(&self, key: &str, named: Signal) {
        let pid = self.0.0.lock().unwrap().processes.get(key).filter(|p| p.exit.is_none()).map(|p| p.pid);
        if let Some(pid) = pid {
            signal(pid, named);
        }
    }

    fn spawn(&self, key: String, spec: &ProcessSpec) {
        let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let mut command = Command::new(&spec.argv[0]);
        command.args(&spec.argv[1..]).env_clear().current_dir(&spec.cwd).stdin(Stdio::null());
        command.envs(spec.env.iter().map(|(name, value)| (name, value.expose())));
        command.stdout(write_end.try_clone().unwrap()).stderr(write_end);
        let mut child = command.spawn().unwrap();
        drop(command);
        let (pid, started_ms) = (child.id(), wall_now().as_millis());
        let pipe = read_end.try_clone().unwrap();
        let process = Process { pid, started_ms, exit: None, pipe, command: spec.argv.join(" ") };
        self.0.0.lock().unwrap().processes.insert(key.clone(), process);
        self.tell(&Notice::Started { key: key.clone(), pid, started_ms }, Some(&read_end));
        let guard = self.clone();
        std::thread::spawn(move || {
            let ended = child.wait().unwrap();
            let status = ended.code().map_or_else(|| ExitStatus::Signal(ended.signal().unwrap()), ExitStatus::Code);
            guard.0.0.lock().unwrap().processes.get_mut(&key).unwrap().exit = Some(status);
            guard.tell(&Notice::Exited { key, status, leftovers: 0 }, None);
        });
    }
}

pub(super) fn signal(pid: u32, named: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    // It may have ended a moment ago.
    let _ = kill_process(pid, named);
}

/// An edge that applies every snapshot, says at once what it thinks of each instance and has nothing in flight.
fn start_edge() -> OwnedFd {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut told = HashSet::new();
        let say = |to: &mut UnixStream, message: &ToNode| {
            let body = serde_json::to_vec(message).unwrap();
            to.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).and_then(|()| to.write_all(&body))
        };
        let mut hear = || -> std::io::Result<()> {
            say(&mut ours, &ToNode::Hello { version: link::VERSION, pid: 99 })?;
            loop {
                let mut length = [0; 4];
                ours.read_exact(&mut length)?;
                let mut body = vec![0; u32::from_be_bytes(length) as usize];
                ours.read_exact(&mut body)?;
                let ToEdge::Snapshot(snapshot) = serde_json::from_slice(&body)? else { continue };
                say(&mut ours, &ToNode::Applied { version: snapshot.version })?;
                let mut events = Vec::new();
                for service in snapshot.services.iter().filter(|service| service.name == "scarce") {
                    events.extend(
                        scarcity(service).filter(|_| !told.contains(&(service.instances[0].id.clone(), false))),
                    );
                }
                // Whatever is called so never passes its check.
                for service in snapshot.services.into_iter().filter(|service| service.name != "broken") {
                    let is_scarce = service.name == "scarce";
                    for instance in service.instances {
                        if told.insert((instance.id.clone(), instance.duty == Duty::Drain)) && !is_scarce {
                            let reason = "a probe passed".to_owned();
                            let what = match instance.duty {
                                Duty::Serve => EventKind::Health { health: Health::Healthy, reason },
                                Duty::Drain => EventKind::Drained,
                            };
                            let service = service.name.clone();
                            events.push(link::Event { at: wall_now(), instance: Some(instance.id), service, what });
                        }
                    }
                }
                say(&mut ours, &ToNode::Events { events, dropped: 0 })?;
            }
        };
        // It ends when the node process closes the link.
        let _ = hear();
    });
    theirs.into()
}

/// What an edge says of a service whose instances become fewer than its minimum, one after the other, and of a proxy that
/// sends no header.
fn scarcity(service: &Service) -> impl Iterator<Item = link::Event> {
    let of = |instance: Option<&Instance>, what| link::Event {
        at: wall_now(),
        instance: instance.map(|one| one.id.clone()),
        service: if instance.is_some() { service.name.clone() } else { String::new() },
        what,
    };
    let fails = "3 probes in a row failed: status 500";
    let health = |instance, reason: String| of(Some(instance), EventKind::Health { health: Health::Unhealthy, reason });
    let short = |healthy: u8| {
        let reason = format!("{healthy} of 2 instances are healthy, fewer than 100 %");
        link::Event { service: service.name.clone(), ..of(None, EventKind::CapacityShort { reason }) }
    };
    let header = |fault, reason: &str| {
        let (listener, peer) = ("web".to_owned(), "10.0.0.7".to_owned());
        of(None, EventKind::ProxyHeader { listener, peer, fault, reason: reason.to_owned() })
    };
    let [one, two] = [&service.instances[0], &service.instances[1]];
    let enlisted = || format!("{fails}; {ENLISTED}");
    let missing = || header(ProxyFault::Missing, "a connection without a PROXY header");
    vec![
        health(one, fails.to_owned()),
        health(one, enlisted()),
        short(1),
        health(two, fails.to_owned()),
        health(two, enlisted()),
        short(0),
        missing(),
        missing(),
        header(ProxyFault::Malformed, "a PROXY header without CRLF"),
    ]
    .into_iter()
}
