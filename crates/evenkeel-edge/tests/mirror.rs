//! Mirroring: a copy never comes before its original, never delays it and never fails it.

mod common;

use std::sync::atomic::Ordering::Relaxed;

use common::{Edge, Server, eventually, nowhere, service, snapshot};
use evenkeel_core::{
    snapshot::{Duty, Mirror, Snapshot},
    status::Health,
};
use evenkeel_edge::{messages::ToThread, shared::ServiceCell};

fn mirrored(main: &Server, copies: std::net::SocketAddr, percent: u8) -> Snapshot {
    let mut snapshot = snapshot(&[main.address]);
    snapshot.services.push(service("next", &[copies]));
    snapshot.routes[0].actions.mirror = Some(Mirror { service: "next".into(), percent });
    snapshot
}

fn count(edge: &Edge, of: fn(&ServiceCell) -> &evenkeel_edge::shared::Count) -> u64 {
    edge.view.services[1].shared.sum(of)
}

#[test]
fn a_copy_follows_its_original_and_is_the_same() {
    let ((main, answers), copies) = (Server::silent(), Server::named("copy"));
    let edge = Edge::start(mirrored(&main, copies.address, 100));
    let mut client = edge.client();
    for (n, body) in [(1, "hello"), (2, ""), (3, "again")] {
        client.send(
            format!("PUT /x?y={n} HTTP/1.1\r\nHost: a\r\nX-A: b\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .as_bytes(),
        );
        eventually("the original is there", || main.count() == n);
        assert_eq!(copies.count(), n - 1, "no copy before its original was answered");
        answers.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmain".to_vec()).unwrap();
        assert_eq!(client.answer().text(), "main");
        eventually("the copy is there", || copies.count() == n);
    }
    for (original, copy) in main.requests().iter().zip(copies.requests()) {
        assert_eq!(copy.head.replace("\r\nX-Mirrored: 1", ""), original.head);
        assert_eq!((copy.field("x-mirrored"), &copy.body), (Some("1"), &original.body));
    }
    eventually("all went well", || count(&edge, |cell| &cell.mirroring) == 0);
    assert_eq!(count(&edge, |cell| &cell.mirrored), 3);
    assert_eq!(count(&edge, |cell| &cell.mirror_failed) + count(&edge, |cell| &cell.mirror_skipped), 0);
    // The other service's own counts and its instance know nothing of it.
    let next = &edge.view.services[1];
    assert_eq!(next.shared.sum(|cell| &cell.requests) + next.instances[0].shared.sum(|cell| &cell.tries), 0);
}

#[test]
fn a_service_that_does_not_answer_delays_nobody() {
    let (main, (stuck, _answers)) = (Server::named("main"), Server::silent());
    let edge = Edge::start(mirrored(&main, stuck.address, 100));
    let mut client = edge.client();
    for _ in 0..200 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().text(), "main");
    }
    eventually("the last one has ended", || {
        count(&edge, |cell| &cell.mirrored) + count(&edge, |cell| &cell.mirror_skipped) == 200
    });
    assert_eq!(
        (count(&edge, |cell| &cell.mirrored), count(&edge, |cell| &cell.mirroring)),
        (64, 64),
        "so many and no more"
    );
    eventually("they came", || stuck.count() == 64);
}

#[test]
fn what_becomes_of_copies_says_nothing_about_anybody() {
    let main = Server::named("main");
    let mut edge = Edge::start(mirrored(&main, nowhere(), 100));
    for _ in 0..10 {
        assert_eq!(edge.get("/").text(), "main");
    }
    eventually("they failed", || count(&edge, |cell| &cell.mirror_failed) == 10);
    assert!(edge.notices().is_empty(), "no failure is told");
    let instance = &edge.view.services[1].instances[0].shared;
    assert_eq!((instance.sum(|cell| &cell.failed), instance.in_flight.load(Relaxed)), (0, 0));
    // Whoever is ill gets none.
    instance.set_health(Health::Unhealthy);
    edge.threads.tell(|| ToThread::Changed(instance.clone()));
    assert_eq!(edge.get("/").text(), "main");
    eventually("it was not sent", || count(&edge, |cell| &cell.mirror_skipped) == 1);
}

#[test]
fn a_part_is_copied_and_what_is_large_is_not() {
    let (main, copies) = (Server::named("main"), Server::named("copy"));
    let edge = Edge::start(mirrored(&main, copies.address, 25));
    for _ in 0..100 {
        edge.get("/");
    }
    eventually("a quarter of them", || copies.count() == 25);
    let edge = Edge::start(mirrored(&main, copies.address, 100));
    let body = "x".repeat(100_000);
    let answer = edge.ask(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(answer.text(), "main");
    eventually("counted", || count(&edge, |cell| &cell.mirror_skipped) == 1);
    let answer = edge.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!((answer.status(), copies.count()), (200, 25));
}

#[test]
fn one_request_is_one_copy_however_often_it_was_tried() {
    let dying = Server::start(|mut script| drop(script.request()));
    let (alive, copies) = (Server::named("alive"), Server::named("copy"));
    let mut both = mirrored(&dying, copies.address, 100);
    both.services[0] = service("app", &[dying.address, alive.address]);
    let edge = Edge::start(both);
    for _ in 0..4 {
        assert_eq!(edge.get("/").text(), "alive");
    }
    eventually("four copies", || copies.count() == 4);
    assert!(dying.count() > 0);
    // Where nobody got the original, there is nothing to mirror.
    let mut nobody = mirrored(&alive, copies.address, 100);
    nobody.services[0].hold.max_ms = 0;
    nobody.services[0].instances[0].duty = Duty::Drain;
    let edge = Edge::start(nobody);
    assert_eq!(edge.get("/").status(), 503);
    assert_eq!((copies.count(), count(&edge, |cell| &cell.mirrored)), (4, 0));
}

#[test]
fn an_instance_on_trial_gets_no_copies_and_answers_of_any_kind_are_dropped() {
    let main = Server::named("main");
    let (trial, proven) = (
        Server::named("trial"),
        Server::start(|mut script| {
            let answers = [
                "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 200 OK\r\n\r\nuntil the end",
            ];
            for answer in answers {
                if script.request().is_none() {
                    return;
                }
                script.send(answer);
            }
        }),
    );
    let mut snapshot = mirrored(&main, trial.address, 100);
    snapshot.services[1] = service("next", &[trial.address, proven.address]);
    snapshot.services[1].instances[0].trial = true;
    let edge = Edge::start(snapshot);
    for n in 1..=6 {
        assert_eq!(edge.get("/").text(), "main");
        eventually("its copy is done", || proven.count() == n && count(&edge, |cell| &cell.mirroring) == 0);
    }
    assert_eq!((trial.count(), count(&edge, |cell| &cell.mirror_failed)), (0, 0));
}

#[test]
fn a_copy_goes_to_whoever_is_there_when_its_original_has_been_answered() {
    let ((main, answers), former, next) = (Server::silent(), Server::named("former"), Server::named("next"));
    let mut edge = Edge::start(mirrored(&main, former.address, 100));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the original is there", || main.count() == 1);
    let mut replaced = mirrored(&main, next.address, 100);
    replaced.version = 2;
    edge.apply(replaced);
    edge.view.services[1].instances[0].shared.set_health(Health::Healthy);
    answers.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()).unwrap();
    client.answer();
    eventually("the copy is there", || next.count() == 1);
    assert_eq!(former.count(), 0);
}
