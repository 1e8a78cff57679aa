//! TCP listeners: a connection is led to an instance by the rules of requests, and then bytes pass as they come.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    io::{ErrorKind, Read},
    net::{Shutdown, SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use common::{Client, Edge, Server, eventually, nowhere, service, snapshot};
use evenkeel_core::{
    snapshot::{Duty, Page, Protocol, Snapshot},
    status::Health,
};
use evenkeel_edge::messages::{Notice, ToThread};

/// A stack whose listener leads every connection to these instances.
fn tcp(instances: &[SocketAddr]) -> Snapshot {
    let mut snapshot = snapshot(instances);
    snapshot.listeners[0].protocol = Protocol::Tcp;
    snapshot.listeners[0].service = Some("app".into());
    snapshot.routes.clear();
    snapshot
}

/// Says its name first, as servers of mail and databases do, then says back what it hears, and "bye" at its end.
fn greeter(name: &'static str) -> Server {
    Server::start(move |mut script| {
        script.send(name);
        loop {
            let bytes = script.client.some();
            if bytes.is_empty() {
                break;
            }
            script.send(bytes);
        }
        script.send("bye");
    })
}

fn greeting(client: &mut Client) -> String {
    String::from_utf8(client.take(3).unwrap()).unwrap()
}

#[test]
fn bytes_pass_both_ways_whoever_speaks_first_and_each_half_ends_alone() {
    let server = greeter("one");
    let edge = Edge::start(tcp(&[server.address]));
    let mut client = edge.client();
    assert_eq!(greeting(&mut client), "one");
    client.send(b"GET / HTTP/1.1\r\n\x00\xff");
    assert_eq!(client.take(18).unwrap(), b"GET / HTTP/1.1\r\n\x00\xff");
    let instance = edge.instance(0);
    assert_eq!(instance.sum(|cell| &cell.in_flight), 1);
    assert_eq!(instance.quiet_since_ms(), None, "what it does not say speaks against nobody");
    eventually("bytes are counted as they pass", || edge.sum(|cell| &cell.received_bytes) == 18);
    client.finish_sending();
    assert_eq!(client.rest(), b"bye", "its other half lives on");
    eventually("it is over", || instance.sum(|cell| &cell.in_flight) == 0);
    eventually("it is counted", || edge.sum(|cell| &cell.connections) == 1);
    assert_eq!((edge.sum(|cell| &cell.received_bytes), edge.sum(|cell| &cell.sent_bytes)), (18, 24));
    assert_eq!((edge.sum(|cell| &cell.aborted), edge.sum(|cell| &cell.cancelled)), (0, 0));
    assert_eq!((instance.sum(|cell| &cell.answered), instance.sum(|cell| &cell.failed)), (1, 0));
}

#[test]
fn connections_are_shared_out_and_counted_while_they_last() {
    let (one, two) = (greeter("one"), greeter("two"));
    let edge = Edge::start(tcp(&[one.address, two.address]));
    let mut clients: Vec<Client> = (0..6).map(|_| edge.client()).collect();
    let names: Vec<String> = clients.iter_mut().map(greeting).collect();
    assert_eq!(names.iter().filter(|name| *name == "one").count(), 3, "{names:?}");
    for place in 0..2 {
        assert_eq!(edge.instance(place).sum(|cell| &cell.in_flight), 3);
    }
}

#[test]
fn while_connecting_fails_others_are_tried_and_nobody_notices() {
    let server = greeter("one");
    let mut edge = Edge::start(tcp(&[nowhere(), server.address, nowhere()]));
    for _ in 0..4 {
        assert_eq!(greeting(&mut edge.client()), "one");
    }
    assert!(edge.sum(|cell| &cell.retries) >= 1);
    assert!(edge.instance(0).sum(|cell| &cell.failed) + edge.instance(2).sum(|cell| &cell.failed) >= 1);
    assert!(edge.notices().iter().any(|notice| matches!(notice, Notice::Failed { .. })), "ejection hears of it");
    assert_eq!(edge.sum(|cell| &cell.aborted), 0);
}

#[test]
fn a_connection_is_held_until_somebody_is_healthy() {
    let server = greeter("one");
    let edge = Edge::start_unknown(tcp(&[server.address]));
    let mut client = edge.client();
    client.send(b"early");
    eventually("it waits", || edge.sum(|cell| &cell.held) == 1);
    edge.set_health(0, Health::Healthy);
    assert_eq!(greeting(&mut client), "one");
    assert_eq!(client.take(5).unwrap(), b"early");
}

#[test]
fn who_is_held_for_too_long_is_reset() {
    let mut bounded = tcp(&[nowhere()]);
    bounded.services[0].hold.max_ms = 100;
    let edge = Edge::start(bounded.clone());
    let reset = |edge: &Edge| {
        let read = edge.client().stream.read(&mut [0u8; 1]);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    };
    reset(&edge);
    eventually("it is counted", || edge.sum(|cell| &cell.aborted) == 1);
    let edge = Edge::start_unknown(bounded);
    reset(&edge);
}

#[test]
fn the_fallback_answers_and_a_page_does_not() {
    let server = greeter("two");
    let mut falls = tcp(&[nowhere()]);
    falls.services[0].fallback = Some("other".into());
    falls.services.push(service("other", &[server.address]));
    let edge = Edge::start(falls);
    edge.set_health(0, Health::Unhealthy);
    eventually("the fallback answers", || {
        let mut client = edge.client();
        client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.take(3).is_some_and(|name| name == b"two")
    });
    let mut paged = tcp(&[]);
    paged.services[0].page = Some(Page { status: 503, content_type: "text/plain".into(), body: "sorry".into() });
    let read = Edge::start(paged).client().stream.read(&mut [0u8; 1]);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn whoever_resets_the_other_side_hears_it_and_only_an_instance_is_blamed() {
    let server = Server::start(|mut script| {
        script.client.take(4);
        script.reset();
    });
    let edge = Edge::start(tcp(&[server.address]));
    let mut client = edge.client();
    client.send(b"ping");
    assert_eq!(client.stream.read(&mut [0u8; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let instance = edge.instance(0);
    eventually("it is counted", || edge.sum(|cell| &cell.aborted) == 1);
    assert_eq!((instance.sum(|cell| &cell.failed), instance.sum(|cell| &cell.failed_in_row)), (1, 1));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::start(tcp(&[listener.local_addr().unwrap()]));
    let client = edge.client();
    let (mut seen, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(seen.read(&mut [0u8; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    eventually("it is counted", || edge.sum(|cell| &cell.cancelled) == 1);
    assert_eq!(edge.instance(0).sum(|cell| &cell.failed), 0);
}

#[test]
fn silence_ends_a_connection_after_its_bound_and_blames_nobody() {
    let server = greeter("one");
    let mut bounded = tcp(&[server.address]);
    bounded.services[0].limits.tunnel_idle_ms = 1_000;
    let edge = Edge::start(bounded);
    let mut client = edge.client();
    assert_eq!(greeting(&mut client), "one");
    assert_eq!(client.rest(), b"");
    eventually("it is counted", || edge.sum(|cell| &cell.connections) == 1);
    assert_eq!(edge.instance(0).sum(|cell| &cell.failed), 0);
}

#[test]
fn an_instance_that_drains_keeps_its_connections_and_gets_no_more() {
    let (one, two) = (greeter("one"), greeter("two"));
    let both = tcp(&[one.address, two.address]);
    let mut edge = Edge::start(both.clone());
    let mut clients: Vec<Client> = (0..2).map(|_| edge.client()).collect();
    let names: Vec<String> = clients.iter_mut().map(greeting).collect();
    let mut draining = both;
    draining.version = 2;
    draining.services[0].instances[0].duty = Duty::Drain;
    edge.apply(draining);
    for _ in 0..3 {
        assert_eq!(greeting(&mut edge.client()), "two");
    }
    for (client, name) in clients.iter_mut().zip(names) {
        client.send(name.as_bytes());
        assert_eq!(client.take(3).unwrap(), name.as_bytes());
    }
}

#[test]
fn a_reader_that_waits_stops_its_writer_and_nothing_is_lost() {
    const LENGTH: usize = 20 << 20;
    let server = greeter("one");
    let edge = Edge::start(tcp(&[server.address]));
    let mut client = edge.client();
    assert_eq!(greeting(&mut client), "one");
    let mut writer = client.stream.try_clone().unwrap();
    let pattern = |at: usize| u8::try_from((at * 7 + at / 251) % 256).unwrap();
    let all: Vec<u8> = (0..LENGTH).map(pattern).collect();
    let sent = all.clone();
    let thread = thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let back = client.rest();
    thread.join().unwrap();
    assert!(back[..LENGTH] == all && &back[LENGTH..] == b"bye");
}

#[test]
fn more_connections_than_the_listener_may_have_wait() {
    let server = greeter("one");
    let mut bounded = tcp(&[server.address]);
    bounded.listeners[0].limits.connections = 1;
    let edge = Edge::start(bounded);
    let mut first = edge.client();
    assert_eq!(greeting(&mut first), "one");
    let mut second = edge.client();
    second.stream.set_nonblocking(true).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(second.stream.read(&mut [0u8; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    second.stream.set_nonblocking(false).unwrap();
    drop(first);
    assert_eq!(greeting(&mut second), "one");
}

#[test]
fn requests_and_connections_lead_to_one_service_each_by_its_listener() {
    let server = Server::named("web");
    let edge = Edge::start(snapshot(&[server.address]));
    assert_eq!(edge.get("/").text(), "web");
    let mut unknown = tcp(&[server.address]);
    unknown.listeners[0].service = Some("nobody".into());
    assert!(evenkeel_edge::view::Registry::new(1).compile(&unknown).is_err());
}

/// How many bytes [`breaks_off`] says.
const LAST_WORDS: usize = 1 << 20;

/// Says much, and resets its connection once the client has said "end".
fn breaks_off() -> Server {
    Server::start(|mut script| {
        script.send(vec![b'x'; LAST_WORDS]);
        script.client.take(3);
        script.reset();
    })
}

#[test]
fn what_an_instance_said_before_it_broke_off_arrives() {
    let server = breaks_off();
    let edge = Edge::start(tcp(&[server.address]));
    let mut client = edge.client();
    // The client reads nothing yet, so that a part of it is still on the way.
    eventually("all is on its way to the client", || edge.sum(|cell| &cell.sent_bytes) == LAST_WORDS as u64);
    client.send(b"end");
    eventually("the instance has broken off", || edge.instance(0).sum(|cell| &cell.failed) == 1);
    thread::sleep(Duration::from_millis(50));
    let mut came = vec![0; LAST_WORDS];
    client.stream.read_exact(&mut came).expect("what was said last");
    assert_eq!(client.stream.read(&mut [0u8; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset, "not an orderly end");
    eventually("it is over", || edge.instance(0).sum(|cell| &cell.in_flight) == 0);
}

#[test]
fn who_takes_nothing_of_what_was_said_last_is_not_waited_for() {
    let server = breaks_off();
    let edge = Edge::start(tcp(&[server.address]));
    let mut client = edge.client();
    eventually("all is on its way to the client", || edge.sum(|cell| &cell.sent_bytes) == LAST_WORDS as u64);
    client.send(b"end");
    let cell = &edge.threads.shared.threads[0].0;
    eventually("it is given up", || cell.connections.get() == 0);
}

#[test]
fn a_connection_of_requests_ends_where_its_listener_became_one_of_tcp() {
    let (web, db) = (Server::named("web"), greeter("one"));
    let requests = snapshot(&[web.address]);
    let mut edge = Edge::start(requests.clone());
    let mut kept = edge.client();
    kept.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(kept.answer().text(), "web");
    let mut connections = requests.clone();
    connections.version = 2;
    connections.listeners[0].protocol = Protocol::Tcp;
    connections.listeners[0].service = Some("db".into());
    connections.services.push(service("db", &[db.address]));
    edge.apply(connections);
    let instance = Arc::clone(&edge.view.services[1].instances[0].shared);
    instance.set_health(Health::Healthy);
    edge.threads.tell(|| ToThread::Changed(Arc::clone(&instance)));
    kept.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(kept.is_closed(), "its routes are for other listeners");
    let mut of_tcp = edge.client();
    assert_eq!(greeting(&mut of_tcp), "one");
    edge.apply(Snapshot { version: 3, ..requests });
    assert_eq!(edge.get("/").text(), "web");
    of_tcp.send(b"still");
    assert_eq!(of_tcp.take(5).unwrap(), b"still", "what stands goes on");
    // Nor does a listener that is gone end it.
    let mut gone = edge.snapshot.clone();
    gone.version = 4;
    gone.listeners.clear();
    edge.apply(gone);
    of_tcp.send(b"there");
    assert_eq!(of_tcp.take(5).unwrap(), b"there");
}
