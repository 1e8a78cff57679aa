//! Health: checks, liveness, traffic, draining, names.

mod control_support;

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use control_support::{Edge, Node, check, instance::Server, load::Load, member, service};
use evenkeel_core::{
    link::{Event, EventKind, ToNode},
    snapshot::{Check, Duty, Ejection, Probe, Service},
    status::{Basis, Health},
};

/// A check that is done within a test's time.
fn quick() -> Check {
    Check { interval_ms: 50, ..check() }
}

fn liveness(node: &mut Node, name: &str) -> (bool, String) {
    node.event(name, |what| match what {
        EventKind::Liveness { passing, reason } => Some((*passing, reason.clone())),
        _ => None,
    })
}

#[test]
fn a_check_that_fails_takes_out_and_brings_back() {
    let (edge, mut node) = Edge::linked(1);
    let (one, two) = (Server::start("one"), Server::start("two"));
    let instances = vec![member("shop/1", one.address), member("shop/2", two.address)];
    node.send(edge.snapshot(1, vec![Service { check: Some(quick()), ..service(instances) }]));
    node.all_healthy(&["shop/1", "shop/2"]);
    one.set_check_status(503);
    assert_eq!(node.health("shop/1", Health::Unhealthy), "3 probes in a row failed: status 503");
    let before = one.requests();
    for _ in 0..20 {
        assert_eq!(edge.get("/"), (200, "two".to_owned()));
    }
    assert_eq!(one.requests(), before);
    one.set_check_status(204);
    assert_eq!(node.health("shop/1", Health::Healthy), "2 probes in a row passed");
}

