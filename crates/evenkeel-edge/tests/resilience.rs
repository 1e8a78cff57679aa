//! No request is lost that could have been kept, and none is sent twice that must not be.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use common::{Client, Edge, Server, eventually, nowhere, service, snapshot};
use evenkeel_core::{
    snapshot::{Balance, Duty},
    status::Health,
};
use evenkeel_edge::messages::{Ack, Failure, Notice, ToThread};

/// Dies in the middle of its first answer, or of all.
fn dying(answer: &'static str, reset: bool) -> Server {
    Server::start(move |mut script| {
        script.request();
        script.send(answer);
        if reset {
            script.reset();
        }
    })
}

#[test]
fn a_connection_that_is_refused_leads_to_another_instance() {
    let server = Server::named("b");
    let mut edge = Edge::start(snapshot(&[nowhere(), server.address]));
    for _ in 0..4 {
        let answer = edge.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "b"));
    }
    assert_eq!(server.count(), 4);
    let refused = edge.notices().into_iter().filter(|n| matches!(n, Notice::Failed { failure: Failure::Connect, .. }));
    assert_eq!(refused.count(), 4, "after each retry it is the first one's turn again");
    assert_eq!(edge.sum(|cell| &cell.retries), 4);
}

#[test]
fn an_answer_cut_off_in_the_middle_is_fetched_again_as_a_whole() {
    for (answer, reset) in [
        ("", false),
        ("", true),
        ("HTTP/1.1 200 OK\r\nContent-Le", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true),
    ] {
        let (dead, alive) = (dying(answer, reset), Server::named("whole"));
        let edge = Edge::start(snapshot(&[dead.address, alive.address]));
        for method in ["GET", "PUT", "DELETE"] {
            let text = edge.ask(&format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")).text();
            assert_eq!(text, "whole", "{method} after {answer:?}");
        }
        assert!(dead.count() > 0);
    }
}

#[test]
fn a_post_that_an_instance_may_have_seen_is_not_sent_twice() {
    let (dead, alive) = (dying("", false), Server::named("b"));
    let edge = Edge::start(snapshot(&[dead.address, alive.address]));
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nIdempotency-Key: k\r\n\r\nx";
    let answer = edge.ask(post);
    assert_eq!((answer.status(), dead.count(), alive.count()), (502, 1, 0));

    let mut opted_in = snapshot(&[dead.address, alive.address]);
    opted_in.routes[0].idempotency_key = true;
    let edge = Edge::start(opted_in);
    assert_eq!(edge.ask(post).text(), "b");
    let without_key = edge.ask(post).status();
    assert_eq!(without_key, 200);
    assert_eq!(edge.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status(), 502);
    let (before, key) = (alive.count(), "Idempotency-Key: k\r\nConnection: Idempotency-Key");
    edge.get("/");
    let hidden = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{key}\r\n\r\n");
    let statuses = [(); 2].map(|()| edge.ask(&hidden).status());
    assert!(statuses.contains(&502), "a key that no instance gets to see makes nothing repeatable: {statuses:?}");
    assert!(alive.count() <= before + 2);
}

#[test]
fn a_large_answer_that_is_cut_off_never_ends_cleanly() {
    for head in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let server = Server::start(move |mut script| {
            script.request();
            script.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n40000\r\n{}", "x".repeat(100_000)));
        });
        let edge = Edge::start(snapshot(&[server.address]));
        let mut client = edge.client();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.message(false), None, "{head}");
        eventually("the abort is counted", || edge.sum(|cell| &cell.aborted) == 1);
    }
    // Without framing only a reset tells the client.
    let server = Server::start(|mut script| {
        script.request();
        script.send("HTTP/1.1 200 OK\r\n\r\npart");
        std::thread::sleep(Duration::from_millis(50));
        script.reset();
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut part = Vec::new();
    let end = std::io::Read::read_to_end(&mut client.stream, &mut part);
    assert!(end.is_err(), "{part:?}");
}

#[test]
fn a_pooled_connection_that_its_instance_closed_costs_nothing() {
    let server = Server::start(|mut script| {
        // One answer each, without saying that the connection ends.
        script.request();
        script.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    });
    let mut edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    for n in 0..30 {
        let method = if n % 2 == 0 { "GET" } else { "PUT" };
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").as_bytes());
        assert_eq!(client.answer().text(), "x");
    }
    assert!(edge.notices().is_empty(), "the instance did nothing wrong");
}

#[test]
fn failures_of_all_instances_reach_the_client() {
    let edge = Edge::start(snapshot(&[nowhere(), nowhere(), nowhere(), nowhere()]));
    let answer = edge.get("/");
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains(answer.field("x-request-id").unwrap()), "{}", answer.text());
    assert_eq!(edge.sum(|cell| &cell.retries), 2, "as many as the service allows");
    let ambiguous = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let edge = Edge::start(snapshot(&[Server::answering(ambiguous).address]));
    assert_eq!(edge.get("/").status(), 502);
}

