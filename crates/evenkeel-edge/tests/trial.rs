//! Instances on trial: a deploy of something that fails costs no client an answer, and its share is a bound.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;
mod control_support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use common::{Client, Edge, Server, eventually, snapshot};
use control_support::{Edge as WholeEdge, get, instance::Server as Known, load::Load, member, service};
use evenkeel_core::{
    snapshot::{Balance, Snapshot},
    status::Health,
};
use evenkeel_edge::messages::{Failure, Notice};

/// Answers every request with this status, and probes of `/healthz` with 200.
fn answering(status: u16) -> Server {
    Server::start(move |mut script| {
        while let Some(request) = script.client.message(true) {
            let status = if request.head.starts_with("GET /healthz ") { 200 } else { status };
            script.send(format!("HTTP/1.1 {status} x\r\nContent-Length: 3\r\n\r\nbad"));
        }
    })
}

/// The first of these is on trial with a tenth of the weights of two.
fn on_trial(instances: &[std::net::SocketAddr]) -> Snapshot {
    let mut snapshot = snapshot(instances);
    for instance in &mut snapshot.services[0].instances {
        instance.weight = 90;
    }
    snapshot.services[0].instances[0].weight = 10;
    snapshot.services[0].instances[0].trial = true;
    snapshot.services[0].instances[0].sheltered = true;
    snapshot
}

#[test]
fn a_server_error_is_answered_by_another_instance() {
    let (bad, good) = (answering(500), Server::named("good"));
    let mut edge = Edge::start(on_trial(&[bad.address, good.address]));
    let mut client = edge.client();
    for _ in 0..100 {
        client.send(b"GET /cart?session=secret HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "good"));
    }
    let trial = edge.instance(0);
    let tries = trial.sum(|cell| &cell.tries);
    assert!((9..=11).contains(&tries), "{tries} of 100 went to a tenth");
    assert_eq!(trial.sum(|cell| &cell.failed), tries);
    assert_eq!((trial.sum(|cell| &cell.responses[4]), trial.sum(|cell| &cell.answered)), (tries, 0));
    eventually("each was answered once", || edge.sum(|cell| &cell.responses[1]) == 100);
    let notices = edge.notices();
    let failed = notices.iter().filter(|n| matches!(n, Notice::Failed { failure: Failure::Status, .. })).count();
    assert_eq!(failed as u64, tries);
    let samples: Vec<_> = notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Retried { reason, instance, next, others, .. } => {
                Some((reason.as_str(), instance.id.name.as_str(), next.id.name.as_str(), *others))
            }
            _ => None,
        })
        .collect();
    assert_eq!(samples[0], ("GET /cart: it answered 500 while on trial", "app/1", "app/2", 0));
    assert!(samples.len() < failed, "samples only: {samples:?}");
}

#[test]
fn what_could_not_be_repeated_goes_to_those_that_have_proven_themselves() {
    let (bad, good) = (answering(500), Server::named("good"));
    let edge = Edge::start(on_trial(&[bad.address, good.address]));
    for n in 0..60 {
        let body = if n % 2 == 0 { "Content-Length: 2\r\n\r\nhi" } else { "Content-Length: 0\r\n\r\n" };
        assert_eq!(edge.ask(&format!("POST / HTTP/1.1\r\nHost: a\r\n{body}")).text(), "good");
    }
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for _ in 0..30 {
        assert_eq!(edge.ask(upgrade).text(), "good", "a tunnel stays where it is");
    }
    assert_eq!(edge.instance(0).sum(|cell| &cell.tries), 0);
    edge.set_health(1, Health::Unhealthy);
    let answer = edge.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((answer.status(), answer.text().as_str()), (500, "bad"), "nobody else is left");
    assert_eq!(edge.get("/").status(), 500);
}

