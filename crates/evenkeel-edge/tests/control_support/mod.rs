//! What the tests of the control thread share: a guard, a node process and instances, as small as can be, all over
//! real sockets. The edge runs on a thread of the test.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::needless_pass_by_value, reason = "addresses and names are given as they are")]
#![allow(clippy::unwrap_used, reason = "a test ends where its surroundings fail")]

pub(crate) mod instance;
pub(crate) mod load;

use std::{
    collections::HashMap,
    fmt::Display,
    fs::File,
    io::{IoSlice, Read, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use evenkeel_core::{
    guard::{EdgeNotice, wire::Message as _},
    link::{Checked, Event, EventKind, ToEdge, ToNode},
    snapshot::{
        Actions, Answers, Balance, Check, Choice, ClientLimits, Ejection, FORMAT, Hold, Instance, Listener, Probe,
        Protocol, Retry, Route, Service, ServiceLimits, Snapshot, Strictness, Wire,
    },
    status::{Health, InstanceId},
};
use evenkeel_edge::{End, serve};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};

/// Nothing here takes nearly as long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The guard's side of an edge.
pub(crate) struct Edge {
    channel: Option<OwnedFd>,
    thread: Option<JoinHandle<End>>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    threads: u16,
}

pub(crate) fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

impl Edge {
    /// An edge that has nothing yet.
    pub(crate) fn start(threads: u16) -> Self {
        let (ours, theirs) = pair(SocketType::SEQPACKET);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || serve(theirs));
        Self { channel: Some(ours), thread: Some(thread), address, listener, threads }
    }

    /// An edge that has its listener and a link, and the node's side of that.
    pub(crate) fn linked(threads: u16) -> (Self, Node) {
        let edge = Self::start(threads);
        edge.hand_over_listener();
        edge.say(&EdgeNotice::Complete, None);
        let node = edge.link();
        (edge, node)
    }

    pub(crate) fn say(&self, notice: &EdgeNotice, descriptor: Option<BorrowedFd<'_>>) {
        send(self.channel.as_ref().unwrap(), notice, descriptor);
    }

    /// Every thread gets the same socket: which of them accepts does not matter here.
    pub(crate) fn hand_over_listener(&self) {
        for thread in 0..self.threads {
            self.say(&EdgeNotice::Held { key: format!("listener/web/{thread}") }, Some(self.listener.as_fd()));
        }
    }

    pub(crate) fn link(&self) -> Node {
        let (ours, theirs) = pair(SocketType::STREAM);
        self.say(&EdgeNotice::Link, Some(theirs.as_fd()));
        Node::new(ours)
    }

    /// Serves these services; the first one gets all requests.
    pub(crate) fn snapshot(&self, version: u64, services: Vec<Service>) -> Snapshot {
        snapshot(version, self.threads, self.address, services)
    }

    /// `GET` over a connection of its own: status and body. Anything that is not an answer panics.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path)
    }

    /// The guard dies.
    pub(crate) fn drop_channel(&mut self) {
        self.channel = None;
    }

    pub(crate) fn ends(&mut self) -> End {
        let thread = self.thread.take().unwrap();
        let until = Instant::now() + PATIENCE;
        while !thread.is_finished() {
            assert!(Instant::now() < until, "the edge did not end");
            thread::sleep(Duration::from_millis(5));
        }
        thread.join().unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.channel = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One packet of the guard.
pub(crate) fn send(channel: impl AsFd, notice: &EdgeNotice, descriptor: Option<BorrowedFd<'_>>) {
    let packet = notice.encode().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    sendmsg(channel, &[IoSlice::new(&packet)], &mut control, SendFlags::NOSIGNAL).unwrap();
}

/// The node's side of a link.
pub(crate) struct Node {
    stream: UnixStream,
    /// Events received so far.
    pub(crate) past: Vec<Event>,
    /// How many of them were looked at, by instance.
    looked: HashMap<String, usize>,
    applied: Vec<u64>,
}

impl Node {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        let stream = UnixStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, past: Vec::new(), looked: HashMap::new(), applied: Vec::new() }
    }

    pub(crate) fn send(&mut self, snapshot: Snapshot) {
        let body = serde_json::to_vec(&ToEdge::Snapshot(Box::new(snapshot))).unwrap();
        self.stream.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
        self.stream.write_all(&body).unwrap();
    }

    /// Says how a command of a check ended.
    pub(crate) fn checked(&mut self, checked: Checked) {
        let body = serde_json::to_vec(&ToEdge::Checked(checked)).unwrap();
        self.stream.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
        self.stream.write_all(&body).unwrap();
    }

    /// What was said so far is not looked at any more.
    pub(crate) fn forget(&mut self) {
        self.past.clear();
        self.looked.clear();
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next message; panics when none comes in time or the link ended.
    pub(crate) fn next(&mut self) -> ToNode {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).expect("a message of the edge in time");
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        let message = serde_json::from_slice(&body).unwrap();
        if let ToNode::Events { events, .. } = &message {
            self.past.extend(events.iter().cloned());
        }
        if let ToNode::Applied { version } = message {
            self.applied.push(version);
        }
        message
    }

    /// Reads until a message is the one.
    pub(crate) fn until<T>(&mut self, what: &str, find: impl Fn(&ToNode) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(found) = find(&self.next()) {
                return found;
            }
        }
        panic!("{what}: not seen within {PATIENCE:?}; events: {:#?}", self.past);
    }

    /// Waits until this version was acknowledged, if it was not before.
    pub(crate) fn applied(&mut self, version: u64) {
        let until = Instant::now() + PATIENCE;
        while !self.applied.contains(&version) {
            assert!(Instant::now() < until, "version {version} is not applied: {:?}", self.applied);
            self.next();
        }
    }

    pub(crate) fn refused(&mut self) -> (u64, String) {
        self.until("refused", |message| match message {
            ToNode::Refused { version, reason } => Some((*version, reason.clone())),
            _ => None,
        })
    }

    /// The next event of this instance that `find` wants, after the one that was found last.
    pub(crate) fn event<T>(&mut self, name: &str, find: impl Fn(&EventKind) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            let looked = self.looked.entry(name.to_owned()).or_default();
            while let Some(event) = self.past.get(*looked) {
                *looked += 1;
                if event.instance.as_ref().is_some_and(|id| id.name == name)
                    && let Some(found) = find(&event.what)
                {
                    return found;
                }
            }
            assert!(Instant::now() < until, "no such event of {name}: {:#?}", self.past);
            self.next();
        }
    }

    /// Waits for this verdict; returns its reason.
    pub(crate) fn health(&mut self, name: &str, wanted: Health) -> String {
        self.event(name, |what| match what {
            EventKind::Health { health, reason } if *health == wanted => Some(reason.clone()),
            _ => None,
        })
    }

    /// Waits until each of these was healthy, in any order.
    pub(crate) fn all_healthy(&mut self, names: &[&str]) {
        for name in names {
            self.health(name, Health::Healthy);
        }
    }

    /// Whether the edge closed the link.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok()
    }
}

