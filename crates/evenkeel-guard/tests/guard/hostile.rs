//! Peers that send nonsense or do not read, processes that multiply, stubs that are attacked.

use evenkeel_core::{
    guard::{MAX_PACKET_BYTES, Notice, Order, wire::Message},
    status::ExitStatus,
};
use rustix::process::Signal;

use crate::{
    Test,
    world::{Identity, World, actor, alive, eventually, kill, line, parent, sh, state},
};

pub(crate) const TESTS: &[Test] = &[
    ("nonsense ends the node process, not the guard", nonsense),
    ("a node process that does not read is replaced", flood),
    ("an edge that sends is not heard", edge_noise),
    ("a killed stub leaves nothing", stub_killed),
    ("a stopped stub does not save its process", stub_stopped),
    ("a process that multiplies is killed whole", multiplying),
    ("signals at the stub stop nothing", stub_signalled),
];

fn nonsense(identity: Identity) {
    let (mut world, mut node) = World::with_node(identity);
    let (pid, _output) = node.spawn("a", sh("exec sleep 1000"));
    let mut other_version = Order::StartEdge.encode().unwrap();
    other_version[0] = 200;
    let packets = [
        vec![],
        vec![0xff; 100],
        other_version,
        vec![1; MAX_PACKET_BYTES + 100],
        Order::Kill { key: "x".repeat(5000) }.encode().unwrap(),
        Order::Kill { key: String::new() }.encode().unwrap(),
        Order::Stop { key: "a".into(), signal: 4711, grace_ms: 1 }.encode().unwrap(),
    ];
    for packet in packets {
        let former = node.pid;
        node.send_raw(&packet, None);
        node = world.node();
        assert!(!alive(former));
        assert!(matches!(&node.inventory()[1].0, Notice::Process { key, exit: None, .. } if key == "a"));
    }
    assert!(alive(pid));
    node.order(&Order::Kill { key: "a".into() });
    assert_eq!(node.exited().1, ExitStatus::Signal(9));
}

fn flood(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    let (pid, _output) = node.spawn("a", sh("exec sleep 1000"));
    let again = Order::Spawn { key: "a".into(), spec: sh("true") }.encode().unwrap();
    // Each is refused with a notice that nobody reads.
    let mut taken = 0_u32;
    while taken < 200_000 && node.try_send(&again) {
        taken += 1;
    }
    assert!((10_000..200_000).contains(&taken), "{taken} orders were taken");
    eventually("it is killed", || !alive(node.pid));
    let node = world.node();
    assert!(matches!(&node.inventory()[1].0, Notice::Process { exit: None, .. }));
    assert!(alive(pid));
}

fn edge_noise(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    node.order(&Order::StartEdge);
    let edge = world.edge();
    edge.edge_inventory();
    node.next::<Notice>();
    edge.order(&Order::Finish { code: 1 });
    edge.send_raw(&[0xff; 50], None);
    node.spawn("a", sh("exit 0"));
    node.exited();
    assert!(alive(edge.pid));
}

fn stub_killed(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let (pid, mut output) = node.spawn("a", sh("setsid sh -c 'trap \"\" TERM; echo $$; sleep 1000 & wait' & wait"));
    let (bystander, _output) = node.spawn("b", sh("exec sleep 1000"));
    let child: i32 = line(&mut output).parse().unwrap();
    kill(parent(pid), Signal::KILL);
    assert_eq!(node.exited(), ("a".into(), ExitStatus::Signal(9), 0));
    assert!(!alive(pid) && !alive(child));
    assert!(alive(bystander));
}

fn stub_stopped(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let (pid, mut output) = node.spawn("a", sh("setsid sh -c 'echo $$; sleep 1000' & wait"));
    let child: i32 = line(&mut output).parse().unwrap();
    kill(parent(pid), Signal::STOP);
    eventually("the stub is stopped", || state(parent(pid)) == "T");
    node.order(&Order::Kill { key: "a".into() });
    assert_eq!(node.exited().1, ExitStatus::Signal(9));
    assert!(!alive(pid) && !alive(child));
}

fn multiplying(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let (pid, mut output) = node.spawn("a", actor("ancestor", "12"));
    let mut generations = vec![pid];
    for _ in 0..13 {
        generations.push(line(&mut output).parse().unwrap());
    }
    kill(pid, Signal::KILL);
    let (key, status, leftovers) = node.exited();
    assert_eq!((key.as_str(), status), ("a", ExitStatus::Signal(9)));
    // Three shells of each generation and the sleep of each shell, as far as it had come; and another sleep where it was
    // killed before its shell.
    assert!((3 * 13..=9 * 13).contains(&leftovers), "{leftovers}");
    assert!(generations.iter().all(|&pid| !alive(pid)));
    // One that goes on multiplying while it is being killed.
    let script = "(i=0; while [ $i -lt 400 ]; do (setsid sleep 1000 &); i=$((i+1)); done) & echo go; sleep 1000";
    let (_pid, mut output) = node.spawn("b", sh(script));
    while line(&mut output) != "go" {}
    node.order(&Order::Kill { key: "b".into() });
    assert_eq!(node.exited().0, "b");
}

fn stub_signalled(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let (pid, _output) = node.spawn("a", sh("exec sleep 1000"));
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        kill(parent(pid), signal);
    }
    node.spawn("b", sh("exit 0"));
    assert_eq!(node.exited().0, "b");
    assert!(alive(pid));
}
