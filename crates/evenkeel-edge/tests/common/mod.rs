//! A real data plane in this process, instances that do what a test says, and a client of raw bytes.
// Each test file uses its part of it, and what fails here fails the test.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, mpsc},
    time::{Duration, Instant},
};

use evenkeel_core::{
    snapshot::{
        Actions, Answers, Balance, Choice, ClientLimits, Ejection, FORMAT, Hold, Instance, Listener, Protocol, Retry,
        Route, Service, ServiceLimits, Snapshot, Strictness, Wire,
    },
    status::{Health, InstanceId},
};
use evenkeel_edge::{
    data,
    messages::{Ack, Notice, Threads, ToThread},
    shared::InstanceShared,
    view::{Registry, View},
};
use rustix::net::{AddressFamily, SocketType, bind, socket};

/// Longer than anything takes that works; a test that waits for this long has failed.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub fn snapshot(instances: &[SocketAddr]) -> Snapshot {
    Snapshot {
        format: FORMAT,
        version: 1,
        revision: 1,
        stack: "test".into(),
        threads: 1,
        listeners: vec![Listener {
            name: "web".into(),
            bind: "127.0.0.1:0".parse().unwrap(),
            trusted: Vec::new(),
            limits: ClientLimits {
                head_bytes: 16 << 10,
                headers: 100,
                target_bytes: 8 << 10,
                body_bytes: 8 << 20,
                head_timeout_ms: 50_000,
                body_idle_ms: 50_000,
                keep_alive_ms: 10_000,
                connections: 1000,
                connections_per_client: 0,
                min_rate_bytes_per_s: 0,
                min_rate_grace_ms: 0,
            },
            protocol: Protocol::Http,
            service: None,
            accepts_proxy: false,
            strictness: Strictness::Refuse,
            error_pages: Vec::new(),
        }],
        routes: vec![Route {
            listener: None,
            host: None,
            path: "/".into(),
            headers: Vec::new(),
            service: "app".into(),
            idempotency_key: false,
            methods: Vec::new(),
            actions: Actions::default(),
        }],
        services: vec![service("app", instances)],
    }
}

