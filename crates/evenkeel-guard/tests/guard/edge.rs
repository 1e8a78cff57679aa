//! The edge dies and comes back; no connection is refused.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use evenkeel_core::{
    guard::{EdgeNotice, Notice, Order},
    status::ExitStatus,
};
use rustix::process::Signal;

use crate::{
    Test,
    world::{Actor, Identity, World, eventually, fields, readable},
};

pub(crate) const TESTS: &[Test] = &[
    ("an edge is started once and told everything", start),
    ("what is held later reaches a running edge", hold_later),
    ("no connection is refused while the edge is replaced", no_refusal),
    ("each restart of either side makes a fresh link", links),
    ("an edge that dies at once is started ever later", back_off),
    ("the edge is confined", confined),
    ("who connects while keel ends is refused", refused_at_the_end),
];

fn start(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    node.order_with(&Order::Hold { key: "snapshot".into() }, Some(&writer));
    node.order(&Order::StartEdge);
    node.order(&Order::StartEdge);
    let edge = world.edge();
    let told = edge.edge_inventory();
    assert!(matches!(&told[..], [(EdgeNotice::Held { key }, Some(_))] if key == "snapshot"));
    assert!(matches!(edge.next(), (EdgeNotice::Link, Some(_))));
    let (notice, link) = node.next::<Notice>();
    assert_eq!(notice, Notice::EdgeStarted { pid: edge.pid.cast_unsigned(), starts: 0 });
    assert!(link.is_some());
    // The second order started nothing: this one is answered next.
    node.order(&Order::Spawn { key: "a".into(), spec: crate::world::command(&[]) });
    assert!(matches!(node.next::<Notice>().0, Notice::NotStarted { .. }));
}

fn hold_later(identity: Identity) {
    let (_world, node, edge) = with_edge(identity);
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    let key = || "listener/web/0".to_owned();
    node.order_with(&Order::Hold { key: key() }, Some(&writer));
    assert!(matches!(edge.next(), (EdgeNotice::Held { key: held }, Some(_)) if held == key()));
    node.order(&Order::Release { key: "never/held".into() });
    node.order(&Order::Release { key: key() });
    assert!(matches!(edge.next(), (EdgeNotice::Released { key: held }, None) if held == key()));
    // Without a descriptor there is nothing to hold.
    node.order(&Order::Hold { key: key() });
    node.order_with(&Order::Hold { key: "snapshot".into() }, Some(&writer));
    assert!(matches!(edge.next(), (EdgeNotice::Held { key }, Some(_)) if key == "snapshot"));
}

fn refused_at_the_end(identity: Identity) {
    let (mut world, node, edge) = with_edge(identity);
    // A port that was asked for by its number stays with its socket, as one that the kernel chose need not.
    let chosen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind(chosen).unwrap();
    let address = listener.local_addr().unwrap();
    node.order_with(&Order::Hold { key: "listener/web/0".into() }, Some(&OwnedFd::from(listener)));
    let (_, held) = edge.next::<EdgeNotice>();
    TcpStream::connect(address).unwrap();
    world.signal(Signal::TERM);
    while !matches!(edge.next::<EdgeNotice>().0, EdgeNotice::Terminate { .. }) {}
    eventually("it is refused", || TcpStream::connect(address).is_err());
    // A node process that is started now finds the same sockets, so it has no reason to bind others.
    node.kill();
    let node = world.node();
    let told = node.inventory();
    let Some((_, Some(found))) = told.into_iter().find(|(notice, _)| matches!(notice, Notice::Held { .. })) else {
        panic!("the listener is not held any more")
    };
    assert_eq!(TcpListener::from(found).local_addr().unwrap(), address);
    drop(held);
    edge.end(0);
    node.order(&Order::Finish { code: 0 });
    node.end(0);
    assert_eq!(world.wait().code(), Some(0));
}