#[test]
fn the_budget_ends_retries() {
    let mut tight = snapshot(&[nowhere(), nowhere()]);
    tight.services[0].retry.budget_min_per_s = 0;
    tight.services[0].retry.budget_percent = 0;
    let mut edge = Edge::start(tight);
    assert_eq!(edge.get("/").status(), 502);
    assert_eq!(edge.sum(|cell| &cell.retries), 0);
    assert!(edge.notices().iter().any(|notice| matches!(notice, Notice::BudgetExhausted { .. })));
}

#[test]
fn errors_of_the_application_pass() {
    let server = Server::answering("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
    let edge = Edge::start(snapshot(&[server.address]));
    let answer = edge.get("/");
    assert_eq!((answer.status(), answer.text().as_str(), server.count()), (503, "busy", 1));
    eventually("it is counted", || edge.sum(|cell| &cell.responses[4]) == 1);
}

#[test]
fn a_silent_instance_ends_in_504_and_a_slow_try_elsewhere() {
    let (silent, _keep) = Server::silent();
    let mut short = snapshot(&[silent.address]);
    short.services[0].limits.response_timeout_ms = 80;
    assert_eq!(Edge::start(short).get("/").status(), 504);

    let alive = Server::named("b");
    let mut tried = snapshot(&[silent.address, alive.address]);
    tried.services[0].retry.try_timeout_ms = 600;
    let edge = Edge::start(tried);
    assert_eq!(edge.get("/").text(), "b");
    // The turn is at the silent one again, and a POST stays with the instance that may have seen it.
    assert_eq!(edge.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status(), 504);
    assert_eq!(edge.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").text(), "b");
}

#[test]
fn abandoning_moves_what_may_be_moved_and_leaves_the_rest() {
    let (silent, answers) = Server::silent();
    let alive = Server::named("moved");
    let mut edge = Edge::start(snapshot(&[silent.address, alive.address]));
    edge.set_health(1, Health::Unhealthy);
    let mut get = edge.client();
    get.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the GET is there", || silent.count() == 1);
    let mut post = edge.client();
    post.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    eventually("the POST is there", || silent.count() == 2);
    edge.set_health(1, Health::Healthy);
    edge.set_health(0, Health::Silent);
    let instance = edge.instance(0);
    edge.threads.tell(|| ToThread::Abandon(instance.clone()));
    assert_eq!(get.answer().text(), "moved");
    assert_eq!(alive.count(), 1);
    assert_eq!(instance.in_flight.load(Relaxed), 1, "the POST waits on");
    assert!(instance.quiet_since_ms().is_some());
    // The first of the two connections takes this one; nobody reads it any more.
    answers.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate".to_vec()).unwrap();
    answers.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate".to_vec()).unwrap();
    assert_eq!(post.answer().text(), "late");
    let moved = edge.notices().into_iter().filter_map(|n| match n {
        Notice::Moved { requests, .. } => Some(requests),
        _ => None,
    });
    assert_eq!(moved.sum::<u64>(), 1);
    eventually("nothing is in flight", || instance.in_flight.load(Relaxed) == 0);
}

#[test]
fn a_request_is_held_until_an_instance_is_healthy() {
    let server = Server::named("a");
    let mut edge = Edge::start_unknown(snapshot(&[server.address]));
    let mut clients: Vec<Client> = (0..10).map(|_| edge.client()).collect();
    for client in &mut clients {
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    }
    let shared = edge.view.services[0].shared.clone();
    eventually("all are held", || shared.holding.load(Relaxed) == 10);
    assert_eq!(server.count(), 0);
    edge.set_health(0, Health::Healthy);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "a");
    }
    assert_eq!((shared.holding.load(Relaxed), edge.sum(|cell| &cell.held)), (0, 10));
    let notices = edge.notices();
    assert!(matches!(notices.first(), Some(Notice::HoldStarted { .. })), "{notices:?}");
    assert!(matches!(notices.last(), Some(Notice::HoldEnded { held: 10, expired: 0, .. })), "{notices:?}");
}