#[test]
fn one_that_is_open_gets_its_share_of_every_kind_of_request() {
    let (new, good) = (Server::named("new"), Server::named("good"));
    let mut snapshot = on_trial(&[new.address, good.address]);
    snapshot.services[0].instances[0].sheltered = false;
    let edge = Edge::start(snapshot);
    for _ in 0..100 {
        assert_eq!(edge.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").status(), 200);
    }
    let tries = edge.instance(0).sum(|cell| &cell.tries);
    assert!((9..=11).contains(&tries), "{tries} of 100 went to a tenth");
}

#[test]
fn the_share_is_a_bound_under_every_algorithm() {
    for balance in [Balance::RoundRobin, Balance::WeightedRoundRobin, Balance::LeastConnections, Balance::IpHash] {
        let servers = [Server::named("new"), Server::named("a"), Server::named("b")];
        let mut snapshot = on_trial(&[servers[0].address, servers[1].address, servers[2].address]);
        snapshot.services[0].balance = balance;
        snapshot.services[0].instances[0].weight = 20;
        let edge = Edge::start(snapshot);
        let mut client = edge.client();
        for _ in 0..400 {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.answer().status(), 200);
        }
        let got = servers[0].count();
        // A client's hash may lead elsewhere altogether.
        let least = if balance == Balance::IpHash { 0 } else { 39 };
        assert!((least..=41).contains(&got), "{balance:?}: {got} of 400 at a tenth");
        let others = [servers[1].count(), servers[2].count()];
        if matches!(balance, Balance::RoundRobin | Balance::WeightedRoundRobin) {
            assert!(others.iter().all(|count| (150..=210).contains(count)), "{balance:?}: {others:?}");
        }
    }
}

#[test]
fn a_slow_one_does_not_gather_the_clients() {
    let (slow, sender) = Server::silent();
    let good = Server::named("good");
    let edge = Edge::start(on_trial(&[slow.address, good.address]));
    let answered = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (mut client, answered, stop) =
                (Client::connect(edge.address), Arc::clone(&answered), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(SeqCst) {
                    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    assert_eq!(client.answer().status(), 200);
                    answered.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    eventually("most clients go on", || answered.load(SeqCst) > 2000);
    let stuck = edge.instance(0).in_flight.load(SeqCst);
    assert!((1..=2).contains(&stuck), "{stuck} of 16 clients wait for a tenth");
    stop.store(true, SeqCst);
    for _ in 0..4 {
        sender.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()).unwrap();
    }
    for client in clients {
        client.join().unwrap();
    }
}

/// The whole edge: an instance on trial that answers 500 to everything is ejected, and of 32 clients with a mixture of
/// methods none sees anything of it.
#[test]
fn a_deploy_of_something_that_answers_500_costs_nothing() {
    let (edge, mut node) = WholeEdge::linked(2);
    let (good, bad) = (Known::start("good"), answering(500));
    let proven = member("shop/1", good.address);
    let mut trial = member("shop/2", bad.address);
    (trial.trial, trial.sheltered) = (true, true);
    node.send(edge.snapshot(1, vec![service(vec![proven.clone()])]));
    node.all_healthy(&["shop/1"]);
    let load = Load::start(edge.address, 16);
    let stop = Arc::new(AtomicBool::new(false));
    let posts: Vec<_> = (0..16).map(|_| post_until(edge.address, Arc::clone(&stop))).collect();
    good.wait_for_requests(200);
    node.send(edge.snapshot(2, vec![service(vec![proven, trial])]));
    let reason = node.health("shop/2", Health::Ejected);
    assert!(reason.contains("while on trial") && reason.contains("it answered 5xx"), "{reason}");
    let seen = good.requests();
    good.wait_for_requests(seen + 200);
    stop.store(true, SeqCst);
    load.end();
    for posts in posts {
        assert!(posts.join().expect("every answer was 200") > 0);
    }
    assert_eq!(get(edge.address, "/").1, "good");
}

fn post_until(address: std::net::SocketAddr, stop: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut client = Client::connect(address);
        let mut answers = 0;
        while !stop.load(SeqCst) {
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
            let answer = client.answer();
            assert_eq!((answer.status(), answer.text().as_str()), (200, "good"));
            answers += 1;
        }
        answers
    })
}
