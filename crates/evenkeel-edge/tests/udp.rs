//! UDP listeners: the datagrams of one client go to one instance, and its answers come back from the listener.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use common::{Edge, PATIENCE, Server, eventually, service as service_of, snapshot};
use evenkeel_core::{
    snapshot::{Duty, Listener, Protocol, Snapshot},
    status::Health,
};
use evenkeel_edge::messages::{Notice, ToThread};

fn udp(instances: &[SocketAddr]) -> Snapshot {
    let mut snapshot = snapshot(instances);
    snapshot.listeners[0].protocol = Protocol::Udp;
    snapshot.listeners[0].service = Some("app".into());
    snapshot.routes.clear();
    snapshot
}

/// An instance that answers each datagram with its name and the datagram, until it hears `end`.
struct Echo {
    address: SocketAddr,
    thread: Option<thread::JoinHandle<()>>,
}

impl Echo {
    fn named(name: &'static str) -> Self {
        Self::on(UdpSocket::bind("127.0.0.1:0").unwrap(), name)
    }

    fn on(socket: UdpSocket, name: &'static str) -> Self {
        let address = socket.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).unwrap();
                if &bytes[..length] == b"end" {
                    return;
                }
                let answer = [name.as_bytes(), b" ", &bytes[..length]].concat();
                let _ = socket.send_to(&answer, from);
            }
        });
        Self { address, thread: Some(thread) }
    }

    /// Its socket is closed when this returns: who sends to it is told so.
    fn end(&mut self) {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"end", self.address).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

/// The edge with its listener of datagrams on all threads; the one of connections leads nowhere.
struct Front {
    edge: Edge,
    address: SocketAddr,
}

fn start(snapshot: Snapshot) -> Front {
    let edge = Edge::start(snapshot);
    let address = open(&edge);
    Front { edge, address }
}

fn open(edge: &Edge) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    for orders in &edge.threads.orders {
        let socket: OwnedFd = socket.try_clone().unwrap().into();
        orders.send(ToThread::Open { name: "web".into(), socket }).unwrap();
    }
    address
}

fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn ask(client: &UdpSocket, what: &[u8]) -> String {
    client.send(what).unwrap();
    answer(client)
}

