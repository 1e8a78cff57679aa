//! PROXY headers both ways over real sockets: who is believed, who the client is then, and what instances are told. The
//! other side is raw bytes here; HAProxy and nginx are in `proxy_interop`.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Client, Edge, Server, eventually, service, snapshot};
use evenkeel_core::{
    snapshot::{Balance, Network, Protocol, ProxyHeader, Snapshot},
    status::Health,
};
use evenkeel_edge::{
    messages::ToThread,
    stream::proxy_header::{Says, parse, write},
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const NAMED: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

fn network(text: &str, prefix: u8) -> Network {
    Network { address: text.parse().unwrap(), prefix }
}

/// A listener that believes PROXY headers of this machine.
fn accepting(instances: &[SocketAddr]) -> Snapshot {
    let mut snapshot = snapshot(instances);
    snapshot.listeners[0].accepts_proxy = true;
    snapshot.listeners[0].trusted = vec![network("127.0.0.0", 8)];
    snapshot
}

fn binary(source: &str, destination: &str) -> Vec<u8> {
    let mut header = Vec::new();
    write(ProxyHeader::V2, source.parse().unwrap(), destination.parse().unwrap(), &mut header);
    header
}

/// Connections closed for want of a header: none came, it was malformed, it came too late.
fn faults(edge: &Edge) -> [u64; 3] {
    std::array::from_fn(|fault| edge.threads.shared.threads.iter().map(|one| one.0.proxy_faults[fault].get()).sum())
}

/// What `X-Forwarded-For` the instance saw after these bytes.
fn forwarded_for(edge: &Edge, bytes: &[u8]) -> String {
    let mut client = edge.client();
    client.send(bytes);
    let text = client.answer().text();
    let line =
        text.lines().find_map(|line| line.strip_prefix("X-Forwarded-For: ").or(line.strip_prefix("x-forwarded-for: ")));
    line.unwrap_or_else(|| panic!("no X-Forwarded-For in {text}")).to_owned()
}

#[test]
fn the_named_client_is_the_client() {
    let server = Server::echo();
    let edge = Edge::start(accepting(&[server.address]));
    assert_eq!(forwarded_for(&edge, [NAMED, GET].concat().as_bytes()), "192.0.2.7");
    let six = [binary("[2001:db8::7]:4711", "[::1]:443"), GET.into()].concat();
    assert_eq!(forwarded_for(&edge, &six), "2001:db8::7");
    let mapped = [binary("[::ffff:192.0.2.9]:4711", "[::1]:443"), GET.into()].concat();
    assert_eq!(forwarded_for(&edge, &mapped), "192.0.2.9");
}

#[test]
fn a_header_may_come_in_pieces_and_nothing_behind_it_is_lost() {
    let server = Server::echo();
    let edge = Edge::start(accepting(&[server.address]));
    for header in [NAMED.as_bytes().to_vec(), binary("192.0.2.7:4711", "198.51.100.1:443")] {
        let mut client = edge.client();
        for byte in &header {
            client.send(&[*byte]);
        }
        client.send(GET.as_bytes());
        assert!(client.answer().text().contains("192.0.2.7"));
        // The connection goes on, and the name stays.
        client.send([GET, GET].concat().as_bytes());
        for _ in 0..2 {
            assert!(client.answer().text().contains("192.0.2.7"));
        }
    }
}

#[test]
fn what_the_named_client_says_of_others_is_believed_only_if_it_is_trusted_itself() {
    let server = Server::echo();
    let mut two = accepting(&[server.address]);
    two.listeners[0].trusted.push(network("192.0.2.7", 32));
    let edge = Edge::start(two);
    let asks = |header: &str| {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n";
        forwarded_for(&edge, [header, request].concat().as_bytes())
    };
    assert_eq!(asks("PROXY TCP4 192.0.2.8 198.51.100.1 4711 443\r\n"), "192.0.2.8");
    assert!(asks(NAMED).starts_with("203.0.113.1"));
    assert_eq!(asks("PROXY UNKNOWN\r\n"), "127.0.0.1", "who is unknown is not believed");
    let own = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    assert!(asks(own).starts_with("203.0.113.1"), "the proxy itself is");
}

#[test]
fn nothing_but_a_header_is_taken_from_trusted_networks() {
    let server = Server::named("web");
    let edge = Edge::start(accepting(&[server.address]));
    let wrong = [
        GET.as_bytes().to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n".to_vec(),
        b"PROXY TCP4 192.0.2.7\r\n".to_vec(),
        [&binary("192.0.2.7:1", "192.0.2.8:2")[..12], b"\x31\x11\0\x0c"].concat(),
        [b"P".as_slice(), &[b'x'; 200]].concat(),
    ];
    for bytes in &wrong {
        let mut client = edge.client();
        client.send(bytes);
        assert!(client.rest().is_empty(), "{bytes:?}");
    }
    // The first and the last begin with something else.
    eventually("each is counted", || faults(&edge) == [2, wrong.len() as u64 - 2, 0]);
    assert_eq!((server.count(), edge.threads.shared.threads[0].0.rejected[0].get()), (0, 0), "they are no requests");
    let mut twice = edge.client();
    twice.send([NAMED, NAMED, GET].concat().as_bytes());
    assert_eq!(twice.answer().status(), 400, "the second one is no request");
}

#[test]
fn a_header_that_takes_too_long_ends_the_connection() {
    let server = Server::named("web");
    let mut quick = accepting(&[server.address]);
    quick.listeners[0].limits.head_timeout_ms = 150;
    let edge = Edge::start(quick);
    let mut client = edge.client();
    client.send(b"PROXY TCP4 ");
    assert!(client.rest().is_empty());
    eventually("it is counted", || faults(&edge) == [0, 0, 1]);
}

#[test]
fn what_breaks_off_in_its_header_is_counted_and_a_check_that_only_connects_is_not() {
    let server = Server::echo();
    let edge = Edge::start(accepting(&[server.address]));
    drop(edge.client());
    let mut cut = edge.client();
    cut.send(b"PROXY TCP4 192.0");
    drop(cut);
    eventually("the second one is counted", || faults(&edge) == [0, 1, 0]);
    assert_eq!(forwarded_for(&edge, [NAMED, GET].concat().as_bytes()), "192.0.2.7");
    assert_eq!(faults(&edge), [0, 1, 0]);
}

#[test]
fn elsewhere_there_is_no_header() {
    let server = Server::echo();
    let mut others = accepting(&[server.address]);
    others.listeners[0].trusted = vec![network("192.0.2.0", 24)];
    let edge = Edge::start(others);
    assert_eq!(forwarded_for(&edge, GET.as_bytes()), "127.0.0.1");
    let mut liar = edge.client();
    liar.send([NAMED, GET].concat().as_bytes());
    assert_eq!(liar.answer().status(), 400);
}

#[test]
fn the_named_address_decides_where_it_is_hashed_to() {
    let (one, two) = (Server::named("one"), Server::named("two"));
    let mut hashed = accepting(&[one.address, two.address]);
    hashed.services[0].balance = Balance::IpHash;
    let edge = Edge::start(hashed);
    let named = |last: u8| {
        let mut client = edge.client();
        client.send(format!("PROXY TCP4 192.0.2.{last} 198.51.100.1 4711 443\r\n{GET}").as_bytes());
        client.answer().text()
    };
    let all: Vec<String> = (1..=32).map(named).collect();
    assert!(all.contains(&"one".to_owned()) && all.contains(&"two".to_owned()));
    assert!((1..=8).all(|last| named(last) == all[usize::from(last) - 1]));
}

/// A server of HTTP behind a PROXY header: says who it was told the client is, and how many such connections there were.
fn told() -> (Server, Arc<Mutex<Vec<Says>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&told);
    let server = Server::start(move |mut script| {
        let Some(says) = introduced(&mut script.client) else { return };
        notes.lock().unwrap().push(says);
        while script.request().is_some() {
            let body = format!("{says:?}");
            script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    (server, told)
}

fn introduced(client: &mut Client) -> Option<Says> {
    let mut bytes = Vec::new();
    loop {
        bytes.extend(client.take(1)?);
        if let Some(header) = parse(&bytes).unwrap() {
            return Some(header.says);
        }
    }
}

#[test]
fn instances_are_told_and_each_client_has_connections_of_its_own() {
    for version in [ProxyHeader::V1, ProxyHeader::V2] {
        let (server, told) = told();
        let mut sends = snapshot(&[server.address]);
        sends.services[0].wire.sends_proxy = Some(version);
        let edge = Edge::start(sends);
        let (mut one, mut two) = (edge.client(), edge.client());
        for _ in 0..3 {
            for client in [&mut one, &mut two] {
                client.send(GET.as_bytes());
                let says = client.answer().text();
                let port = client.stream.local_addr().unwrap().port();
                assert!(says.contains(&format!("source: 127.0.0.1:{port}")), "{says}");
                assert!(says.contains(&format!("destination: {}", edge.address)), "{says}");
            }
        }
        assert_eq!(told.lock().unwrap().len(), 2, "one for each client, kept between its requests");
    }
}

#[test]
fn a_connection_that_names_a_client_ends_soon_after_it() {
    let ended = Arc::new(Mutex::new(false));
    let note = Arc::clone(&ended);
    let server = Server::start(move |mut script| {
        introduced(&mut script.client);
        while script.request().is_some() {
            script.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        *note.lock().unwrap() = true;
    });
    let mut sends = snapshot(&[server.address]);
    sends.services[0].wire.sends_proxy = Some(ProxyHeader::V2);
    let edge = Edge::start(sends);
    let mut client = edge.client();
    client.send(GET.as_bytes());
    assert_eq!(client.answer().text(), "ok");
    assert!(!*ended.lock().unwrap());
    drop(client);
    // Whatever keeps the edge awake looks at the connections once a second.
    let _other = edge.client();
    eventually("its connection is closed", || *ended.lock().unwrap());
}

#[test]
fn who_was_named_to_us_is_named_to_instances() {
    let (server, told) = told();
    let mut both = accepting(&[server.address]);
    both.services[0].wire.sends_proxy = Some(ProxyHeader::V2);
    let edge = Edge::start(both);
    let mut client = edge.client();
    client.send([NAMED, GET].concat().as_bytes());
    assert_eq!(client.answer().status(), 200);
    let (source, destination) = ("192.0.2.7:4711".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
    assert_eq!(*told.lock().unwrap(), [Says::Client { source, destination }]);
}

#[test]
fn tcp_listeners_take_and_send_them_too() {
    let server = Server::start(|mut script| {
        let Some(says) = introduced(&mut script.client) else { return };
        script.send(format!("{says:?}\n"));
        let bytes = script.client.some();
        script.send(bytes);
    });
    let mut both = accepting(&[server.address]);
    both.listeners[0].protocol = Protocol::Tcp;
    both.listeners[0].service = Some("app".into());
    both.services[0].wire.sends_proxy = Some(ProxyHeader::V1);
    both.routes.clear();
    let edge = Edge::start(both);
    let mut client = edge.client();
    client.send([NAMED, "and more"].concat().as_bytes());
    let heard = String::from_utf8(client.rest()).unwrap();
    assert_eq!(heard, "Client { source: 192.0.2.7:4711, destination: 198.51.100.1:443 }\nand more");
    let mut wrong = edge.client();
    wrong.send(b"no header at all");
    assert!(wrong.rest().is_empty());
}

#[test]
fn a_listener_without_it_takes_a_header_for_what_it_is() {
    let server = Server::named("web");
    let mut plain = snapshot(&[server.address]);
    plain.listeners[0].trusted = vec![network("127.0.0.0", 8)];
    let edge = Edge::start(plain);
    let mut client = edge.client();
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.send([NAMED, GET].concat().as_bytes());
    assert_eq!(client.answer().status(), 400);
}

#[test]
fn what_changed_while_a_header_was_awaited_counts() {
    let (one, two) = (Server::named("one"), Server::named("two"));
    let mut before = accepting(&[one.address]);
    before.listeners[0].protocol = Protocol::Tcp;
    before.listeners[0].service = Some("app".into());
    let mut edge = Edge::start(before.clone());
    let mut client = edge.client();
    client.send(&NAMED.as_bytes()[..10]);
    eventually("it is there", || edge.threads.shared.threads[0].0.connections.get() == 1);
    let mut after = Snapshot { version: 2, ..before };
    after.services.push(service("other", &[two.address]));
    after.listeners[0].service = Some("other".into());
    edge.apply(after);
    let instance = Arc::clone(&edge.view.services[1].instances[0].shared);
    instance.set_health(Health::Healthy);
    edge.threads.tell(|| ToThread::Changed(Arc::clone(&instance)));
    client.send(&[&NAMED.as_bytes()[10..], GET.as_bytes()].concat());
    assert_eq!(client.answer().text(), "two");
}