pub fn service(name: &str, instances: &[SocketAddr]) -> Service {
    let instances = instances.iter().enumerate().map(|(n, address)| {
        let id = InstanceId { name: format!("{name}/{}", n + 1), generation: 1 };
        Instance::new(id, address.to_string())
    });
    Service {
        name: name.into(),
        balance: Balance::RoundRobin,
        check: None,
        liveness: None,
        ejection: Ejection {
            consecutive: 0,
            percent: 0,
            min_requests: 0,
            window_ms: 10_000,
            base_ms: 1000,
            max_ms: 1000,
            max_percent: 50,
            count_5xx: false,
        },
        retry: Retry { max: 2, budget_percent: 20, budget_min_per_s: 100, try_timeout_ms: 0, hedge_after_ms: 0 },
        hold: Hold { max_ms: 10_000, max_requests: 100 },
        limits: ServiceLimits {
            connect_timeout_ms: 20_000,
            response_timeout_ms: 50_000,
            idle_timeout_ms: 50_000,
            tunnel_idle_ms: 3_600_000,
            in_flight_per_instance: 0,
            head_bytes: 16 << 10,
            whole_bytes: 64 << 10,
            silent_after_ms: 0,
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
        instances: instances.collect(),
    }
}

pub struct Edge {
    pub threads: Threads,
    pub address: SocketAddr,
    pub view: View,
    registry: Registry,
    pub snapshot: Snapshot,
}

impl Edge {
    /// All instances healthy.
    pub fn start(snapshot: Snapshot) -> Self {
        let edge = Self::start_unknown(snapshot);
        for service in &edge.view.services {
            for instance in &service.instances {
                instance.shared.set_health(Health::Healthy);
                edge.threads.tell(|| ToThread::Changed(Arc::clone(&instance.shared)));
            }
        }
        edge
    }

    /// All instances of unknown health.
    pub fn start_unknown(snapshot: Snapshot) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let threads = data::spawn(usize::from(snapshot.threads)).unwrap();
        let mut registry = Registry::new(usize::from(snapshot.threads));
        let view = registry.compile(&snapshot).unwrap();
        for orders in &threads.orders {
            let socket = listener.try_clone().unwrap().into();
            orders.send(ToThread::Open { name: "web".into(), socket }).unwrap();
        }
        let mut edge = Self { threads, address, view, registry, snapshot };
        edge.send_view();
        edge
    }

    pub fn apply(&mut self, snapshot: Snapshot) {
        self.view = self.registry.compile(&snapshot).unwrap();
        self.snapshot = snapshot;
        self.send_view();
    }

    fn send_view(&mut self) {
        let view = Arc::new(self.registry.compile(&self.snapshot).unwrap());
        self.threads.tell(|| ToThread::View(Arc::clone(&view)));
        for _ in 0..self.threads.orders.len() {
            let ack = self.threads.acks.blocking_recv().unwrap();
            assert!(matches!(ack, Ack::Serving { version, .. } if version == view.version), "{ack:?}");
        }
    }

    pub fn instance(&self, place: usize) -> Arc<InstanceShared> {
        Arc::clone(&self.view.services[0].instances[place].shared)
    }

    pub fn set_health(&self, place: usize, health: Health) {
        let instance = self.instance(place);
        instance.set_health(health);
        self.threads.tell(|| ToThread::Changed(Arc::clone(&instance)));
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: &str) -> Answer {
        let mut client = self.client();
        client.send(request.as_bytes());
        client.answer()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    pub fn notices(&mut self) -> Vec<Notice> {
        let mut all = Vec::new();
        while let Ok(notice) = self.threads.notices.try_recv() {
            all.push(notice);
        }
        all
    }

    /// Waits for a notice.
    pub fn hears(&mut self, what: &str, is: impl Fn(&Notice) -> bool) {
        let start = Instant::now();
        while !self.notices().iter().any(&is) {
            assert!(start.elapsed() < PATIENCE, "never: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn sum(&self, of: impl Fn(&evenkeel_edge::shared::ServiceCell) -> &evenkeel_edge::shared::Count) -> u64 {
        self.view.services[0].shared.sum(of)
    }
}

/// Waits for a condition that another thread brings about.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a client or an instance received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// First line and fields, without the empty line.
    pub head: String,
    /// As it came, chunk framing included.
    pub raw: Vec<u8>,
    /// Without chunk framing.
    pub body: Vec<u8>,
}

pub type Answer = Message;

impl Message {
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).into_iter().next()
    }

    pub fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// A connection of raw bytes that understands just enough to know where a message ends.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn answer(&mut self) -> Answer {
        self.message(false).expect("a whole answer")
    }

    pub fn answer_to_head(&mut self) -> Answer {
        let head = self.head().expect("a head");
        Message { head, raw: Vec::new(), body: Vec::new() }
    }

    /// `None` if the connection ended within or before the message.
    pub fn message(&mut self, is_request: bool) -> Option<Message> {
        let head = self.head()?;
        let mut message = Message { head, raw: Vec::new(), body: Vec::new() };
        let bodiless = !is_request && (message.status() < 200 || matches!(message.status(), 204 | 304));
        if message.field("transfer-encoding").is_some() {
            self.chunks(&mut message)?;
        } else if let Some(length) = message.field("content-length") {
            let length: usize = length.parse().unwrap();
            if !bodiless {
                message.raw = self.take(length)?;
            }
            message.body = message.raw.clone();
        } else if !is_request && !bodiless {
            while self.read() {}
            message.raw = std::mem::take(&mut self.buffer);
            message.body = message.raw.clone();
        }
        Some(message)
    }

    fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8(head[..end].to_vec()).unwrap());
            }
            if !self.read() {
                return None;
            }
        }
    }

    fn line(&mut self, raw: &mut Vec<u8>) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                raw.extend_from_slice(&line);
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            if !self.read() {
                return None;
            }
        }
    }

    fn chunks(&mut self, message: &mut Message) -> Option<()> {
        loop {
            let line = self.line(&mut message.raw)?;
            let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
            if size == 0 {
                while !self.line(&mut message.raw)?.is_empty() {}
                return Some(());
            }
            let chunk = self.take(size + 2)?;
            message.raw.extend_from_slice(&chunk);
            message.body.extend_from_slice(&chunk[..size]);
        }
    }

    /// What is at hand, or what comes next; empty at the end of the connection.
    pub fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.read();
        }
        std::mem::take(&mut self.buffer)
    }

    /// So many bytes; `None` if the connection ends before.
    pub fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.read() {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// `false` at the end of the connection, however it ended.
    fn read(&mut self) -> bool {
        let mut part = vec![0u8; 65_536];
        match self.stream.read(&mut part) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&part[..count]);
                true
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("nothing came for {PATIENCE:?}; so far: {:?}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_) => false,
        }
    }

    /// Everything until the connection ends.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read() {}
        std::mem::take(&mut self.buffer)
    }

    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.read()
    }

    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// An instance: every connection is handed to the script on a thread of its own.