#[test]
fn a_held_request_sees_the_instance_that_a_new_snapshot_brings() {
    let server = Server::named("new");
    let mut edge = Edge::start_unknown(snapshot(&[nowhere()]));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let shared = edge.view.services[0].shared.clone();
    eventually("it is held", || shared.holding.load(Relaxed) == 1);
    let mut next = snapshot(&[server.address]);
    next.version = 2;
    next.services[0].instances[0].id.generation = 2;
    edge.apply(next);
    edge.set_health(0, Health::Healthy);
    assert_eq!(client.answer().text(), "new");
}

#[test]
fn holding_is_bounded_in_time_and_number() {
    let mut short = snapshot(&[nowhere()]);
    short.services[0].hold.max_ms = 100;
    short.services[0].hold.max_requests = 1;
    let mut edge = Edge::start_unknown(short);
    let mut first = edge.client();
    first.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let shared = edge.view.services[0].shared.clone();
    eventually("one is held", || shared.holding.load(Relaxed) == 1 || shared.threads[0].0.responses[4].get() == 1);
    let (second, first) = (edge.get("/"), first.answer());
    for answer in [first, second] {
        assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")));
    }
    eventually("the end is told", || edge.sum(|cell| &cell.responses[4]) == 2);
    assert!(edge.notices().iter().any(|n| matches!(n, Notice::HoldEnded { expired: 1, .. })));
}

#[test]
fn a_held_client_that_goes_away_leaves_the_queue() {
    let edge = Edge::start_unknown(snapshot(&[nowhere()]));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let shared = edge.view.services[0].shared.clone();
    eventually("it is held", || shared.holding.load(Relaxed) == 1);
    drop(client);
    eventually("it is gone", || shared.holding.load(Relaxed) == 0);
    eventually("it is counted", || edge.sum(|cell| &cell.cancelled) == 1);
}

#[test]
fn requests_beyond_the_bound_of_an_instance_wait_their_turn() {
    let most = std::sync::Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counted = most.clone();
    let server = Server::start(move |mut script| {
        while script.request().is_some() {
            let now = counted.0.fetch_add(1, Relaxed) + 1;
            counted.1.fetch_max(now, Relaxed);
            std::thread::sleep(Duration::from_millis(5));
            counted.0.fetch_sub(1, Relaxed);
            script.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
        }
    });
    let mut bounded = snapshot(&[server.address]);
    bounded.threads = 2;
    bounded.services[0].limits.in_flight_per_instance = 2;
    let edge = Edge::start(bounded);
    let mut clients: Vec<Client> = (0..20).map(|_| edge.client()).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.answer().text(), "x");
    }
    assert_eq!(most.1.load(Relaxed), 2);
}

