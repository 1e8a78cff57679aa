//! A request in steady state allocates nothing: not in the edge, and not in the client and the instance of this
//! test, so that every allocation of the process can be counted.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use common::{Edge, snapshot};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory of callers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const REQUEST: &[u8] = b"GET /path?query HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

/// Reads what belongs to one message, which comes in one piece, and answers it.
fn serve(mut stream: TcpStream) {
    let mut buffer = [0u8; 4096];
    while let Ok(1..) = stream.read(&mut buffer) {
        stream.write_all(ANSWER).unwrap();
    }
}

fn ask(client: &mut TcpStream, times: usize) {
    let mut buffer = [0u8; 4096];
    for _ in 0..times {
        client.write_all(REQUEST).unwrap();
        let mut received = 0;
        while !buffer[..received].ends_with(b"hello") {
            let count = client.read(&mut buffer[received..]).unwrap();
            assert!(count > 0, "the connection ended");
            received += count;
        }
    }
}

#[test]
fn a_request_in_steady_state_allocates_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream));
        }
    });
    let edge = Edge::start(snapshot(&[address]));
    let mut client = TcpStream::connect(edge.address).unwrap();
    client.set_read_timeout(Some(common::PATIENCE)).unwrap();
    ask(&mut client, 100);
    let before = ALLOCATIONS.load(Relaxed);
    ask(&mut client, 2000);
    let allocated = ALLOCATIONS.load(Relaxed) - before;
    // The test harness may allocate beside it now and then, but not for every request.
    assert!(allocated < 20, "{allocated} allocations in 2000 requests");
}
