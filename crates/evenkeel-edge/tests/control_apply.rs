//! Snapshots: applied, refused, served without a node process, replaced.

mod control_support;

use std::{io::Write, os::fd::AsFd, thread, time::Duration};

use control_support::{Edge, file_of, get, instance::Server, listener, member, service};
use evenkeel_core::{
    guard::EdgeNotice,
    link::{ToNode, VERSION},
    snapshot::Snapshot,
    status::Health,
};
use evenkeel_edge::End;

#[test]
fn a_snapshot_over_the_link_is_served() {
    let (edge, mut node) = Edge::linked(2);
    let ToNode::Hello { version, pid } = node.next() else { panic!("hello comes first") };
    assert_eq!((version, pid), (VERSION, std::process::id()));
    let server = Server::start("one");
    node.send(edge.snapshot(7, vec![service(vec![member("shop/1", server.address)])]));
    node.applied(7);
    assert_eq!(node.health("shop/1", Health::Healthy), "a probe passed");
    assert_eq!(edge.get("/"), (200, "one".to_owned()));
    let counters = node.until("counters", |message| match message {
        ToNode::Counters(counters) if counters.services[0].responses[1] == 1 => Some((**counters).clone()),
        _ => None,
    });
    assert_eq!(counters.services[0].instances[0].health, Health::Healthy);
    assert_eq!(counters.services[0].instances[0].tries, 1);
}

