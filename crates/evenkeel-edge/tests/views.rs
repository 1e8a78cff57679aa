//! What a connection sees of the views that come and go while it lives.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, atomic::Ordering::Relaxed};

use common::{Edge, Server, eventually, snapshot};
use evenkeel_core::status::Health;

#[test]
fn a_request_whose_head_comes_in_two_views_is_held_where_it_is_found_again() {
    let server = Server::named("one");
    let first = snapshot(&[server.address]);
    let mut second = first.clone();
    second.version = 2;
    second.services[0].instances[0].weight = 7;
    let mut edge = Edge::start_unknown(first);
    // Nobody has asked for the service on this thread yet.
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost");
    assert_eq!(edge.ask("? ?\r\n\r\n").status(), 400);
    edge.apply(second);
    client.send(b": a\r\n\r\n");
    let shared = Arc::clone(&edge.view.services[0].shared);
    eventually("it is held", || shared.holding.load(Relaxed) == 1);
    edge.set_health(0, Health::Healthy);
    assert_eq!(client.answer().text(), "one");
}

#[test]
fn connections_to_an_instance_that_is_gone_are_closed_whoever_remembers_it() {
    let stays = Server::named("stays");
    let leaves = Server::start(|mut script| {
        while script.request().is_some() {
            script.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nleaves");
        }
        script.note(common::Message { head: "closed".to_owned(), raw: Vec::new(), body: Vec::new() });
    });
    let both = snapshot(&[stays.address, leaves.address]);
    let mut edge = Edge::start(both.clone());
    // This client waits for its next request and has seen the first view only.
    let mut idle = edge.client();
    for _ in 0..2 {
        idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        idle.answer();
    }
    let mut second = both.clone();
    second.version = 2;
    second.services[0].instances[0].weight = 7;
    edge.apply(second.clone());
    let mut third = second;
    third.version = 3;
    third.services[0].instances.truncate(1);
    edge.apply(third);
    let closed = || leaves.requests().iter().any(|message| message.head == "closed");
    eventually("its idle connection is closed", closed);
    idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.answer().text(), "stays");
}

#[test]
fn what_goes_on_for_long_keeps_no_former_view() {
    let server = Server::start(|mut script| {
        let Some(request) = script.request() else { return };
        if request.head.starts_with("GET /tunnel ") {
            script.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        } else {
            script.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        }
        script.client.rest();
    });
    let mut edge = Edge::start(snapshot(&[server.address]));
    let open = |edge: &Edge, request: &str| {
        let mut client = edge.client();
        client.send(format!("{request}Host: a\r\n\r\n").as_bytes());
        client
    };
    let mut tunnel = open(&edge, "GET /tunnel HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: echo\r\n");
    assert_eq!(tunnel.answer_to_head().status(), 101);
    let mut events = open(&edge, "GET /events HTTP/1.1\r\n");
    assert_eq!(events.answer_to_head().status(), 200);
    let former = Arc::downgrade(&edge.view.services[0]);
    let mut next = edge.snapshot.clone();
    (next.version, next.services[0].instances[0].weight) = (2, 7);
    edge.apply(next);
    eventually("the former view is let go of", || former.strong_count() == 0);
    // Both go on, are counted, and end as ever.
    let shared = edge.instance(0);
    assert_eq!(shared.in_flight.load(Relaxed), 2);
    drop((tunnel, events));
    eventually("nothing is in flight", || shared.in_flight.load(Relaxed) == 0);
}