#[test]
fn a_draining_instance_finishes_and_gets_nothing_new() {
    let (leaving, answers) = Server::silent();
    let staying = Server::named("stays");
    let mut edge = Edge::start(snapshot(&[leaving.address, staying.address]));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is there", || leaving.count() == 1);
    let mut next = edge.snapshot.clone();
    next.version = 2;
    next.services[0].instances[0].duty = Duty::Drain;
    edge.apply(next);
    for _ in 0..4 {
        assert_eq!(edge.get("/").text(), "stays");
    }
    let instance = edge.instance(0);
    assert_eq!(instance.in_flight.load(Relaxed), 1);
    answers.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_vec()).unwrap();
    assert_eq!(client.answer().text(), "done");
    eventually("nothing is in flight", || instance.in_flight.load(Relaxed) == 0);
    assert_eq!(leaving.count(), 1);
}

#[test]
fn another_service_answers_when_none_is_healthy() {
    let (first, second) = (Server::named("first"), Server::named("sorry"));
    let mut both = snapshot(&[first.address]);
    both.services[0].fallback = Some("sorry".into());
    both.services.push(service("sorry", &[second.address]));
    let edge = Edge::start(both);
    assert_eq!(edge.get("/").text(), "first");
    edge.set_health(0, Health::Unhealthy);
    eventually("the fallback answers", || edge.get("/").text() == "sorry");
}

#[test]
fn a_request_that_nobody_can_take_goes_to_whoever_is_healthy_first() {
    let (first, second) = (Server::named("first"), Server::named("sorry"));
    for (service, text) in [(0, "first"), (1, "sorry")] {
        let mut both = snapshot(&[first.address]);
        both.services[0].fallback = Some("sorry".into());
        both.services.push(self::service("sorry", &[second.address]));
        let edge = Edge::start_unknown(both);
        let mut client = edge.client();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let holding = || edge.view.services.iter().map(|s| s.shared.holding.load(Relaxed)).sum::<u32>();
        eventually("it is held", || holding() == 1);
        // Only once something is known of an instance does anybody stand in for it.
        edge.instance(0).set_probed();
        let instance = Arc::clone(&edge.view.services[service].instances[0].shared);
        instance.set_health(Health::Healthy);
        edge.threads.tell(|| ToThread::Changed(Arc::clone(&instance)));
        assert_eq!(client.answer().text(), text);
    }
}

#[test]
fn a_free_slot_is_offered_to_who_waits_on_another_thread() {
    let server = Server::named("a");
    let mut bounded = snapshot(&[server.address]);
    bounded.threads = 2;
    bounded.services[0].limits.in_flight_per_instance = 1;
    let edge = Edge::start(bounded);
    let (instance, shared) = (edge.instance(0), Arc::clone(&edge.view.services[0].shared));
    instance.in_flight.store(1, Relaxed);
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let oldest = |thread: usize| shared.threads[thread].0.oldest_held_ms.get();
    eventually("it is held", || oldest(0) + oldest(1) > 0);
    // The one that the slot was meant for has gone meanwhile.
    let other = usize::from(oldest(0) > 0);
    instance.in_flight.store(0, Relaxed);
    edge.threads.orders[other].send(ToThread::SlotFree(Arc::clone(&shared))).unwrap();
    assert_eq!(client.answer().text(), "a");
}