#[test]
fn a_check_that_never_passes_is_explained() {
    let (edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    server.set_check_status(500);
    node.send(edge.snapshot(1, vec![service(vec![member("shop/1", server.address)])]));
    assert_eq!(node.health("shop/1", Health::Unknown), "no probe has passed yet: status 500");
}

#[test]
fn an_instance_that_starts_late_gets_the_requests_that_waited() {
    let (edge, mut node) = Edge::linked(2);
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    node.send(edge.snapshot(1, vec![service(vec![member("shop/1", address)])]));
    node.applied(1);
    let to = edge.address;
    let held = thread::spawn(move || control_support::get(to, "/"));
    node.until("the request is held", |message| match message {
        ToNode::Events { events, .. } => {
            events.iter().any(|event| matches!(event.what, EventKind::HoldStarted { .. })).then_some(())
        }
        _ => None,
    });
    let bound_at = Instant::now();
    let server = Server::on("one", TcpListener::bind(address).unwrap());
    assert_eq!(held.join().unwrap(), (200, "one".to_owned()));
    println!("first answer {:?} after it could serve", bound_at.elapsed());
    assert_eq!(server.requests(), 1);
    node.health("shop/1", Health::Healthy);
}

#[test]
fn without_a_check_connecting_decides() {
    let (edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    let mut shop = Service { check: None, ..service(vec![member("shop/1", server.address)]) };
    shop.hold.max_ms = 100;
    node.send(edge.snapshot(1, vec![shop]));
    node.health("shop/1", Health::Healthy);
    assert_eq!(edge.get("/").0, 200);
    server.kill();
    // The failures of this request call for probes, and these find out.
    assert_eq!(edge.get("/").0 / 100, 5);
    assert_eq!(node.health("shop/1", Health::Unhealthy), "2 probes in a row failed: connect: refused");
    let again = Server::on("again", TcpListener::bind(server.address).unwrap());
    node.health("shop/1", Health::Healthy);
    assert_eq!(edge.get("/"), (200, "again".to_owned()));
    assert_eq!(again.requests(), 1);
}

#[test]
fn traffic_that_fails_ejects_and_time_brings_back() {
    let (edge, mut node) = Edge::linked(1);
    let (one, two) = (Server::start("one"), Server::start("two"));
    let instances = vec![member("shop/1", one.address), member("shop/2", two.address)];
    // A check that cannot see it: only traffic does.
    let check = Some(Check { probe: Probe::Tcp, interval_ms: 60_000, fall: 1_000, ..check() });
    let shop = service(instances);
    let ejection = Ejection { consecutive: 3, base_ms: 500, ..shop.ejection.clone() };
    node.send(edge.snapshot(1, vec![Service { check, ejection, ..shop }]));
    node.all_healthy(&["shop/1", "shop/2"]);
    one.kill();
    for _ in 0..40 {
        assert_eq!(edge.get("/").0, 200, "another instance gets what failed");
        thread::sleep(Duration::from_millis(5));
    }
    let reason = node.health("shop/1", Health::Ejected);
    assert!(reason.contains("failures in a row; out for 500 ms; the last one: "), "{reason}");
    assert_eq!(node.health("shop/1", Health::Healthy), "its time out of 500 ms is over");
}

#[test]
fn an_instance_that_dies_under_load_costs_no_client_anything() {
    let (edge, mut node) = Edge::linked(2);
    let servers = [Server::start("one"), Server::start("two"), Server::start("three")];
    let instances = (1..).zip(&servers).map(|(n, server)| member(&format!("shop/{n}"), server.address));
    node.send(edge.snapshot(1, vec![service(instances.collect())]));
    node.all_healthy(&["shop/1", "shop/2", "shop/3"]);
    let load = Load::start(edge.address, 16);
    servers[1].wait_for_requests(50);
    let killed = Instant::now();
    servers[1].kill();
    let how = node.event("shop/2", |what| match what {
        EventKind::Health { health, reason } => Some(format!("{health}: {reason}")),
        _ => None,
    });
    println!("out after {:?}: {how}", killed.elapsed());
    let again = Server::on("again", TcpListener::bind(servers[1].address).unwrap());
    node.health("shop/2", Health::Healthy);
    again.wait_for_requests(10);
    println!("worst latency {:?}", load.end());
}

#[test]
fn the_last_healthy_instance_is_not_ejected() {
    let (edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    let check = Some(Check { probe: Probe::Tcp, interval_ms: 60_000, fall: 1_000, ..check() });
    let mut shop = service(vec![member("shop/1", server.address)]);
    // Each of these requests reaches nobody, so it is held for as long as that is allowed before it fails.
    shop.hold.max_ms = 100;
    let ejection = Ejection { consecutive: 3, max_percent: 100, ..shop.ejection.clone() };
    node.send(edge.snapshot(1, vec![Service { check, ejection, ..shop }]));
    node.health("shop/1", Health::Healthy);
    server.kill();
    for _ in 0..6 {
        edge.get("/");
    }
    let reason = node.health("shop/1", Health::Healthy);
    assert!(reason.contains("not ejected: it is the last healthy instance"), "{reason}");
}

#[test]
fn liveness_is_reported_and_not_acted_upon() {
    let (edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    let tcp = Some(Check { probe: Probe::Tcp, ..check() });
    let shop = Service { check: tcp, liveness: Some(quick()), ..service(vec![member("shop/1", server.address)]) };
    node.send(edge.snapshot(1, vec![shop]));
    assert!(liveness(&mut node, "shop/1").0);
    server.set_check_status(500);
    assert_eq!(liveness(&mut node, "shop/1"), (false, "a probe failed: status 500".to_owned()));
    assert_eq!(edge.get("/").0, 200);
    // Whoever comes later hears of it too.
    let mut later = edge.link();
    assert!(!liveness(&mut later, "shop/1").0, "it was said again");
    server.set_check_status(200);
    assert!(liveness(&mut later, "shop/1").0);
}

#[test]
fn draining_ends_with_the_last_request() {
    let (edge, mut node) = Edge::linked(2);
    let (one, two) = (Server::start("one"), Server::start("two"));
    let mut instances = vec![member("shop/1", one.address)];
    node.send(edge.snapshot(1, vec![service(instances.clone())]));
    node.health("shop/1", Health::Healthy);
    let address = edge.address;
    let held = thread::spawn(move || control_support::get(address, "/held"));
    one.wait_for_requests(1);
    instances[0].duty = Duty::Drain;
    instances.push(member("shop/2", two.address));
    node.send(edge.snapshot(2, vec![service(instances.clone())]));
    node.health("shop/1", Health::Draining);
    node.applied(2);
    for _ in 0..10 {
        assert_eq!(edge.get("/"), (200, "two".to_owned()));
    }
    assert!(!held.is_finished());
    assert!(!node.past.iter().any(|event| event.what == EventKind::Drained));
    one.let_go();
    node.event("shop/1", |what| (*what == EventKind::Drained).then_some(()));
    assert_eq!(held.join().unwrap(), (200, "one".to_owned()));
    // A node process that comes later waits for it too.
    let mut later = edge.link();
    later.event("shop/1", |what| (*what == EventKind::Drained).then_some(()));
    let mut node = later;
    instances[0].duty = Duty::Serve;
    node.send(edge.snapshot(3, vec![service(instances)]));
    node.health("shop/1", Health::Healthy);
}

#[test]
fn names_are_resolved() {
    let (edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    let named = format!("localhost:{}", server.address.port());
    let shop = service(vec![member("shop/1", named), member("shop/2", "nowhere.invalid:80")]);
    node.send(edge.snapshot(1, vec![shop]));
    node.health("shop/1", Health::Healthy);
    assert_eq!(edge.get("/"), (200, "one".to_owned()));
    let reason = node.health("shop/2", Health::Unknown);
    assert!(reason.contains("does not resolve"), "{reason}");
}

/// The check that wants this of `/healthz`, or of another path in the time of a test.
fn wants(path: &str, status: u16) -> Check {
    let probe = Probe::Http { path: path.to_owned(), host: None, status: (status, status) };
    Check { probe, timeout_ms: 500, ..quick() }
}

fn unproven(node: &mut Node) -> String {
    let find = |event: &Event| match &event.what {
        EventKind::CheckUnproven { reason } => Some(reason.clone()),
        _ => None,
    };
    while !node.past.iter().any(|event| find(event).is_some()) {
        node.next();
    }
    node.past.iter().find_map(find).expect("it was found just now")
}

fn basis(node: &mut Node, version: u64, wanted: &[(&str, Basis)]) {
    node.until("who is kept", |message| match message {
        ToNode::Counters(counters) if counters.snapshot == version => {
            let mut basis: Vec<_> = counters.basis.iter().map(|(id, basis)| (id.name.as_str(), *basis)).collect();
            basis.sort_unstable_by_key(|(name, _)| name.to_owned());
            (basis == wanted).then_some(())
        }
        _ => None,
    });
}

#[test]
fn a_changed_check_that_nobody_passes_takes_out_nobody() {
    let (edge, mut node) = Edge::linked(1);
    let (one, two) = (Server::start("one"), Server::start("two"));
    let instances = vec![member("shop/1", one.address), member("shop/2", two.address)];
    let with = |check| Service { check: Some(check), ..service(instances.clone()) };
    node.send(edge.snapshot(1, vec![with(wants("/healthz", 200))]));
    node.all_healthy(&["shop/1", "shop/2"]);
    let load = Load::start(edge.address, 2);

    // One that is slower than it may be, then one that wants another answer: nobody passes either.
    for (version, check, saw) in [
        (2, wants("/slow", 200), "timed out after 500 ms"),
        (3, wants("/healthz", 404), "status 200 where 404 was wanted"),
    ] {
        node.forget();
        node.send(edge.snapshot(version, vec![with(check)]));
        basis(&mut node, version, &[("shop/1", Basis::Kept), ("shop/2", Basis::Kept)]);
        assert_eq!(unproven(&mut node), saw);
        let said = node.health("shop/1", Health::Healthy);
        assert_eq!(said, format!("kept healthy: nobody has passed the changed check yet: {saw}"));
    }

    // Whoever is gone is out, and whoever passes proves it for all.
    two.kill();
    assert!(node.health("shop/2", Health::Unhealthy).contains("connect: refused"));
    one.set_check_status(404);
    let proven = |event: &Event| matches!(&event.what, EventKind::CheckProven { by } if by.name == "shop/1");
    while !node.past.iter().any(proven) {
        node.next();
    }
    basis(&mut node, 3, &[]);
    load.end();
    one.set_check_status(200);
    assert_eq!(node.health("shop/1", Health::Unhealthy), "3 probes in a row failed: status 200");
}

#[test]
fn a_changed_check_that_one_instance_passes_takes_out_the_other() {
    let (edge, mut node) = Edge::linked(1);
    let (one, two) = (Server::start("one"), Server::start("two"));
    let instances = vec![member("shop/1", one.address), member("shop/2", two.address)];
    let with = |check| Service { check: Some(check), ..service(instances.clone()) };
    node.send(edge.snapshot(1, vec![with(quick())]));
    node.all_healthy(&["shop/1", "shop/2"]);
    two.set_check_status(204);
    node.send(edge.snapshot(2, vec![with(wants("/healthz", 200))]));
    assert!(node.health("shop/2", Health::Unhealthy).contains("probes in a row failed: status 204"));
    basis(&mut node, 2, &[]);
    assert_eq!(edge.get("/"), (200, "one".to_owned()));
}

#[test]
fn a_changed_check_that_a_new_instance_passes_leaves_the_old_ones_until_they_are_replaced() {
    let (edge, mut node) = Edge::linked(1);
    let (old, new) = (Server::start("old"), Server::start("new"));
    let with = |check, instances| Service { check: Some(check), ..service(instances) };
    let (one, two) = (member("shop/1", old.address), member("shop/2", new.address));
    node.send(edge.snapshot(1, vec![with(wants("/healthz", 200), vec![one.clone()])]));
    node.all_healthy(&["shop/1"]);

    // Command and check change together, as where a path was renamed: only the new process knows it.
    new.set_check_status(204);
    node.send(edge.snapshot(2, vec![with(wants("/healthz", 204), vec![one.clone(), two.clone()])]));
    node.health("shop/2", Health::Healthy);
    basis(&mut node, 2, &[("shop/1", Basis::Kept)]);
    let answers: std::collections::BTreeSet<String> = (0..20).map(|_| edge.get("/").1).collect();
    assert_eq!(answers.len(), 2, "both serve: {answers:?}");

    // Once the old one is replaced, the check counts.
    node.send(edge.snapshot(3, vec![with(wants("/healthz", 204), vec![two])]));
    let proven = |event: &Event| matches!(&event.what, EventKind::CheckProven { by } if by.name == "shop/2");
    while !node.past.iter().any(proven) {
        node.next();
    }
}
