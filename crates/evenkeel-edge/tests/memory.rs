//! What waits for long holds no buffer: tunnels and streams of events in which nothing happens. What waits for a next
//! request holds next to nothing.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;
mod control_support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use common::{Edge, eventually, snapshot};
use control_support::{member, route};
use evenkeel_core::snapshot::{Compress, Encoding, Route, Service, Snapshot};

struct Counting;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);
/// The tests of this file take turns: each counts what the whole process holds.
static TURN: Mutex<()> = Mutex::new(());

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory of callers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many wait at once: each takes four descriptors of this process.
const MANY: usize = 120;
/// Far less than a buffer, in bytes.
const MOST_EACH: usize = 8 << 10;
/// What an idle connection may hold, in bytes: its task and the runtime's registration, 256 each, its slot, and its place
/// in the list of slots, which grows by doubling.
const MOST_IDLE: usize = 600;
/// What hundreds of changes may leave behind, in bytes: far less than the instances that they replace.
const MOST_GROWN: usize = 80 << 10;

const TUNNEL: (&[u8], &[u8]) = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
);
const EVENTS: (&[u8], &[u8]) = (
    b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
);

/// Answers every connection's first request with this head, and then says nothing.
fn instance(head: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0u8; 4096]);
            stream.write_all(head).unwrap();
            open.push(stream);
        }
    });
    address
}

/// Answers every request with this head, without holding anything for it.
fn patient_instance(head: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut buffer = [0u8; 4096];
            std::thread::spawn(move || {
                while let Ok(1..) = stream.read(&mut buffer) {
                    stream.write_all(head).unwrap();
                }
            });
        }
    });
    address
}

fn open(edge: &Edge, request: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(edge.address).unwrap();
    client.set_read_timeout(Some(common::PATIENCE)).unwrap();
    client.write_all(request).unwrap();
    let (mut head, mut byte) = (Vec::with_capacity(512), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    client
}

#[test]
fn who_waits_for_long_holds_no_buffer() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for (request, head) in [TUNNEL, EVENTS] {
        let edge = Edge::start(snapshot(&[instance(head)]));
        let warm: Vec<TcpStream> = (0..4).map(|_| open(&edge, request)).collect();
        let before = HELD_BYTES.load(Relaxed);
        let clients: Vec<TcpStream> = (0..MANY).map(|_| open(&edge, request)).collect();
        let each = || HELD_BYTES.load(Relaxed).saturating_sub(before) / MANY;
        eventually("none of them holds a buffer", || each() < MOST_EACH);
        println!("{} bytes each", each());
        drop((warm, clients));
    }
}

/// As the edge bounds it, and as much again for buffers and connections.
const MOST_CODING: usize = (64 << 20) + MANY * (128 << 10);

#[test]
fn answers_under_way_are_compressed_as_long_as_there_is_memory_for_it() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut snapshot = snapshot(&[listener.local_addr().unwrap()]);
    let open = Arc::new(Mutex::new(Vec::new()));
    let opened = Arc::clone(&open);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0u8; 4096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000000\r\n\r\nsome";
            stream.write_all(head.as_bytes()).unwrap();
            opened.lock().unwrap().push(stream);
        }
    });
    snapshot.services[0].answers.compress =
        Some(Compress { encodings: vec![Encoding::Br], min_bytes: 1, types: vec!["text/*".into()] });
    // None of them may end before all have begun.
    snapshot.services[0].limits.idle_timeout_ms = 600_000;
    let edge = Edge::start(snapshot);
    let answered = || {
        let mut client = common::Client::connect(edge.address);
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(client.take(1).expect("a head"));
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains("\r\nVary: Accept-Encoding\r\n"), "caches must know in any case: {head}");
        (client, head.contains("\r\nContent-Encoding: br\r\n"))
    };
    let before = HELD_BYTES.load(Relaxed);
    let clients: Vec<(common::Client, bool)> = (0..MANY).map(|_| answered()).collect();
    let many = clients.iter().filter(|(_, coded)| *coded).count();
    let held = HELD_BYTES.load(Relaxed).saturating_sub(before);
    println!("{many} of {MANY} are compressed, {held} bytes");
    assert!(many > 10 && many < MANY && held < MOST_CODING, "{many} of {MANY} are compressed, {held} bytes");
    // Once their answers have ended, there is room for others.
    open.lock().unwrap().clear();
    drop(clients);
    eventually("an answer is compressed again", || answered().1);
}

const PLAIN: (&[u8], &[u8]) = (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");

#[test]
fn who_waits_for_a_next_request_holds_next_to_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let edge = Edge::start(snapshot(&[patient_instance(PLAIN.1)]));
    let warm: Vec<TcpStream> = (0..4).map(|_| open(&edge, PLAIN.0)).collect();
    let before = HELD_BYTES.load(Relaxed);
    let clients: Vec<TcpStream> = (0..MANY).map(|_| open(&edge, PLAIN.0)).collect();
    let each = || HELD_BYTES.load(Relaxed).saturating_sub(before) / MANY;
    eventually("each of them is small", || each() < MOST_IDLE);
    println!("{} bytes each", each());
    drop((warm, clients));
}

/// Services beside the one that is asked, and instances of each.
const OTHERS: usize = 8;
const INSTANCES: usize = 4;

fn changing(edge: &control_support::Edge, version: u64, server: SocketAddr) -> Snapshot {
    let other = |number: usize| {
        let one = |place: usize| {
            let mut one = member(&format!("other-{number}/{place}"), server);
            // One service after the other is replaced as a whole.
            one.id.generation = (version + (number as u64)) / OTHERS as u64;
            one
        };
        let instances = (0..INSTANCES).map(one).collect();
        Service { name: format!("other-{number}"), check: None, ..control_support::service(instances) }
    };
    let shop = control_support::service(vec![member("shop/1", server)]);
    let mut snapshot = edge.snapshot(version, std::iter::once(shop).chain((0..OTHERS).map(other)).collect());
    let lead = |number: usize| Route { host: Some(format!("h{number}.test")), ..route(&format!("other-{number}")) };
    snapshot.routes.extend((0..OTHERS).map(lead));
    snapshot
}

#[test]
fn hundreds_of_changes_leave_nothing_behind() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = patient_instance(PLAIN.1);
    let (edge, mut node) = control_support::Edge::linked(2);
    let mut asks = Asks { address: edge.address, stream: None };
    let mut apply = |versions: std::ops::RangeInclusive<u64>| {
        for version in versions {
            node.send(changing(&edge, version, server));
            node.applied(version);
            node.forget();
            if version % 25 != 0 {
                continue;
            }
            // One of those that are replaced, which has to be probed first, and what stays.
            asks.get(&format!("h{}.test", (version / 25) as usize % OTHERS));
            asks.get("shop.test");
            if version % 100 == 0 {
                asks.stream = None;
            }
        }
    };
    apply(1..=200);
    let before = HELD_BYTES.load(Relaxed);
    apply(201..=600);
    let grown = || HELD_BYTES.load(Relaxed).saturating_sub(before);
    println!("{} bytes more", grown());
    eventually("nothing was left behind", || grown() < MOST_GROWN);
}

/// Requests over a connection that is kept for some time.
struct Asks {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Asks {
    fn get(&mut self, host: &str) {
        let stream = self.stream.get_or_insert_with(|| {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
            stream
        });
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let (mut head, mut byte) = (Vec::with_capacity(512), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    }
}