#[test]
fn algorithms_spread_as_they_say() {
    let servers = [Server::named("a"), Server::named("b"), Server::named("c")];
    let addresses = servers.each_ref().map(|s| s.address);
    for (balance, expected) in [
        (Balance::RoundRobin, [12, 12, 12]),
        (Balance::WeightedRoundRobin, [6, 12, 18]),
        (Balance::LeastConnections, [12, 12, 12]),
    ] {
        let before = servers.each_ref().map(Server::count);
        let mut next = snapshot(&addresses);
        next.services[0].balance = balance;
        for (instance, weight) in next.services[0].instances.iter_mut().zip(1..) {
            instance.weight = if balance == Balance::WeightedRoundRobin { weight } else { 1 };
        }
        let edge = Edge::start(next);
        for _ in 0..36 {
            edge.get("/");
        }
        let after = servers.each_ref().map(Server::count);
        assert_eq!([0, 1, 2].map(|n| after[n] - before[n]), expected, "{balance:?}");
    }
    let mut hashed = snapshot(&addresses);
    hashed.services[0].balance = Balance::IpHash;
    let edge = Edge::start(hashed);
    let first = edge.get("/").text();
    assert!((0..10).all(|_| edge.get("/").text() == first));
}

#[test]
fn ending_lets_requests_finish_and_idle_connections_go() {
    let (server, answers) = Server::silent();
    let mut edge = Edge::start(snapshot(&[server.address]));
    let (mut idle, mut busy) = (edge.client(), edge.client());
    busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is there", || server.count() == 1);
    eventually("both are open", || edge.threads.shared.threads[0].0.connections.get() == 2);
    edge.threads.tell(|| ToThread::Terminate { grace_ms: 20_000 });
    assert_eq!(String::from_utf8_lossy(&idle.rest()), "");
    answers.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast".to_vec()).unwrap();
    let answer = busy.answer();
    assert_eq!((answer.text().as_str(), answer.field("connection")), ("last", Some("close")));
    assert_eq!(edge.threads.acks.blocking_recv(), Some(Ack::Ended { thread: 0 }));
}

#[test]
fn ending_is_bounded() {
    let (server, _answers) = Server::silent();
    let mut edge = Edge::start(snapshot(&[server.address]));
    let mut busy = edge.client();
    busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is there", || server.count() == 1);
    edge.threads.tell(|| ToThread::Terminate { grace_ms: 50 });
    assert_eq!(edge.threads.acks.blocking_recv(), Some(Ack::Ended { thread: 0 }));
    assert!(busy.is_closed());
}

#[test]
fn killing_instances_under_load_costs_no_request() {
    // Every instance drops each connection after some answers, at any point of an answer.
    let shaky = |seed: usize| {
        Server::start(move |mut script| {
            for n in 0..seed {
                if script.request().is_none() {
                    return;
                }
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";
                let cut = if n + 1 == seed { (seed * 7) % answer.len() } else { answer.len() };
                script.send(&answer[..cut]);
            }
        })
    };
    let steady = Server::named("whole");
    let servers = [shaky(5), shaky(11), steady];
    let mut generous = snapshot(&servers.each_ref().map(|s| s.address));
    generous.threads = 2;
    generous.services[0].retry.max = 4;
    generous.services[0].retry.budget_percent = 100;
    let edge = Edge::start(generous);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = edge.client();
                for _ in 0..200 {
                    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    let answer = client.answer();
                    assert_eq!((answer.status(), answer.text().as_str()), (200, "whole"));
                }
            });
        }
    });
    eventually("all are counted", || edge.sum(|cell| &cell.responses[1]) == 1600);
}

#[test]
fn a_body_that_was_passed_on_is_not_sent_again_without_its_end() {
    let dead = Server::start(|mut script| {
        script.request();
    });
    let alive = Server::echo();
    let edge = Edge::start(snapshot(&[dead.address, alive.address]));
    let mut client = edge.client();
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
    client.send(&vec![b'x'; 300_000]);
    let answer = client.answer();
    assert_eq!((answer.status(), dead.count(), alive.count()), (502, 1, 0));
    let mut client = edge.client();
    edge.set_health(0, Health::Healthy);
    edge.set_health(1, Health::Unhealthy);
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    eventually("it is at the first one", || edge.instance(0).in_flight.load(Relaxed) == 1);
    edge.set_health(1, Health::Healthy);
    client.send(b"0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status(), dead.count(), alive.count()), (502, 2, 0));
}
