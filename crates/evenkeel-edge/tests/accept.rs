//! Connections are spread over the threads, whichever of them the kernel gives them to.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use common::{Client, Edge, Server, eventually, snapshot};
use evenkeel_core::snapshot::Snapshot;
use evenkeel_edge::messages::ToThread;

const MANY: u64 = 64;
/// What one of two threads may have of them at most.
const MOST: u64 = MANY * 60 / 100;

/// An edge of two threads of which only the first one accepts: as if the kernel gave every connection to it.
fn lopsided(server: &Server) -> Edge {
    let mut edge = Edge::start(Snapshot { threads: 2, ..snapshot(&[server.address]) });
    edge.threads.orders[1].send(ToThread::Close { name: "web".into() }).unwrap();
    // Orders are followed in turn: once this one is, the second thread accepts no more.
    let same = Snapshot { version: 2, ..edge.snapshot.clone() };
    edge.apply(same);
    edge
}

fn on(edge: &Edge, thread: usize) -> u64 {
    edge.threads.shared.threads[thread].0.connections.get()
}

fn open(edge: &Edge) -> Client {
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status(), 200);
    client
}

#[test]
fn connections_that_all_come_to_one_thread_are_spread() {
    let server = Server::named("one");
    let edge = lopsided(&server);
    let clients: Vec<Client> = (0..MANY).map(|_| open(&edge)).collect();
    assert_eq!(on(&edge, 0) + on(&edge, 1), MANY);
    assert!(on(&edge, 0) <= MOST && on(&edge, 1) <= MOST, "{} and {}", on(&edge, 0), on(&edge, 1));
    drop(clients);
    eventually("both threads have none", || on(&edge, 0) + on(&edge, 1) == 0);
}

#[test]
fn connections_that_come_at_once_are_spread_too() {
    let server = Server::named("one");
    let edge = lopsided(&server);
    let clients: Vec<Client> = (0..MANY).map(|_| edge.client()).collect();
    eventually("all are served", || on(&edge, 0) + on(&edge, 1) == MANY);
    assert!(on(&edge, 0) <= MOST && on(&edge, 1) <= MOST, "{} and {}", on(&edge, 0), on(&edge, 1));
    drop(clients);
}

#[test]
fn a_thread_keeps_what_it_has_while_it_is_not_clearly_busier() {
    let server = Server::named("one");
    let edge = lopsided(&server);
    let clients = [open(&edge), open(&edge)];
    assert_eq!((on(&edge, 0), on(&edge, 1)), (2, 0));
    drop(clients);
}
