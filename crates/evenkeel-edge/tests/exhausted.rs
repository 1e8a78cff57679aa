//! A machine that has no descriptor left blames no instance for it. In a process of its own, whose bound it lowers.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, UdpSocket},
    sync::{Mutex, PoisonError},
};

use common::{Edge, PATIENCE, eventually, snapshot};
use evenkeel_core::{scarcity::Scarcity, snapshot::Protocol};
use evenkeel_edge::messages::{Notice, ToThread};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The tests of this file take turns: the bound is one of the process.
static TURN: Mutex<()> = Mutex::new(());

/// Opens files until there is no descriptor left.
fn use_up() -> Vec<File> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn requests_wait_for_a_descriptor_and_no_instance_is_blamed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut edge = Edge::start(snapshot(&[listener.local_addr().unwrap()]));
    std::thread::spawn(move || {
        // It may meet the same want.
        for mut stream in listener.incoming().filter_map(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let mut client = edge.client();
    let thread = &edge.threads.shared.threads[0].0;
    eventually("it is accepted", || thread.connections.get() == 1);
    let used = use_up();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    let is_said = |notice: &Notice| matches!(notice, Notice::Scarce { what: Scarcity::Descriptors, .. });
    edge.hears("what is missing", is_said);
    let tries = || edge.instance(0).sum(|cell| &cell.tries);
    let before = tries();
    eventually("it tries again", || tries() >= before + 3);
    drop(used);
    assert_eq!(client.answer().text(), "ok");
    assert_eq!(edge.instance(0).sum(|cell| &cell.failed), 0);
    let others = edge.notices();
    assert!(!others.iter().any(|notice| matches!(notice, Notice::Failed { .. }) || is_said(notice)), "{others:?}");
}

#[test]
fn datagrams_for_which_there_is_no_socket_are_dropped_and_nobody_is_ejected_for_it() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
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

    let used = use_up();
    clients[1].send(b"lost").unwrap();
    eventually("it is dropped", || edge.sum(|cell| &cell.dropped_datagrams) == 1);
    assert_eq!(edge.instance(0).sum(|cell| &cell.failed), 0);
    let notices = edge.notices();
    assert!(
        notices.iter().all(|notice| matches!(notice, Notice::Scarce { .. })),
        "ejection hears nothing of it: {notices:?}"
    );
    clients[0].send(b"known").unwrap();
    arrives(b"known");
    drop(used);
    clients[1].send(b"next").unwrap();
    arrives(b"next");
}
