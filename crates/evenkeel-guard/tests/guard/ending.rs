//! How a guard ends, as ordered and otherwise.

use std::time::Duration;

use evenkeel_core::guard::{EdgeNotice, Notice, Order};
use rustix::process::Signal;

use crate::{
    Test,
    world::{Identity, World, alive, eventually, line, sh},
};

pub(crate) const TESTS: &[Test] = &[
    ("SIGTERM ends edge, processes and node process in order", terminate),
    ("Finish alone ends everything", finish),
    ("a node process that dies while ending is told again", told_again),
    ("a second signal kills everything", second_signal),
    ("who does not finish in time is killed", too_late),
    ("the node process says how long the end may take", bounds),
    ("nothing outlives a killed guard for long", guard_killed),
];

fn terminate(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    let (pid, _output) = node.spawn("a", sh("exec sleep 1000"));
    node.order(&Order::StartEdge);
    let edge = world.edge();
    edge.edge_inventory();
    edge.next::<EdgeNotice>();
    node.next::<Notice>();
    world.signal(Signal::TERM);
    assert_eq!(node.next::<Notice>().0, Notice::Terminate);
    assert_eq!(edge.next::<EdgeNotice>().0, EdgeNotice::Terminate { grace_ms: 5000 });
    edge.end(0);
    let exited = node.next::<Notice>().0;
    assert!(matches!(exited, Notice::EdgeExited { restart_in_ms: u64::MAX, .. }), "{exited:?}");
    node.order(&Order::Stop { key: "a".into(), signal: 15, grace_ms: 10_000 });
    node.exited();
    assert!(!alive(pid));
    node.order(&Order::Finish { code: 42 });
    node.end(0);
    assert_eq!(world.wait().code(), Some(42));
}

fn finish(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    let (pid, mut output) = node.spawn("a", sh("trap '' TERM; setsid sleep 1000 & echo $!; wait; sleep 1000"));
    let child: i32 = line(&mut output).parse().unwrap();
    node.order(&Order::StartEdge);
    let edge = world.edge();
    edge.edge_inventory();
    node.order(&Order::Finish { code: 2 });
    let (edge_pid, node_pid) = (edge.pid, node.pid);
    while edge.next::<EdgeNotice>().0 != (EdgeNotice::Terminate { grace_ms: 5000 }) {}
    edge.end(0);
    node.end(0);
    assert_eq!(world.wait().code(), Some(2));
    assert!([pid, child, edge_pid, node_pid].iter().all(|&pid| !alive(pid)));
}

fn told_again(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    world.signal(Signal::INT);
    assert_eq!(node.next::<Notice>().0, Notice::Terminate);
    node.kill();
    let node = world.node();
    let told: Vec<Notice> = node.inventory().into_iter().map(|(notice, _)| notice).collect();
    assert_eq!(told.last(), Some(&Notice::Terminate), "before `Complete`, so that it starts nothing");
    node.order(&Order::Finish { code: 0 });
    node.end(0);
    assert_eq!(world.wait().code(), Some(0));
}

fn second_signal(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    let (pid, _output) = node.spawn("a", sh("trap '' TERM; while :; do sleep 1000; done"));
    world.signal(Signal::INT);
    assert_eq!(node.next::<Notice>().0, Notice::Terminate);
    world.signal(Signal::INT);
    assert_eq!(world.wait().code(), Some(1));
    assert!(!alive(pid) && !alive(node.pid));
}

fn too_late(identity: Identity) {
    let mut world = World::start_with(identity, "edge", Duration::from_millis(300));
    let node = world.node();
    node.inventory();
    let (pid, _output) = node.spawn("a", sh("exec sleep 1000"));
    world.signal(Signal::TERM);
    assert_eq!(world.wait().code(), Some(1));
    assert!(!alive(pid) && !alive(node.pid));
}

fn bounds(identity: Identity) {
    let mut world = World::start_with(identity, "edge", Duration::from_millis(1));
    let node = world.node();
    node.inventory();
    node.order(&Order::Bounds { edge_grace_ms: 7777, finish_ms: 60_000 });
    node.order(&Order::StartEdge);
    let edge = world.edge();
    edge.edge_inventory();
    world.signal(Signal::TERM);
    while edge.next::<EdgeNotice>().0 != (EdgeNotice::Terminate { grace_ms: 7777 }) {}
    edge.end(0);
    while !matches!(node.next::<Notice>().0, Notice::EdgeExited { .. }) {}
    node.order(&Order::Finish { code: 3 });
    node.end(0);
    assert_eq!(world.wait().code(), Some(3), "not killed after the guard's own millisecond");
}

fn guard_killed(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    node.order(&Order::StartEdge);
    let edge = world.edge();
    edge.edge_inventory();
    node.next::<Notice>();
    let (kind, _output) = node.spawn("kind", sh("exec sleep 1000"));
    let (stubborn, mut output) =
        node.spawn("stubborn", sh("trap '' TERM; setsid sleep 1000 & echo $!; while :; do sleep 1000; done"));
    let child: i32 = line(&mut output).parse().unwrap();
    let stubs = [kind, stubborn].map(crate::world::parent);
    world.signal(Signal::KILL);
    world.wait();
    let pids = [node.pid, edge.pid, kind, stubborn, child, stubs[0], stubs[1]];
    eventually("everything is gone", || pids.iter().all(|&pid| !alive(pid)));
}
