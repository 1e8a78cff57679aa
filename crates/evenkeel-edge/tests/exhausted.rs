//! A machine that has no descriptor left blames no instance for it. In a process of its own, whose bound it lowers.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{fs::File, net::UdpSocket};

use common::{Edge, PATIENCE, eventually, snapshot};
use evenkeel_core::snapshot::Protocol;
use evenkeel_edge::messages::ToThread;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn datagrams_for_which_there_is_no_socket_are_dropped_and_nobody_is_ejected_for_it() {
    let instance = UdpSocket::bind("127.0.0.1:0").unwrap();
    instance.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut datagrams = snapshot(&[instance.local_addr().unwrap()]);
    datagrams.listeners[0].protocol = Protocol::Udp;
    datagrams.listeners[0].service = Some("app".into());
    datagrams.routes.clear();
    let mut edge = Edge::start(datagrams);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let clients: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for client in &clients {
        client.connect(socket.local_addr().unwrap()).unwrap();
    }
    edge.threads.orders[0].send(ToThread::Open { name: "web".into(), socket: socket.into() }).unwrap();
    let arrives = |wanted: &[u8]| {
        let mut bytes = [0; 8];
        let length = instance.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], wanted);
    };
    clients[0].send(b"first").unwrap();
    arrives(b"first");

    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
    let mut used = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        used.push(file);
    }
    clients[1].send(b"lost").unwrap();
    eventually("it is dropped", || edge.sum(|cell| &cell.dropped_datagrams) == 1);
    assert_eq!(edge.instance(0).sum(|cell| &cell.failed), 0);
    assert!(edge.notices().is_empty(), "ejection hears nothing of it");
    clients[0].send(b"known").unwrap();
    arrives(b"known");
    drop(used);
    clients[1].send(b"next").unwrap();
    arrives(b"next");
}