pub struct Server {
    pub address: SocketAddr,
    /// Requests seen, in the order of their arrival, where the script notes them.
    pub seen: Arc<Mutex<Vec<Message>>>,
}

/// What a script gets: the connection and the place to note requests.
pub struct Script {
    pub client: Client,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Script {
    /// The next request, noted; `None` at the end of the connection.
    pub fn request(&mut self) -> Option<Message> {
        let message = self.client.message(true)?;
        self.seen.lock().unwrap().push(message.clone());
        Some(message)
    }

    /// The next request, noted, as which of the noted ones it is, from 0 on.
    fn numbered_request(&mut self) -> Option<usize> {
        let message = self.client.message(true)?;
        let mut seen = self.seen.lock().unwrap();
        seen.push(message);
        Some(seen.len() - 1)
    }

    /// Notes a request that was read without [`Self::request`].
    pub fn note(&self, request: Message) {
        self.seen.lock().unwrap().push(request);
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may be gone, which is what some tests are about.
        let _ = self.client.stream.write_all(bytes.as_ref());
    }

    pub fn reset(self) {
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.client.stream, linger).unwrap();
    }
}

impl Server {
    pub fn start(script: impl Fn(Script) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, noted) = (Arc::new(script), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&noted));
                std::thread::spawn(move || {
                    script(Script { client: Client::new(stream), seen });
                });
            }
        });
        Self { address, seen }
    }

    /// Answers every request with its own name and keeps the connection.
    pub fn named(name: &'static str) -> Self {
        Self::start(move |mut script| {
            while script.request().is_some() {
                script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()));
            }
        })
    }

    /// Answers every request with these bytes and keeps the connection.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut script| {
            while script.request().is_some() {
                script.send(&answer);
            }
        })
    }

    /// Answers with what it received: head and body.
    pub fn echo() -> Self {
        Self::start(|mut script| {
            while let Some(request) = script.request() {
                let body = [request.head.as_bytes(), b"\n\n", &request.body].concat();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                script.send([head.as_bytes(), &body].concat());
            }
        })
    }

    /// Takes requests and says nothing until the sender is dropped or sends an answer: the first one is for the request
    /// that came first, and so on.
    pub fn silent() -> (Self, mpsc::Sender<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        let receiver = Mutex::new(receiver);
        let (turn, turned) = (Mutex::new(0), Condvar::new());
        let server = Self::start(move |mut script| {
            while let Some(place) = script.numbered_request() {
                let mut turn = turned.wait_while(turn.lock().unwrap(), |turn| *turn != place).unwrap();
                let answer = receiver.lock().unwrap().recv();
                *turn += 1;
                turned.notify_all();
                drop(turn);
                let Ok(answer) = answer else {
                    return;
                };
                script.send(answer);
            }
        });
        (server, sender)
    }

    pub fn requests(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// An address where nobody listens, and where nobody can until this process ends: its port stays taken.
pub fn nowhere() -> SocketAddr {
    let taken = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = rustix::net::getsockname(&taken).unwrap().try_into().unwrap();
    std::mem::forget(taken);
    address
}