/// `GET` over a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Serves these services; the first one gets all requests.
pub(crate) fn snapshot(version: u64, threads: u16, address: SocketAddr, services: Vec<Service>) -> Snapshot {
    Snapshot {
        format: FORMAT,
        version,
        revision: 1,
        stack: "test".to_owned(),
        threads,
        listeners: vec![listener("web", address)],
        routes: vec![route(&services[0].name)],
        services,
    }
}

/// A file without a name that holds this snapshot, as the guard keeps one.
pub(crate) fn file_of(snapshot: &Snapshot) -> File {
    let mut file = File::from(rustix::fs::memfd_create("snapshot", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    file.write_all(&serde_json::to_vec(snapshot).unwrap()).unwrap();
    file
}

pub(crate) fn listener(name: &str, bind: SocketAddr) -> Listener {
    let limits = ClientLimits {
        head_bytes: 32 * 1024,
        headers: 100,
        target_bytes: 8 * 1024,
        body_bytes: 1 << 30,
        head_timeout_ms: 10_000,
        body_idle_ms: 30_000,
        keep_alive_ms: 60_000,
        connections: 1_000,
        connections_per_client: 0,
        min_rate_bytes_per_s: 0,
        min_rate_grace_ms: 0,
    };
    Listener {
        name: name.to_owned(),
        bind,
        trusted: Vec::new(),
        limits,
        protocol: Protocol::Http,
        service: None,
        accepts_proxy: false,
        strictness: Strictness::Refuse,
        error_pages: Vec::new(),
    }
}

pub(crate) fn route(service: &str) -> Route {
    Route {
        listener: None,
        host: None,
        path: "/".to_owned(),
        headers: Vec::new(),
        service: service.to_owned(),
        idempotency_key: false,
        methods: Vec::new(),
        actions: Actions::default(),
    }
}

pub(crate) fn check() -> Check {
    let probe = Probe::Http { path: "/healthz".to_owned(), host: None, status: (200, 299) };
    Check { probe, interval_ms: 1_000, timeout_ms: 1_000, rise: 2, fall: 3 }
}

pub(crate) fn member(name: &str, address: impl Display) -> Instance {
    Instance::new(InstanceId { name: name.to_owned(), generation: 1 }, address.to_string())
}

/// A service with the defaults that the tests want.
pub(crate) fn service(instances: Vec<Instance>) -> Service {
    Service {
        name: "shop".to_owned(),
        balance: Balance::RoundRobin,
        check: Some(check()),
        liveness: None,
        ejection: Ejection {
            consecutive: 5,
            percent: 0,
            min_requests: 20,
            window_ms: 10_000,
            base_ms: 2_000,
            max_ms: 60_000,
            max_percent: 50,
            count_5xx: false,
        },
        retry: Retry { max: 3, budget_percent: 100, budget_min_per_s: 100, try_timeout_ms: 0, hedge_after_ms: 0 },
        hold: Hold { max_ms: 10_000, max_requests: 1_000 },
        limits: ServiceLimits {
            connect_timeout_ms: 1_000,
            response_timeout_ms: 30_000,
            idle_timeout_ms: 30_000,
            tunnel_idle_ms: 3_600_000,
            in_flight_per_instance: 0,
            head_bytes: 32 * 1024,
            whole_bytes: 64 * 1024,
            silent_after_ms: 300,
            idle_connections: 16,
        },
        fallback: None,
        prefer: None,
        away: false,
        observe: false,
        page: None,
        choice: Choice::default(),
        wire: Wire::default(),
        answers: Answers::default(),
        instances,
    }
}
