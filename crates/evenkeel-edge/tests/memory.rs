//! What waits for long holds no buffer: tunnels and streams of events in which nothing happens.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use common::{Edge, eventually, snapshot};

struct Counting;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

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