#[test]
fn what_cannot_be_served_is_refused_and_changes_nothing() {
    let (edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    let good = edge.snapshot(1, vec![service(vec![member("shop/1", server.address)])]);
    node.send(good.clone());
    node.applied(1);

    node.send(Snapshot { format: 99, version: 2, ..good.clone() });
    let (version, reason) = node.refused();
    assert_eq!(version, 2);
    assert!(reason.contains("format 99"), "{reason}");

    node.send(Snapshot { routes: vec![control_support::route("nowhere")], version: 3, ..good.clone() });
    let (version, reason) = node.refused();
    assert_eq!(version, 3);
    assert!(reason.contains("`nowhere`"), "{reason}");

    let mut listeners = good.listeners.clone();
    listeners.push(listener("admin", edge.address));
    node.send(Snapshot { listeners, version: 4, ..good.clone() });
    let (version, reason) = node.refused();
    assert_eq!(version, 4);
    assert!(reason.contains("listener/admin/0"), "{reason}");
    assert_eq!(edge.get("/"), (200, "one".to_owned()));

    node.send(Snapshot { version: 5, ..good });
    node.applied(5);
    assert_eq!(edge.get("/"), (200, "one".to_owned()));
}

#[test]
fn a_snapshot_waits_for_its_sockets() {
    let edge = Edge::start(2);
    edge.say(&EdgeNotice::Complete, None);
    let mut node = edge.link();
    let server = Server::start("one");
    let snapshot = edge.snapshot(1, vec![service(vec![member("shop/1", server.address)])]);
    node.send(snapshot.clone());
    node.send(Snapshot { version: 2, ..snapshot });
    let (version, reason) = node.refused();
    assert_eq!(version, 1, "{reason}");
    edge.hand_over_listener();
    node.applied(2);
    node.health("shop/1", Health::Healthy);
    assert_eq!(edge.get("/").0, 200);
}

#[test]
fn an_edge_alone_serves_what_the_guard_holds() {
    let edge = Edge::start(1);
    let server = Server::start("one");
    let file = file_of(&edge.snapshot(41, vec![service(vec![member("shop/1", server.address)])]));
    edge.hand_over_listener();
    edge.say(&EdgeNotice::Held { key: "snapshot".to_owned() }, Some(file.as_fd()));
    edge.say(&EdgeNotice::Complete, None);
    // A request that comes before the first probe is held, not refused.
    assert_eq!(edge.get("/"), (200, "one".to_owned()));

    let mut node = edge.link();
    assert!(matches!(node.next(), ToNode::Hello { .. }));
    assert!(matches!(node.next(), ToNode::Applied { version: 41 }), "what is served is said");
    node.health("shop/1", Health::Healthy);
}

#[test]
fn a_damaged_held_snapshot_is_waited_out() {
    let edge = Edge::start(1);
    let server = Server::start("one");
    let mut file = file_of(&edge.snapshot(1, vec![service(vec![member("shop/1", server.address)])]));
    file.write_all(b"}").unwrap();
    edge.hand_over_listener();
    edge.say(&EdgeNotice::Held { key: "snapshot".to_owned() }, Some(file.as_fd()));
    edge.say(&EdgeNotice::Complete, None);
    let mut node = edge.link();
    node.send(edge.snapshot(2, vec![service(vec![member("shop/1", server.address)])]));
    node.applied(2);
}

#[test]
fn who_stays_keeps_its_health() {
    let (edge, mut node) = Edge::linked(1);
    let (one, two) = (Server::start("one"), Server::start("two"));
    node.send(edge.snapshot(1, vec![service(vec![member("shop/1", one.address)])]));
    node.health("shop/1", Health::Healthy);
    // Its check would not pass again, so only what is remembered keeps it.
    one.set_check_status(500);
    node.send(edge.snapshot(2, vec![service(vec![member("shop/1", one.address), member("shop/2", two.address)])]));
    node.applied(2);
    node.health("shop/2", Health::Healthy);
    node.health("shop/1", Health::Unhealthy);
    one.set_check_status(200);
    let mut again = member("shop/1", one.address);
    again.id.generation = 2;
    node.send(edge.snapshot(3, vec![service(vec![again, member("shop/2", two.address)])]));
    node.applied(3);
    assert_eq!(node.health("shop/1", Health::Healthy), "a probe passed", "a new generation needs a single pass");
}

#[test]
fn a_link_that_ends_stops_nothing() {
    let (edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    let snapshot = edge.snapshot(1, vec![service(vec![member("shop/1", server.address)])]);
    node.send(snapshot.clone());
    node.health("shop/1", Health::Healthy);
    drop(node);
    assert_eq!(edge.get("/").0, 200);
    let mut node = edge.link();
    assert!(matches!(node.next(), ToNode::Hello { .. }));
    assert!(matches!(node.next(), ToNode::Applied { version: 1 }));
    assert_eq!(node.health("shop/1", Health::Healthy), "a probe passed", "what holds is said again");
    node.send(Snapshot { version: 2, ..snapshot });
    node.applied(2);
}

#[test]
fn what_is_no_frame_ends_the_link_and_nothing_else() {
    let (edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    node.send(edge.snapshot(1, vec![service(vec![member("shop/1", server.address)])]));
    node.health("shop/1", Health::Healthy);
    node.send_raw(b"\x00\x00\x00\x03{]}");
    assert!(node.is_closed());
    let mut node = edge.link();
    node.send_raw(b"\xff\xff\xff\xff");
    assert!(node.is_closed());
    assert_eq!(edge.get("/").0, 200);
}

#[test]
fn a_node_process_that_does_not_read_stops_nothing() {
    let (edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    let mut snapshot = edge.snapshot(1, vec![service(vec![member("shop/1", server.address)])]);
    node.send(snapshot.clone());
    node.health("shop/1", Health::Healthy);
    // Each of them asks for an answer; nobody reads until all are sent.
    for version in 2..400 {
        snapshot.version = version;
        node.send(snapshot.clone());
    }
    for _ in 0..20 {
        assert_eq!(edge.get("/").0, 200);
        thread::sleep(Duration::from_millis(10));
    }
    node.applied(399);
}

#[test]
fn ends_with_the_guard_or_when_told() {
    let (mut edge, mut node) = Edge::linked(1);
    let server = Server::start("one");
    node.send(edge.snapshot(1, vec![service(vec![member("shop/1", server.address)])]));
    node.health("shop/1", Health::Healthy);
    edge.drop_channel();
    assert!(matches!(edge.ends(), End::GuardGone));

    let (mut edge, mut node) = Edge::linked(2);
    node.send(edge.snapshot(1, vec![service(vec![member("shop/1", server.address)])]));
    node.health("shop/1", Health::Healthy);
    let address = edge.address;
    let slow = thread::spawn(move || get(address, "/slow"));
    server.wait_for_requests(1);
    edge.say(&EdgeNotice::Terminate { grace_ms: 10_000 }, None);
    assert!(matches!(edge.ends(), End::Told));
    assert_eq!(slow.join().unwrap(), (200, "one".to_owned()), "what was under way finished first");

    let mut edge = Edge::start(1);
    edge.say(&EdgeNotice::Terminate { grace_ms: 10_000 }, None);
    assert!(matches!(edge.ends(), End::Told), "nothing to finish");
}
