//! Hedges: a late answer is overtaken by a second try elsewhere, where that is safe, and never beyond the budget.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
};

use common::{Edge, Server, eventually, nowhere, snapshot};
use evenkeel_core::snapshot::{Snapshot, Sticky};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
const KEYED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 1\r\nContent-Length: 1\r\n\r\nx";

fn hedging(servers: &[&Server], after_ms: u64) -> Snapshot {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let mut snapshot = snapshot(&addresses);
    snapshot.services[0].retry.hedge_after_ms = after_ms;
    snapshot
}

fn ok(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

#[test]
fn a_late_answer_is_overtaken_and_its_instance_is_not_blamed() {
    let (slow, _answers) = Server::silent();
    let fast = Server::named("fast");
    let edge = Edge::start(hedging(&[&slow, &fast], 20));
    let mut client = edge.client();
    client.send(GET);
    assert_eq!(client.answer().text(), "fast");
    eventually("both have had it", || (slow.count(), fast.count()) == (1, 1));
    assert_eq!((edge.sum(|cell| &cell.hedges), edge.sum(|cell| &cell.hedges_won)), (1, 1));
    assert_eq!(edge.sum(|cell| &cell.retries), 0, "nothing had failed");
    let (loser, winner) = (edge.instance(0), edge.instance(1));
    assert_eq!((loser.sum(|cell| &cell.failed), winner.sum(|cell| &cell.answered)), (0, 1));
    assert!(loser.quiet_since_ms().is_some(), "that it owes an answer is still seen");
    eventually("its connection is closed", || loser.in_flight.load(Relaxed) == 0);
    // The client's connection goes on, and an answer that comes in time is not hedged.
    client.send(GET);
    client.answer();
    client.send(GET);
    client.answer();
    eventually("all have ended", || edge.sum(|cell| &cell.responses[1]) == 3);
}

#[test]
fn the_first_one_may_still_win() {
    let (first, first_answers) = Server::silent();
    let (second, second_answers) = Server::silent();
    let edge = Edge::start(hedging(&[&first, &second], 20));
    let mut client = edge.client();
    client.send(GET);
    eventually("both have it", || first.count() + second.count() == 2);
    first_answers.send(ok("first")).unwrap();
    assert_eq!(client.answer().text(), "first");
    assert_eq!((edge.sum(|cell| &cell.hedges), edge.sum(|cell| &cell.hedges_won)), (1, 0));
    second_answers.send(ok("late")).unwrap();
    eventually("the loser is over", || edge.instance(1).in_flight.load(Relaxed) == 0);
    client.send(GET);
    eventually("the next one is there", || first.count() + second.count() >= 3);
    first_answers.send(ok("next")).unwrap();
    second_answers.send(ok("next")).unwrap();
    assert_eq!(client.answer().text(), "next", "not the answer that was late");
}

#[test]
fn who_is_cut_off_leaves_the_request_to_the_other() {
    let (first, first_answers) = Server::silent();
    let (second, second_answers) = Server::silent();
    let edge = Edge::start(hedging(&[&first, &second], 20));
    let mut client = edge.client();
    client.send(GET);
    eventually("both have it", || first.count() + second.count() == 2);
    drop(first_answers);
    eventually("it is noticed", || edge.instance(0).sum(|cell| &cell.failed) == 1);
    second_answers.send(ok("second")).unwrap();
    assert_eq!(client.answer().text(), "second");
}

#[test]
fn a_second_try_that_fails_at_once_does_not_win() {
    let (slow, answers) = Server::silent();
    let broken = Server::answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 6\r\n\r\nbroken");
    let edge = Edge::start(hedging(&[&slow, &broken], 20));
    let mut client = edge.client();
    client.send(GET);
    let other = edge.instance(1);
    eventually("the other one has had it", || broken.count() == 1);
    settle(&edge);
    answers.send(ok("slow")).unwrap();
    assert_eq!(client.answer().text(), "slow");
    assert_eq!((edge.sum(|cell| &cell.hedges), edge.sum(|cell| &cell.hedges_won)), (1, 0));
    eventually("nothing is in flight", || other.in_flight.load(Relaxed) == 0);
}

#[test]
fn a_failure_is_better_than_no_answer() {
    let (first, first_answers) = Server::silent();
    let broken = Server::answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 6\r\n\r\nbroken");
    let edge = Edge::start(hedging(&[&first, &broken], 20));
    let mut client = edge.client();
    client.send(GET);
    eventually("both have had it", || (first.count(), broken.count()) == (1, 1));
    settle(&edge);
    drop(first_answers);
    assert_eq!(client.answer().text(), "broken");
    assert_eq!(edge.instance(0).sum(|cell| &cell.failed), 1);
}

#[test]
fn who_was_to_be_asked_beside_owes_nothing_once_the_first_has_answered() {
    // Its address takes no connection and refuses none.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let _fills_it = std::net::TcpStream::connect(full.local_addr().unwrap()).unwrap();
    let (first, answers) = Server::silent();
    let mut snapshot = hedging(&[&first], 20);
    let mut other = snapshot.services[0].instances[0].clone();
    (other.id.name, other.address) = ("app/2".to_owned(), full.local_addr().unwrap().to_string());
    snapshot.services[0].instances.push(other);
    let edge = Edge::start(snapshot);
    let mut client = edge.client();
    client.send(GET);
    eventually("another one is asked", || edge.sum(|cell| &cell.hedges) == 1);
    // An answer that goes on for long.
    answers.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n".to_vec()).unwrap();
    assert_eq!(client.answer_to_head().status(), 200);
    let other = edge.instance(1);
    assert_eq!((other.in_flight.load(Relaxed), other.quiet_since_ms()), (0, None));
}

#[test]
fn what_may_not_be_repeated_is_never_sent_twice() {
    let (slow, answers) = Server::silent();
    let fast = Server::named("fast");
    let edge = Edge::start(hedging(&[&slow, &fast], 1));
    let mut client = edge.client();
    client.send(POST);
    eventually("it is there", || slow.count() == 1);
    // Time enough for a hedge, had there been one: other requests come and go meanwhile.
    for _ in 0..20 {
        edge.get("/");
    }
    let before = fast.count();
    answers.send(ok("slow")).unwrap();
    let mut texts = vec![client.answer().text()];
    texts.dedup();
    assert_eq!(texts, ["slow"]);
    let posts = |server: &Server| server.requests().iter().filter(|one| one.head.starts_with("POST")).count();
    assert_eq!((posts(&slow), posts(&fast)), (1, 0), "{before} requests at the other one");
}

#[test]
fn a_keyed_request_is_hedged_where_its_route_believes_in_keys() {
    let (slow, _answers) = Server::silent();
    let fast = Server::named("fast");
    let mut keyed = hedging(&[&slow, &fast], 20);
    keyed.routes[0].idempotency_key = true;
    let edge = Edge::start(keyed);
    let mut client = edge.client();
    client.send(KEYED);
    assert_eq!(client.answer().text(), "fast");
}

#[test]
fn no_hedge_beyond_the_budget_nor_where_clients_stay() {
    let (slow, answers) = Server::silent();
    let fast = Server::named("fast");
    let mut tight = hedging(&[&slow, &fast], 1);
    tight.services[0].retry.budget_min_per_s = 0;
    tight.services[0].retry.budget_percent = 0;
    let mut sticky = hedging(&[&slow, &fast], 1);
    sticky.services[0].choice.sticky = Some(Sticky::Header("x-session".to_owned()));
    for snapshot in [tight, sticky] {
        let edge = Edge::start(snapshot);
        let (mut client, before) = (edge.client(), slow.count());
        // Whose turn it is differs; one of two is at the slow one.
        let mut other = edge.client();
        client.send(GET);
        other.send(GET);
        eventually("one is at the slow one", || slow.count() > before);
        answers.send(ok("slow")).unwrap();
        let texts = [client.answer().text(), other.answer().text()];
        assert!(texts.contains(&"slow".to_owned()), "{texts:?}");
        assert_eq!(edge.sum(|cell| &cell.hedges), 0);
    }
}

/// Gives everything that the edge's thread has begun the time to end: a round trip through it.
fn settle(edge: &Edge) {
    assert_eq!(edge.ask("? ?\r\n\r\n").status(), 400);
}

#[test]
fn a_second_try_that_fails_is_no_sign_of_life_of_the_first() {
    let (slow, answers) = Server::silent();
    let mut two = hedging(&[&slow], 20);
    let mut other = two.services[0].instances[0].clone();
    (other.id.name, other.address) = ("app/2".into(), nowhere().to_string());
    two.services[0].instances.push(other);
    let edge = Edge::start(two);
    let mut client = edge.client();
    client.send(GET);
    eventually("the second try fails", || edge.instance(1).sum(|cell| &cell.failed) == 1);
    settle(&edge);
    let waits = edge.instance(0);
    assert_eq!(waits.last_received_ms(), None, "nothing came from it, so that it may be silent");
    assert!(waits.quiet_since_ms().is_some());
    answers.send(ok("slow")).unwrap();
    assert_eq!(client.answer().text(), "slow");
    assert_eq!((edge.sum(|cell| &cell.hedges), edge.sum(|cell| &cell.hedges_won)), (1, 0));
}

/// An instance that dies of its first request once it is told to.
fn mortal() -> (SocketAddr, Arc<AtomicUsize>, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, requests) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (kill, killed) = mpsc::channel();
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
        seen.fetch_add(1, Relaxed);
        let _ = killed.recv();
        drop(listener);
    });
    (address, requests, kill)
}

