//! Slow start and the minimum-capacity rule, with checks and events, over real sockets.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod control_support;

use control_support::{Edge, Node, get, instance::Server, member, service};
use evenkeel_core::{
    link::{Event, EventKind, ToNode},
    snapshot::{Page, Service},
    status::Health,
};

/// A service whose check notices at once, of these servers.
fn shop(servers: &[&Server]) -> Service {
    let members = servers.iter().zip(1..).map(|(server, n)| member(&format!("shop/{n}"), server.address));
    let mut shop = service(members.collect());
    let check = shop.check.as_mut().unwrap();
    (check.interval_ms, check.fall, check.rise) = (50, 2, 1);
    shop
}

/// Waits for an event of the service as a whole, one that was not waited for before.
fn said<T>(node: &mut Node, find: impl Fn(&EventKind) -> Option<T>) -> T {
    loop {
        let of_service = |event: &Event| event.service == "shop" && event.instance.is_none();
        let mut past = node.past.iter().enumerate().filter(|(_, event)| of_service(event));
        if let Some((place, found)) = past.find_map(|(place, event)| Some((place, find(&event.what)?))) {
            node.past[place].service.clear();
            return found;
        }
        node.until("an event of the service", |message| matches!(message, ToNode::Events { .. }).then_some(()));
    }
}

fn begins(what: &EventKind) -> Option<String> {
    match what {
        EventKind::CapacityShort { reason } => Some(reason.clone()),
        _ => None,
    }
}

fn ends(what: &EventKind) -> Option<String> {
    match what {
        EventKind::CapacityBack { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

/// Who answers some requests, in order of name.
fn who(edge: &Edge) -> Vec<String> {
    let mut names: Vec<String> = (0..12).map(|_| get(edge.address, "/")).map(|(_, name)| name).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn too_few_healthy_ones_are_helped_by_those_that_answer() {
    let (edge, mut node) = Edge::linked(2);
    let (one, two, three) = (Server::start("one"), Server::start("two"), Server::start("three"));
    let mut shop = shop(&[&one, &two, &three]);
    shop.choice.min_capacity_percent = 50;
    let page = Page { status: 503, content_type: "text/plain".into(), body: "sorry".into() };
    shop.fallback = Some("sorry".into());
    let sorry = Service { page: Some(page), name: "sorry".into(), ..service(Vec::new()) };
    node.send(edge.snapshot(1, vec![shop, sorry]));
    node.all_healthy(&["shop/1", "shop/2", "shop/3"]);
    one.set_check_status(500);
    node.health("shop/1", Health::Unhealthy);
    assert_eq!(who(&edge), ["three", "two"], "two of three are enough");
    two.kill();
    let reason = said(&mut node, begins);
    assert_eq!(reason, "1 of 3 instances is healthy, fewer than 50 %; 1 more still answers");
    let why = node.health("shop/1", Health::Unhealthy);
    assert!(why.ends_with("status 500; it gets requests all the same, since too few are healthy"), "{why}");
    assert_eq!(who(&edge), ["one", "three"], "and never the one that is dead");
    // Nobody is healthy now, and the fallback still has no part in it.
    three.set_check_status(500);
    node.health("shop/3", Health::Unhealthy);
    let nobody = "0 of 3 instances are healthy, fewer than 50 %; 2 more still answer";
    assert_eq!(said(&mut node, begins), nobody, "the numbers are those of now");
    assert_eq!(who(&edge), ["one", "three"]);
    // A node process that starts now hears how things stand.
    let mut node = edge.link();
    assert_eq!(said(&mut node, begins), nobody);
    one.set_check_status(200);
    three.set_check_status(200);
    assert_eq!(said(&mut node, ends), "2 of 3 instances are healthy");
    assert_eq!(who(&edge), ["one", "three"]);
}

#[test]
fn where_the_rule_finds_nobody_the_fallback_answers() {
    let (edge, mut node) = Edge::linked(1);
    let one = Server::start("one");
    let mut shop = shop(&[&one]);
    shop.choice.min_capacity_percent = 100;
    shop.fallback = Some("sorry".into());
    let page = Page { status: 503, content_type: "text/plain".into(), body: "sorry".into() };
    let sorry = Service { page: Some(page), name: "sorry".into(), ..service(Vec::new()) };
    node.send(edge.snapshot(1, vec![shop, sorry]));
    node.health("shop/1", Health::Healthy);
    one.set_check_status(500);
    said(&mut node, begins);
    assert_eq!(get(edge.address, "/"), (200, "one".to_owned()));
    one.kill();
    assert_eq!(said(&mut node, ends), "0 of 1 instances are healthy, and nobody else answers any more");
    said(&mut node, |what| matches!(what, EventKind::FellBack { .. }).then_some(()));
    assert_eq!(get(edge.address, "/"), (503, "sorry".to_owned()));
}

#[test]
fn without_the_rule_an_unhealthy_instance_gets_nothing() {
    let (edge, mut node) = Edge::linked(1);
    let (one, two) = (Server::start("one"), Server::start("two"));
    node.send(edge.snapshot(1, vec![shop(&[&one, &two])]));
    node.all_healthy(&["shop/1", "shop/2"]);
    one.set_check_status(500);
    node.health("shop/1", Health::Unhealthy);
    assert_eq!(who(&edge), ["two"]);
}

#[test]
fn an_instance_that_returns_starts_slowly_and_says_so() {
    let (edge, mut node) = Edge::linked(1);
    let (one, two) = (Server::start("one"), Server::start("two"));
    let mut shop = shop(&[&one, &two]);
    shop.choice.slow_start_ms = 60_000;
    node.send(edge.snapshot(1, vec![shop.clone()]));
    for name in ["shop/1", "shop/2"] {
        let reason = node.health(name, Health::Healthy);
        assert!(!reason.contains("share"), "the service comes up as a whole: {reason}");
    }
    one.set_check_status(500);
    node.health("shop/1", Health::Unhealthy);
    // Longer than the service as a whole takes to come up.
    shop.choice.slow_start_ms = 1;
    node.send(edge.snapshot(2, vec![shop.clone()]));
    node.applied(2);
    one.set_check_status(200);
    let reason = node.health("shop/1", Health::Healthy);
    assert!(reason.ends_with("its share of new requests grows from 10 % to the whole within 1 ms"), "{reason}");
}
