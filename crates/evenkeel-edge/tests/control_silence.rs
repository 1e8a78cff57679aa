//! The silent-instance rule under load: one instance freezes, no client notices, and it comes back.

mod common;
mod control_support;

use std::{
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use control_support::{Edge, Node, get, instance::Server, load::Load, member, service};
use evenkeel_core::{
    link::{EventKind, ToNode},
    silence::ENOUGH,
    snapshot::{Check, Instance, Probe, Service},
    status::Health,
};
use rustix::process::{Pid, Signal, kill_process};

/// Somewhat more answers than show how long an instance takes.
const KNOWN: u64 = ENOUGH + 50;

/// Stands for the process of an instance.
struct Process(Child);

impl Process {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().expect("it is there"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it is there");
    }

    /// This instance was started as this process.
    fn of(&self, instance: Instance) -> Instance {
        Instance { pid: Some(self.0.id()), ..instance }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nobody was called silent, and no requests moved, by all that the edge has to say until now.
fn nobody_is_accused(edge: &Edge, node: &mut Node, services: Vec<Service>) {
    node.send(edge.snapshot(99, services));
    node.applied(99);
    // Events go before counters.
    node.until("counters", |message| matches!(message, ToNode::Counters(_)).then_some(()));
    let bad =
        |what: &EventKind| matches!(what, EventKind::Health { health: Health::Silent, .. } | EventKind::Moved { .. });
    assert!(!node.past.iter().any(|event| bad(&event.what)), "{:#?}", node.past);
}

#[test]
fn a_frozen_instance_is_silent_and_its_requests_move() {
    let (edge, mut node) = Edge::linked(2);
    let servers = [Server::start("one"), Server::start("two"), Server::start("three")];
    let instances = (1..).zip(&servers).map(|(n, server)| member(&format!("shop/{n}"), server.address));
    node.send(edge.snapshot(1, vec![service(instances.collect())]));
    node.all_healthy(&["shop/1", "shop/2", "shop/3"]);
    let load = Load::start(edge.address, 8);
    servers[1].wait_for_requests(KNOWN);
    let frozen = Instant::now();
    servers[1].freeze();
    let reason = node.health("shop/2", Health::Silent);
    println!("silent after {:?}: {reason}", frozen.elapsed());
    assert!(reason.contains("while others are well, and 2 probes in a row failed: timed out after "), "{reason}");
    assert!(reason.contains("answers lately"), "{reason}");
    let moved = node.event("shop/2", |what| match what {
        EventKind::Moved { requests, .. } => Some(*requests),
        _ => None,
    });
    assert!(moved > 0);
    let before = load.answers.load(SeqCst);
    common::eventually("the others go on", || load.answers.load(SeqCst) > before + 50);
    let thawed = Instant::now();
    servers[1].thaw();
    node.health("shop/2", Health::Healthy);
    println!("back after {:?}", thawed.elapsed());
    let requests = servers[1].requests();
    servers[1].wait_for_requests(requests + 10);
    println!("worst latency {:?}", load.end());
}

#[test]
fn a_slow_request_is_left_alone() {
    let (edge, mut node) = Edge::linked(2);
    let servers = [Server::start("one"), Server::start("two")];
    let instances = (1..).zip(&servers).map(|(n, server)| member(&format!("shop/{n}"), server.address));
    let shop = service(instances.collect());
    node.send(edge.snapshot(1, vec![shop.clone()]));
    node.all_healthy(&["shop/1", "shop/2"]);
    let address = edge.address;
    let slow = thread::spawn(move || get(address, "/slow"));
    let until = Instant::now() + Duration::from_secs(5);
    while servers.iter().all(|server| server.requests() == 0) {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(5));
    }
    let load = Load::start(edge.address, 1);
    assert_eq!(slow.join().unwrap().0, 200);
    load.end();
    nobody_is_accused(&edge, &mut node, vec![shop]);
}

#[test]
fn a_stopped_process_is_silent_without_a_check_and_without_a_past() {
    let (edge, mut node) = Edge::linked(2);
    let servers = [Server::start("one"), Server::start("two")];
    let process = Process::start();
    let instances = vec![member("shop/1", servers[0].address), process.of(member("shop/2", servers[1].address))];
    let mut shop = service(instances);
    shop.check = None;
    node.send(edge.snapshot(1, vec![shop]));
    node.all_healthy(&["shop/1", "shop/2"]);
    process.signal(Signal::STOP);
    servers[1].freeze();
    let load = Load::start(edge.address, 4);
    let reason = node.health("shop/2", Health::Silent);
    let proof = format!("while others are well, and its process {} is stopped, as by SIGSTOP", process.0.id());
    assert!(reason.contains(&proof), "{reason}");
    node.event("shop/2", |what| matches!(what, EventKind::Moved { .. }).then_some(()));
    servers[1].thaw();
    process.signal(Signal::CONT);
    node.health("shop/2", Health::Healthy);
    load.end();
}

/// As one that serves one request at a time: it answers neither others nor probes meanwhile.
#[test]
fn a_busy_process_is_left_alone() {
    let (edge, mut node) = Edge::linked(2);
    let servers = [Server::start("one"), Server::start("two")];
    let process = Process::start();
    let instances = (1..).zip(&servers).map(|(n, server)| process.of(member(&format!("shop/{n}"), server.address)));
    let mut shop = service(instances.collect());
    shop.check.as_mut().unwrap().interval_ms = 60_000;
    node.send(edge.snapshot(1, vec![shop.clone()]));
    node.all_healthy(&["shop/1", "shop/2"]);
    let load = Load::start(edge.address, 8);
    servers[1].wait_for_requests(KNOWN);
    servers[1].freeze();
    // Several times as long as silence needs.
    thread::sleep(Duration::from_millis(1_500));
    servers[1].thaw();
    load.end();
    nobody_is_accused(&edge, &mut node, vec![shop]);
}

#[test]
fn nobody_is_asked_for_what_no_check_allows() {
    for check in [None, Some(Probe::Tcp)] {
        let (edge, mut node) = Edge::linked(1);
        let servers = [Server::start("one"), Server::start("two")];
        let instances = (1..).zip(&servers).map(|(n, server)| member(&format!("shop/{n}"), server.address));
        let mut shop = service(instances.collect());
        shop.check = check.map(|probe| Check { probe, ..shop.check.unwrap() });
        node.send(edge.snapshot(1, vec![shop.clone()]));
        node.all_healthy(&["shop/1", "shop/2"]);
        let load = Load::start(edge.address, 4);
        for server in &servers {
            server.wait_for_requests(KNOWN);
        }
        let answers = Arc::clone(&load.answers);
        load.end();
        let before: u64 = servers.iter().map(Server::requests).sum();
        assert_eq!(before, answers.load(SeqCst));
        assert_eq!(get(edge.address, "/slow").0, 200);
        let after: u64 = servers.iter().map(Server::requests).sum();
        assert_eq!(after, before + 1, "the request itself and no other");
        nobody_is_accused(&edge, &mut node, vec![shop]);
    }
}

/// Of few requests it is not known how long they take, so that only the check judges.
#[test]
fn a_quiet_service_of_others_is_left_to_its_check() {
    let (edge, mut node) = Edge::linked(1);
    let servers = [Server::start("one"), Server::start("two")];
    let instances = (1..).zip(&servers).map(|(n, server)| member(&format!("shop/{n}"), server.address));
    let mut shop = service(instances.collect());
    shop.check.as_mut().unwrap().interval_ms = 60_000;
    node.send(edge.snapshot(1, vec![shop.clone()]));
    node.all_healthy(&["shop/1", "shop/2"]);
    for _ in 0..10 {
        assert_eq!(get(edge.address, "/").0, 200);
    }
    servers.iter().for_each(Server::freeze);
    let address = edge.address;
    let waits = thread::spawn(move || get(address, "/"));
    thread::sleep(Duration::from_millis(1_500));
    servers.iter().for_each(Server::thaw);
    assert_eq!(waits.join().unwrap().0, 200);
    nobody_is_accused(&edge, &mut node, vec![shop]);
}

#[test]
fn requests_leave_an_instance_that_is_removed_while_it_is_silent() {
    let (edge, mut node) = Edge::linked(2);
    let servers = [Server::start("one"), Server::start("two")];
    let process = Process::start();
    let (one, two) = (member("shop/1", servers[0].address), process.of(member("shop/2", servers[1].address)));
    let mut shop = service(vec![one.clone(), two]);
    shop.check.as_mut().unwrap().interval_ms = 60_000;
    node.send(edge.snapshot(1, vec![shop]));
    node.all_healthy(&["shop/1", "shop/2"]);
    let address = edge.address;
    let asks = || thread::spawn(move || get(address, "/held"));
    // In turn, so that one of them is at the second instance.
    let held = [asks(), asks()];
    for server in &servers {
        server.wait_for_requests(1);
    }
    // So long that a short silence moves them nowhere.
    thread::sleep(Duration::from_secs(4));
    let load = Load::start(edge.address, 4);
    servers[1].wait_for_requests(20);
    process.signal(Signal::STOP);
    servers[1].freeze();
    node.health("shop/2", Health::Silent);
    node.send(edge.snapshot(2, vec![service(vec![one])]));
    let removed = node.event("shop/2", |what| match what {
        EventKind::Moved { reason, .. } if reason.contains("removed") => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(removed, "it was removed while it did not answer");
    servers[0].let_go();
    for request in held {
        assert_eq!(request.join().unwrap(), (200, "one".to_owned()));
    }
    load.end();
}

#[test]
fn a_long_request_leaves_an_instance_that_stays_silent() {
    let (edge, mut node) = Edge::linked(2);
    let servers = [Server::start("one"), Server::start("two")];
    let instances = (1..).zip(&servers).map(|(n, server)| member(&format!("shop/{n}"), server.address));
    let mut shop = service(instances.collect());
    // The check says nothing meanwhile.
    shop.check.as_mut().unwrap().interval_ms = 60_000;
    node.send(edge.snapshot(1, vec![shop]));
    node.all_healthy(&["shop/1", "shop/2"]);
    let address = edge.address;
    let slow = thread::spawn(move || get(address, "/held"));
    let until = Instant::now() + Duration::from_secs(5);
    let place = loop {
        if let Some(place) = servers.iter().position(|server| server.requests() > 0) {
            break place;
        }
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(1));
    };
    // Much older than the silence that is noticed first.
    thread::sleep(Duration::from_millis(3_300));
    let load = Load::start(edge.address, 4);
    servers[place].wait_for_requests(KNOWN);
    servers[place].freeze();
    node.health(&format!("shop/{}", place + 1), Health::Silent);
    // It moves to the other one, or has done so already.
    servers[1 - place].let_go();
    assert_eq!(slow.join().unwrap(), (200, ["two", "one"][place].to_owned()));
    load.end();
}

#[test]
fn requests_stay_where_silence_is_over() {
    let (edge, mut node) = Edge::linked(2);
    let servers = [Server::start("one"), Server::start("two")];
    let instances = (1..).zip(&servers).map(|(n, server)| member(&format!("shop/{n}"), server.address));
    let mut shop = service(instances.collect());
    let check = shop.check.as_mut().unwrap();
    // One probe of the check fails, and the next one comes long after the instance is back.
    (check.interval_ms, check.timeout_ms, check.fall) = (3_000, 200, 3);
    node.send(edge.snapshot(1, vec![shop]));
    node.all_healthy(&["shop/1", "shop/2"]);
    let load = Load::start(edge.address, 8);
    servers[1].wait_for_requests(KNOWN);
    servers[1].freeze();
    node.health("shop/2", Health::Silent);
    thread::sleep(Duration::from_millis(3_300));
    servers[1].thaw();
    node.health("shop/2", Health::Healthy);
    let seen = node.past.len();
    let answered = servers[1].requests();
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        node.next();
    }
    assert!(servers[1].requests() > answered, "it gets requests");
    let moved = node.past[seen..].iter().find(|event| matches!(event.what, EventKind::Moved { .. }));
    assert!(moved.is_none(), "{moved:?}");
    load.end();
}

#[test]
fn the_only_instance_is_left_to_its_check() {
    let (edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    let mut shop = service(vec![member("shop/1", server.address)]);
    let check = shop.check.as_mut().unwrap();
    (check.interval_ms, check.timeout_ms) = (100, 100);
    node.send(edge.snapshot(1, vec![shop]));
    node.health("shop/1", Health::Healthy);
    server.freeze();
    let address = edge.address;
    let waits = thread::spawn(move || get(address, "/"));
    assert_eq!(node.health("shop/1", Health::Unhealthy), "3 probes in a row failed: timed out after 100 ms");
    server.thaw();
    node.health("shop/1", Health::Healthy);
    assert_eq!(waits.join().unwrap().0, 200);
}

#[test]
fn requests_move_when_the_check_gives_up_on_their_instance() {
    let (edge, mut node) = Edge::linked(1);
    let (one, two) = (Server::start("one"), Server::start("two"));
    two.set_check_status(503);
    let mut shop = service(vec![member("shop/1", one.address), member("shop/2", two.address)]);
    let check = shop.check.as_mut().expect("the service has a check");
    (check.interval_ms, check.timeout_ms) = (200, 200);
    node.send(edge.snapshot(1, vec![shop]));
    node.health("shop/1", Health::Healthy);
    one.freeze();
    let address = edge.address;
    let waits = thread::spawn(move || get(address, "/"));
    // Nobody could take over, so nothing was suspected, and the check decided.
    node.health("shop/1", Health::Unhealthy);
    two.set_check_status(200);
    node.health("shop/2", Health::Healthy);
    assert_eq!(waits.join().expect("an answer"), (200, "two".to_owned()));
}

/// An instance that has nothing to say on streams and tunnels is not asked whether it lives, so it does not matter here
/// that it would not answer.
#[test]
fn who_has_only_streams_and_tunnels_is_not_accused() {
    let (edge, mut node) = Edge::linked(1);
    let mute = Arc::new(AtomicBool::new(false));
    let is_mute = Arc::clone(&mute);
    let lasting = common::Server::start(move |mut script| {
        while let Some(request) = script.client.message(true) {
            if is_mute.load(SeqCst) {
                return script.client.rest().clear();
            }
            let healthy = request.head.starts_with("GET /healthz ");
            script.send(match request.field("upgrade") {
                _ if healthy => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                Some(_) => "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                None => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
            });
            if !healthy {
                return script.client.rest().clear();
            }
        }
    });
    let other = Server::start("other");
    let (lasts, mut spare) = (member("shop/1", lasting.address), member("shop/2", other.address));
    spare.duty = evenkeel_core::snapshot::Duty::Drain;
    node.send(edge.snapshot(1, vec![service(vec![lasts.clone(), spare.clone()])]));
    node.health("shop/1", Health::Healthy);
    let mut clients = [common::Client::connect(edge.address), common::Client::connect(edge.address)];
    clients[0].send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(clients[0].answer().status(), 101);
    clients[1].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(clients[1].answer_to_head().status(), 200);
    mute.store(true, SeqCst);
    spare.duty = evenkeel_core::snapshot::Duty::Serve;
    node.send(edge.snapshot(2, vec![service(vec![lasts, spare])]));
    node.health("shop/2", Health::Healthy);
    let reason = node.event("shop/1", |what| match what {
        EventKind::Health { health, reason } => Some((*health, reason.clone())),
        _ => None,
    });
    assert_eq!(reason.0, Health::Unhealthy, "only its check may speak against it: {}", reason.1);
}