#[test]
fn whoever_dies_of_a_hedged_request_counts_as_dead() {
    let (mortals, third) = ([mortal(), mortal()], Server::named("third"));
    let addresses = [mortals[0].0, mortals[1].0, third.address];
    let mut three = snapshot(&addresses);
    three.services[0].retry.hedge_after_ms = 20;
    let edge = Edge::start(three);
    let mut client = edge.client();
    client.send(GET);
    eventually("both have it", || mortals.iter().all(|(_, requests, _)| requests.load(Relaxed) == 1));
    for (place, (_, _, kill)) in mortals.iter().enumerate() {
        kill.send(()).unwrap();
        eventually("it is noticed", || edge.instance(place).sum(|cell| &cell.failed) == 1);
    }
    let answer = client.answer();
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("two instances died"), "{}", answer.text());
    assert_eq!(third.count(), 0);
    assert_eq!(edge.sum(|cell| &cell.hedges_won), 0, "nobody answered");
}

#[test]
fn a_try_has_no_more_time_beside_another_one() {
    let ((first, _one), (second, _two)) = (Server::silent(), Server::silent());
    let third = Server::named("third");
    let mut short = hedging(&[&first, &second, &third], 20);
    short.services[0].retry.try_timeout_ms = 600;
    let edge = Edge::start(short);
    assert_eq!(edge.get("/").text(), "third");
    eventually("both have had it", || (first.count(), second.count()) == (1, 1));
}
