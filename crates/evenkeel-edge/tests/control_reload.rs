//! Large snapshots under load: what they change is applied, what they leave alone goes on, and no request pays for it.
#![allow(clippy::unwrap_used)]

mod control_support;

use std::{
    collections::HashSet,
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use control_support::{Edge, instance::Server, load::Load, member, route, service};
use evenkeel_core::{
    link::{EventKind, ToNode},
    snapshot::{Balance, Route, Service, Snapshot},
    status::Health,
};
use evenkeel_edge::view::{Registry, View};

/// The service that is asked, and beside it many that are not.
fn large(edge: &Edge, version: u64, shop: &[&Server], others: &Server, generation: u32) -> Snapshot {
    let instances = shop.iter().enumerate().map(|(place, one)| member(&format!("shop/{}", place + 1), one.address));
    let shop = Service { balance: Balance::LeastConnections, ..service(instances.collect()) };
    let other = |number: usize| {
        let one = |place: usize| {
            let mut one = member(&format!("other-{number}/{place}"), others.address);
            one.id.generation = u64::from(generation);
            one
        };
        Service { name: format!("other-{number}"), ..service((0..30).map(one).collect()) }
    };
    let services: Vec<Service> = std::iter::once(shop).chain((0..100).map(other)).collect();
    let lead =
        |number: usize| Route { host: Some(format!("h{number}.test")), ..route(&format!("other-{}", number % 100)) };
    let mut snapshot = edge.snapshot(version, services);
    snapshot.routes.extend((0..2_000).map(lead));
    snapshot
}

#[test]
fn large_snapshots_under_load_cost_no_client_anything() {
    let (one, two, others) = (Server::start("one"), Server::start("two"), Server::start("other"));
    let (edge, mut node) = Edge::linked(2);
    let shop = [&one, &two];
    let small = Snapshot {
        routes: vec![route("shop")],
        services: large(&edge, 1, &shop, &others, 1).services.into_iter().take(1).collect(),
        ..large(&edge, 1, &shop, &others, 1)
    };
    node.send(small);
    node.applied(1);
    node.all_healthy(&["shop/1", "shop/2"]);
    let load = Load::start(edge.address, 4);
    let mut took = Vec::new();
    for version in 2..8 {
        // Others come, stay as they are, and are replaced by new generations, in turn.
        let snapshot = large(&edge, version, &shop, &others, u32::try_from(version / 2).unwrap());
        let sent = Instant::now();
        node.send(snapshot);
        node.applied(version);
        took.push(sent.elapsed());
    }
    let worst = load.end();
    eprintln!("applied after {took:?}, the slowest request took {worst:?}");
    // What stayed was healthy all the time.
    let verdicts = node.past.iter().filter(|event| event.instance.as_ref().is_some_and(|id| id.name == "shop/1"));
    let healths: HashSet<Health> = verdicts
        .filter_map(|event| match event.what {
            EventKind::Health { health, .. } => Some(health),
            _ => None,
        })
        .collect();
    assert_eq!(healths, HashSet::from([Health::Healthy]));
}

#[test]
fn what_did_not_change_is_the_very_same_in_the_next_view() {
    let (one, others) = (Server::start("one"), Server::start("other"));
    let edge = Edge::start(2);
    let mut registry = Registry::new(2);
    let mut snapshot = large(&edge, 1, &[&one], &others, 1);
    let first = registry.compile(&snapshot).unwrap();
    snapshot.services[7].instances[3].weight = 5;
    snapshot.services[8].limits.silent_after_ms += 1;
    snapshot.services.remove(100);
    snapshot.routes.retain(|route| route.service != "other-99");
    let second = registry.compile(&snapshot).unwrap();
    for (place, service) in second.services.iter().enumerate() {
        let before = &first.services[place];
        assert_eq!(Arc::ptr_eq(before, service), place != 7 && place != 8, "{place}");
        assert!(Arc::ptr_eq(&before.shared, &service.shared), "counters stay in any case");
        assert_eq!(second.place_of(&service.shared), Some(place));
    }
    let instances = |view: &View| Arc::clone(&view.services[7].instances[3].shared);
    assert!(Arc::ptr_eq(&instances(&first), &instances(&second)));
    assert_eq!(second.place_of(&first.services[100].shared), None);
}

#[test]
fn very_many_new_instances_do_not_keep_others_from_being_probed() {
    let server = Server::start("one");
    server.set_check_status(503);
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (edge, mut node) = Edge::linked(1);
    let many = service((0..12_000).map(|place| member(&format!("shop/{place}"), nowhere)).collect());
    let few = |number: usize| Service {
        name: format!("few-{number}"),
        ..service(vec![member(&format!("few-{number}/1"), server.address)])
    };
    node.send(edge.snapshot(1, vec![many.clone()]));
    node.applied(1);
    // All of the many are probed quickly at first, which wants all the room there is for a minute.
    node.send(edge.snapshot(2, std::iter::once(many).chain((0..10).map(few)).collect()));
    node.applied(2);
    // Said with a probe that fails a second later.
    for number in 0..10 {
        node.health(&format!("few-{number}/1"), Health::Unknown);
    }
    server.set_check_status(200);
    for number in 0..10 {
        node.health(&format!("few-{number}/1"), Health::Healthy);
    }
}

#[test]
fn very_many_instances_are_probed_less_often_and_that_is_said() {
    let server = Server::start("one");
    let (edge, mut node) = Edge::linked(1);
    let one = |place: usize| member(&format!("shop/{place}"), server.address);
    let mut many = service((0..6_000).map(one).collect());
    many.check.as_mut().unwrap().interval_ms = 500;
    node.send(edge.snapshot(1, vec![many]));
    let interval_ms = node.until("stretched", |message| match message {
        ToNode::Events { events, .. } => events.iter().find_map(|event| match event.what {
            EventKind::ChecksStretched { instances: 6_000, interval_ms } => Some(interval_ms),
            _ => None,
        }),
        _ => None,
    });
    assert!(Duration::from_millis(interval_ms) > Duration::from_millis(500));
    node.applied(1);
    node.health("shop/0", Health::Healthy);
    assert_eq!(edge.get("/").0, 200);
    node.send(edge.snapshot(2, vec![service(vec![one(0)])]));
    node.until("as often as configured", |message| match message {
        ToNode::Events { events, .. } => {
            events.iter().any(|event| event.what == EventKind::ChecksInTime { instances: 1 }).then_some(())
        }
        _ => None,
    });
}