fn no_refusal(identity: Identity) {
    let (mut world, node, mut edge) = with_edge(identity);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    node.order_with(&Order::Hold { key: "listener/web/0".into() }, Some(&OwnedFd::from(listener)));
    let mut listener = match edge.next() {
        (EdgeNotice::Held { .. }, Some(listener)) => TcpListener::from(listener),
        other => panic!("{other:?}"),
    };
    let done = Arc::new(AtomicBool::new(false));
    let client = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let mut connections = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let mut connection = TcpStream::connect(address).expect("never refused");
                let _ = connection.write_all(b"x");
                connections += 1;
                thread::sleep(std::time::Duration::from_millis(2));
            }
            connections
        }
    });
    for _ in 0..3 {
        accept_one(&listener);
        drop(listener);
        edge.kill();
        edge = world.edge();
        let told = edge.edge_inventory();
        listener = told.into_iter().find_map(|(_, descriptor)| descriptor).expect("the listener is held").into();
    }
    accept_one(&listener);
    done.store(true, Ordering::Relaxed);
    assert!(client.join().expect("no connection was refused") >= 4);
}

/// A connection that waited in the listener, or comes now.
fn accept_one(listener: &TcpListener) {
    let (mut connection, _) = listener.accept().unwrap();
    let mut byte = [0];
    connection.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"x");
}

fn links(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    node.order(&Order::StartEdge);
    let edge = world.edge();
    edge.edge_inventory();
    exchange(&link_of_edge(&edge), &link_of_node(&node, 0));
    node.kill();
    let node = world.node();
    let told = node.inventory();
    let last = told.into_iter().last().expect("the edge is in the inventory");
    assert!(matches!(last.0, Notice::EdgeStarted { starts: 0, .. }));
    exchange(&link_of_edge(&edge), &last.1.unwrap());
    edge.kill();
    let exited = node.next::<Notice>().0;
    assert!(matches!(exited, Notice::EdgeExited { status: ExitStatus::Signal(9), .. }), "{exited:?}");
    let edge = world.edge();
    edge.edge_inventory();
    exchange(&link_of_edge(&edge), &link_of_node(&node, 1));
}

fn link_of_edge(edge: &Actor) -> OwnedFd {
    match edge.next() {
        (EdgeNotice::Link, Some(link)) => link,
        other => panic!("{other:?}"),
    }
}

fn link_of_node(node: &Actor, starts: u64) -> OwnedFd {
    match node.next::<Notice>() {
        (Notice::EdgeStarted { starts: told, .. }, Some(link)) if told == starts => link,
        other => panic!("{other:?}"),
    }
}

/// Both ends are of one link, and work both ways.
fn exchange(one: &OwnedFd, other: &OwnedFd) {
    for (from, to) in [(one, other), (other, one)] {
        File::from(from.try_clone().unwrap()).write_all(b"hello").unwrap();
        readable(to);
        let mut bytes = [0; 5];
        File::from(to.try_clone().unwrap()).read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, *b"hello");
    }
}

fn back_off(identity: Identity) {
    let mut world = World::start_with(identity, "short-lived", crate::world::PATIENCE);
    let node = world.node();
    node.inventory();
    node.order(&Order::StartEdge);
    let mut delays = Vec::new();
    while delays.len() < 4 {
        match node.next::<Notice>().0 {
            Notice::EdgeExited { status, restart_in_ms } => {
                assert_eq!(status, ExitStatus::Code(3));
                delays.push(restart_in_ms);
            }
            Notice::EdgeStarted { starts, .. } => assert_eq!(starts, delays.len() as u64),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(delays[..2], [0, 50]);
    assert!(delays.is_sorted());
}

fn confined(identity: Identity) {
    let (_world, _node, edge) = with_edge(identity);
    // The kernel shows the user once the process has changed to it; it introduced itself afterwards.
    let status = fs::read_to_string(format!("/proc/{}/status", edge.pid)).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("NoNewPrivs:"), "1");
    if identity.is_root() {
        assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
        assert_eq!(field("Gid:"), "65534\t65534\t65534\t65534");
        assert_eq!(field("Groups:"), "");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", edge.pid)).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let bounds: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(bounds[0], bounds[1], "the soft limit is the hard one");
    assert_eq!(fields(edge.pid).unwrap()[3], edge.pid.to_string(), "it has a session of its own");
}

fn with_edge(identity: Identity) -> (World, Actor, Actor) {
    let (mut world, node) = World::with_node(identity);
    node.order(&Order::StartEdge);
    let edge = world.edge();
    assert!(edge.edge_inventory().is_empty());
    link_of_edge(&edge);
    link_of_node(&node, 0);
    (world, node, edge)
}