fn answer(client: &UdpSocket) -> String {
    let mut bytes = vec![0; 65_536];
    let length = client.recv(&mut bytes).expect("an answer comes, from where it was asked");
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

/// Asks until somebody answers: datagrams may be lost while an instance goes.
fn ask_until(client: &UdpSocket, wanted: &str) {
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    eventually(wanted, || {
        client.send(b"again").unwrap();
        let mut bytes = [0; 100];
        client.recv(&mut bytes).is_ok_and(|length| bytes[..length].starts_with(wanted.as_bytes()))
    });
}

#[test]
fn a_client_stays_with_its_instance_and_clients_are_shared_out() {
    let (one, two) = (Echo::named("one"), Echo::named("two"));
    let front = start(udp(&[one.address, two.address]));
    let clients: Vec<UdpSocket> = (0..4).map(|_| client(front.address)).collect();
    let first: Vec<String> = clients.iter().map(|client| ask(client, b"a")).collect();
    assert_eq!(first.iter().filter(|answer| *answer == "one a").count(), 2, "{first:?}");
    for _ in 0..5 {
        let again: Vec<String> = clients.iter().map(|client| ask(client, b"a")).collect();
        assert_eq!(again, first);
    }
    let edge = &front.edge;
    assert_eq!(edge.instance(0).sum(|cell| &cell.in_flight), 2);
    assert_eq!((edge.sum(|cell| &cell.sessions), edge.sum(|cell| &cell.dropped_datagrams)), (4, 0));
    eventually("bytes are counted", || edge.sum(|cell| &cell.sent_bytes) == 24 * 5);
    assert_eq!(edge.sum(|cell| &cell.received_bytes), 24);
    assert_eq!(edge.instance(0).quiet_since_ms(), None, "silence speaks against nobody");
}

#[test]
fn large_and_empty_datagrams_pass_whole() {
    let one = Echo::named("one");
    let front = start(udp(&[one.address]));
    let client = client(front.address);
    assert_eq!(ask(&client, b""), "one ");
    let most = vec![b'x'; 65_507 - 4];
    assert_eq!(ask(&client, &most).len(), 65_507);
    // One that becomes too large for an answer is nothing that passes through here.
    client.send(&vec![b'x'; 65_507]).unwrap();
    assert_eq!(ask(&client, b"still"), "one still");
}

#[test]
fn a_refusal_is_a_failure_and_the_session_moves() {
    let (mut one, two) = (Echo::named("one"), Echo::named("two"));
    let mut front = start(udp(&[one.address, two.address]));
    let clients = [client(front.address), client(front.address)];
    let names: Vec<String> = clients.iter().map(|client| ask(client, b"a")).collect();
    let of_one = usize::from(names[0] != "one a");
    one.end();
    ask_until(&clients[of_one], "two");
    eventually("it is counted", || front.edge.instance(0).sum(|cell| &cell.failed) >= 1);
    front.edge.hears("it is told", |notice| matches!(notice, Notice::Failed { .. }));
    assert_eq!(ask(&clients[1 - of_one], b"a"), "two a");
}

#[test]
fn an_instance_that_is_not_healthy_any_more_or_drains_is_left() {
    let (one, two) = (Echo::named("one"), Echo::named("two"));
    let both = udp(&[one.address, two.address]);
    let mut front = start(both.clone());
    let clients: Vec<UdpSocket> = (0..2).map(|_| client(front.address)).collect();
    for client in &clients {
        ask(client, b"a");
    }
    front.edge.set_health(0, Health::Unhealthy);
    for client in &clients {
        assert_eq!(ask(client, b"b"), "two b");
    }
    front.edge.set_health(0, Health::Healthy);
    let mut draining = both;
    draining.version = 2;
    draining.services[0].instances[1].duty = Duty::Drain;
    front.edge.apply(draining);
    // Nobody asks any more: the sessions end by themselves, long before they would have been forgotten.
    let drained = front.edge.instance(1);
    eventually("nothing is in flight there", || drained.sum(|cell| &cell.in_flight) == 0);
    for client in &clients {
        assert_eq!(ask(client, b"c"), "one c");
    }
}

#[test]
fn without_an_instance_datagrams_are_dropped_and_counted() {
    let one = Echo::named("one");
    let edge = Edge::start_unknown(udp(&[one.address]));
    let address = open(&edge);
    let client = client(address);
    client.send(b"lost").unwrap();
    eventually("it is counted", || edge.sum(|cell| &cell.dropped_datagrams) == 1);
    edge.set_health(0, Health::Healthy);
    ask_until(&client, "one");
}

#[test]
fn sessions_are_bounded_in_number_and_time() {
    let one = Echo::named("one");
    let mut bounded = udp(&[one.address]);
    bounded.listeners[0].limits.connections = 2;
    bounded.listeners[0].limits.keep_alive_ms = 400;
    let front = start(bounded);
    let clients: Vec<UdpSocket> = (0..5).map(|_| client(front.address)).collect();
    for client in &clients {
        assert_eq!(ask(client, b"a"), "one a");
    }
    let instance = front.edge.instance(0);
    eventually("the oldest go", || instance.sum(|cell| &cell.in_flight) <= 2);
    // Whoever was forgotten is a new client.
    assert_eq!(ask(&clients[0], b"b"), "one b");
    assert_eq!(front.edge.sum(|cell| &cell.sessions), 6);
    eventually("the quiet ones are forgotten", || instance.sum(|cell| &cell.in_flight) == 0);
}

#[test]
fn strangers_do_not_take_the_place_of_clients_who_were_answered() {
    let one = Echo::named("one");
    let mut bounded = udp(&[one.address]);
    bounded.listeners[0].limits.connections = 4;
    let front = start(bounded);
    let known = client(front.address);
    for _ in 0..2 {
        assert_eq!(ask(&known, b"a"), "one a");
    }
    for _ in 0..20 {
        assert_eq!(ask(&client(front.address), b"s"), "one s");
    }
    assert_eq!(ask(&known, b"b"), "one b");
    assert_eq!(front.edge.sum(|cell| &cell.sessions), 21, "it was not forgotten, however quiet it was");
    let datagrams = || (front.edge.sum(|cell| &cell.received_datagrams), front.edge.sum(|cell| &cell.sent_datagrams));
    eventually("each datagram is counted", || datagrams() == (23, 23));
}

#[test]
fn a_listener_that_closes_lets_go_of_its_socket() {
    let one = Echo::named("one");
    let front = start(udp(&[one.address]));
    let client = client(front.address);
    assert_eq!(ask(&client, b"a"), "one a");
    front.edge.threads.tell(|| ToThread::Close { name: "web".into() });
    eventually("the address is free", || UdpSocket::bind(front.address).is_ok());
    eventually("nothing is in flight", || front.edge.instance(0).sum(|cell| &cell.in_flight) == 0);
}

#[test]
fn at_the_end_of_an_edge_answers_under_way_still_come() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let front = start(udp(&[server.local_addr().unwrap()]));
    let client = client(front.address);
    client.send(b"question").unwrap();
    let (_, from) = server.recv_from(&mut [0; 100]).unwrap();
    front.edge.threads.tell(|| ToThread::Terminate { grace_ms: 10_000 });
    thread::sleep(Duration::from_millis(50));
    server.send_to(b"answer", from).unwrap();
    assert_eq!(answer(&client), "answer");
    let ended = Arc::clone(&front.edge.threads.shared);
    eventually("it ends when nothing more comes", || ended.threads[0].0.ended.load(Ordering::Relaxed));
}

