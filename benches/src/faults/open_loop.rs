//! The load: requests that are due at fixed times, each sent over whichever connection is free, a new one if none is.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
};

/// After the last request is due, answers are awaited for so long.
const PATIENCE: Duration = Duration::from_secs(8);

/// Connections at once; a request that finds none of them free is not sent, which is counted apart: either the contender
/// keeps so many waiting, or the machine does not keep up with the load.
const MOST: usize = 3_000;

/// The load itself must not wait for long.
const CONNECT: Duration = Duration::from_millis(10);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Get,
    Post,
    Slow,
}

/// One request that is over.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub kind: Kind,
    /// When it was due, since the start.
    pub due: Duration,
    /// From then to the last byte of its answer.
    pub took: Duration,
    pub good: bool,
}

/// What the clients saw.
#[derive(Default)]
pub struct Seen {
    pub samples: Vec<Sample>,
    /// Requests that were not sent, since too many waited.
    pub unsent: usize,
    /// What went wrong, and how often.
    pub failures: BTreeMap<(Kind, String), usize>,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    asked: Option<(Kind, Instant)>,
}

/// The load of one run.
pub struct OpenLoop {
    address: SocketAddr,
    poll: OwnedFd,
    connections: Vec<Option<Connection>>,
    idle: Vec<usize>,
    open: usize,
    began: Instant,
    number: u64,
    pub seen: Seen,
}

impl OpenLoop {
    pub fn new(port: u16) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (address, began) = (SocketAddr::from(([127, 0, 0, 1], port)), Instant::now());
        let (connections, idle, seen) = (Vec::new(), Vec::new(), Seen::default());
        Ok(Self { address, poll, connections, idle, open: 0, began, number: 0, seen })
    }

    /// Asks for so long, `per_second` `GET`s a second, a `POST` with every eightieth, a slow one with every two
    /// hundredth; `at` is called with the time since the start before each wait.
    pub fn run(
        &mut self,
        per_second: u32,
        time: Duration,
        mut at: impl FnMut(Duration) -> io::Result<()>,
    ) -> io::Result<()> {
        self.began = Instant::now();
        let period = Duration::from_secs(1) / per_second;
        let mut next = 0;
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
        loop {
            let since = self.began.elapsed();
            at(since)?;
            while period * next <= since && period * next < time {
                let due = self.began + period * next;
                self.ask(Kind::Get, due);
                if next % 80 == 40 {
                    self.ask(Kind::Post, due);
                }
                if next % 200 == 100 {
                    self.ask(Kind::Slow, due);
                }
                next += 1;
            }
            let asking = period * next < time;
            let open = self.connections.iter().flatten().any(|connection| connection.asked.is_some());
            if !asking && (!open || since > time + PATIENCE) {
                break;
            }
            let wait = (period * next).saturating_sub(self.began.elapsed()).min(Duration::from_millis(5));
            let wait = if asking { wait } else { Duration::from_millis(5) };
            let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
            let ready = match epoll::wait(&self.poll, &mut events, Some(&wait)) {
                Err(rustix::io::Errno::INTR) => 0,
                ready => ready?,
            };
            for event in &events[..ready] {
                self.read(usize::try_from(event.data.u64()).expect("places are small"));
            }
        }
        for place in 0..self.connections.len() {
            self.ends(place, Err("never answered".to_owned()));
        }
        Ok(())
    }

    fn ask(&mut self, kind: Kind, due: Instant) {
        self.number += 1;
        let request = match kind {
            Kind::Get => "GET / HTTP/1.1\r\nHost: bench\r\n\r\n".to_owned(),
            Kind::Post => format!("POST /order/{} HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n", self.number),
            Kind::Slow => format!("GET /slow/{} HTTP/1.1\r\nHost: bench\r\n\r\n", self.number),
        };
        if self.open >= MOST && self.idle.is_empty() {
            self.seen.unsent += 1;
            return;
        }
        let place = match self.free() {
            Ok(place) => place,
            Err(error) => return self.seen.fails(kind, due, self.began, format!("connect: {error}")),
        };
        let connection = self.connections[place].as_mut().expect("it is free");
        connection.asked = Some((kind, due));
        if let Err(error) = connection.stream.write_all(request.as_bytes()) {
            self.ends(place, Err(format!("send: {}", error.kind())));
        }
    }

    /// A connection without a request.
    fn free(&mut self) -> io::Result<usize> {
        while let Some(place) = self.idle.pop() {
            if self.connections[place].as_ref().is_some_and(|connection| connection.asked.is_none()) {
                return Ok(place);
            }
        }
        // On this machine a connection is there at once, or the contender accepts no more.
        let stream = TcpStream::connect_timeout(&self.address, CONNECT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.open += 1;
        let place = self.connections.len();
        epoll::add(&self.poll, &stream, epoll::EventData::new_u64(place as u64), epoll::EventFlags::IN)?;
        self.connections.push(Some(Connection { stream, input: Vec::new(), asked: None }));
        Ok(place)
    }

    fn read(&mut self, place: usize) {
        let Some(connection) = &mut self.connections[place] else { return };
        let mut piece = [0; 8192];
        match connection.stream.read(&mut piece) {
            Ok(0) => self.ends(place, Err("the connection ended".to_owned())),
            Ok(read) => {
                connection.input.extend_from_slice(&piece[..read]);
                if let Some((status, close)) = whole(&mut connection.input) {
                    let outcome = if status == 200 { Ok(close) } else { Err(format!("status {status}")) };
                    self.ends(place, outcome);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.ends(place, Err(format!("receive: {}", error.kind()))),
        }
    }

    /// The request of this connection is over; `Ok(true)`: the connection too.
    fn ends(&mut self, place: usize, outcome: Result<bool, String>) {
        let Some(connection) = &mut self.connections[place] else { return };
        if let Some((kind, due)) = connection.asked.take() {
            let (since, took) = (due.saturating_duration_since(self.began), due.elapsed());
            match &outcome {
                Ok(_) => self.seen.samples.push(Sample { kind, due: since, took, good: true }),
                Err(failure) => self.seen.fails(kind, due, self.began, failure.clone()),
            }
        }
        if outcome == Ok(false) {
            self.idle.push(place);
        } else {
            self.connections[place] = None;
            self.open -= 1;
        }
    }
}

impl Seen {
    fn fails(&mut self, kind: Kind, due: Instant, began: Instant, failure: String) {
        let due_since = due.saturating_duration_since(began);
        self.samples.push(Sample { kind, due: due_since, took: due.elapsed(), good: false });
        *self.failures.entry((kind, failure)).or_default() += 1;
    }
}

/// Status of a whole answer and whether the connection ends with it; the answer is taken away.
fn whole(input: &mut Vec<u8>) -> Option<(u16, bool)> {
    let end = input.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&input[..end]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length: usize = field("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
    if input.len() < end + length {
        return None;
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let close = field("connection:") == Some("close");
    input.drain(..end + length);
    Some((status, close))
}