/// As the guard does it at its end, before threads are told to end or afterwards.
#[test]
fn a_socket_that_was_shut_down_leaves_the_thread_to_others_and_takes_answers_still() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let edge = Edge::start(udp(&[server.local_addr().unwrap()]));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = client(socket.local_addr().unwrap());
    edge.threads.tell(|| ToThread::Open { name: "web".into(), socket: socket.try_clone().unwrap().into() });
    client.send(b"question").unwrap();
    let (_, from) = server.recv_from(&mut [0; 100]).unwrap();
    // It is not connected, which is said, and shut down nevertheless.
    let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Read);
    server.send_to(b"answer", from).unwrap();
    assert_eq!(answer(&client), "answer");
    edge.threads.tell(|| ToThread::Terminate { grace_ms: 60_000 });
    let ended = Arc::clone(&edge.threads.shared);
    eventually("it ends", || ended.threads[0].0.ended.load(Ordering::Relaxed));
}

#[test]
fn one_address_for_connections_and_datagrams() {
    let one = Echo::named("one");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
    let edge = Edge::start(udp(&[one.address]));
    let orders = &edge.threads.orders[0];
    orders.send(ToThread::Open { name: "web".into(), socket: socket.try_clone().unwrap().into() }).unwrap();
    assert_eq!(ask(&client(tcp.local_addr().unwrap()), b"a"), "one a");
}

#[test]
fn a_flood_of_datagrams_leaves_requests_their_turn() {
    let web = Server::named("web");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut both = snapshot(&[web.address]);
    both.listeners.push(Listener {
        name: "dns".into(),
        protocol: Protocol::Udp,
        service: Some("names".into()),
        ..both.listeners[0].clone()
    });
    both.listeners[1].limits.connections = 4;
    // Whatever is sent to the instance comes back to the listener, as from another client: there is always more to read.
    both.services.push(service_of("names", &[address]));
    let mut edge = Edge::start(both);
    edge.threads.orders[0].send(ToThread::Open { name: "dns".into(), socket: socket.into() }).unwrap();
    let client = client(address);
    for _ in 0..100 {
        client.send(b"round and round").unwrap();
    }
    let service = Arc::clone(&edge.view.services[1].shared);
    eventually("it is flooded", || service.sum(|cell| &cell.sessions) > 1000);
    for _ in 0..10 {
        let mut web = edge.client();
        web.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(web.answer().text(), "web");
    }
    eventually("the flood goes on", || service.sum(|cell| &cell.sessions) > 2000);
    // Sessions end in their turn, too.
    assert!(edge.view.services[1].instances[0].shared.sum(|cell| &cell.in_flight) < 200);
    // It ends with a view that leads elsewhere.
    let end = UdpSocket::bind("127.0.0.1:0").unwrap();
    end.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut elsewhere = edge.snapshot.clone();
    elsewhere.version = 2;
    elsewhere.listeners[1].service = Some("end".into());
    elsewhere.services.push(service_of("end", &[end.local_addr().unwrap()]));
    edge.apply(elsewhere);
    edge.view.services[2].instances[0].shared.set_health(Health::Healthy);
    // What goes round may all have been dropped before the other instance was known to be healthy.
    eventually("it goes elsewhere", || {
        client.send(b"round and round").unwrap();
        end.recv(&mut [0; 100]).is_ok_and(|length| length == 15)
    });
}

#[test]
fn a_socket_of_another_kind_waits_for_the_view_that_knows_it_so() {
    let web = Server::named("web");
    let requests = snapshot(&[web.address]);
    let mut edge = Edge::start(udp(&[web.address]));
    // Its listener has become one of requests, and the sockets have come first.
    let mut early = edge.client();
    early.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    early.stream.set_nonblocking(true).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(early.stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    early.stream.set_nonblocking(false).unwrap();
    edge.apply(Snapshot { version: 2, ..requests });
    assert_eq!(early.answer().text(), "web");
}

#[test]
fn a_listener_that_leads_elsewhere_takes_its_clients_along() {
    let (one, two) = (Echo::named("one"), Echo::named("two"));
    let mut before = udp(&[one.address]);
    before.services.push(service_of("other", &[two.address]));
    let mut front = start(before.clone());
    let client = client(front.address);
    assert_eq!(ask(&client, b"a"), "one a");
    let mut after = Snapshot { version: 2, ..before };
    after.listeners[0].service = Some("other".into());
    front.edge.apply(after);
    let left = front.edge.instance(0);
    eventually("the next datagram goes there", || ask(&client, b"b") == "two b");
    eventually("and nothing is left behind", || left.sum(|cell| &cell.in_flight) == 0);
    assert_eq!(ask(&client, b"c"), "two c");
}
