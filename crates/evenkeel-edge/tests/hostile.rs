//! What is ambiguous, malformed, too large or too slow is refused with the right status, at a bounded cost, and
//! never reaches an instance.

mod common;

use std::time::Duration;

use common::{Edge, Server, eventually, snapshot};

/// What a client sends, and the status it gets. Every connection must be closed after it.
const REFUSED: &[(&str, u16)] = &[
    // Framing that could be read in more than one way.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    // Chunks.
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nhello\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n", 400),
    // Lines and fields.
    ("GET / HTTP/1.1\nHost: a\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
    ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n X: b\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    ("\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    // Request line, host and version.
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET /\r\n\r\n", 400),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    ("GET / HTTQ/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: something\r\n\r\nx", 417),
    ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
];

#[test]
fn what_is_ambiguous_or_malformed_is_refused() {
    let server = Server::named("a");
    let mut edge = Edge::start(snapshot(&[server.address]));
    for &(request, status) in REFUSED {
        let mut client = edge.client();
        client.send(request.as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status(), answer.field("connection")), (status, Some("close")), "{request:?}");
        let id = answer.field("x-request-id").unwrap();
        assert!(answer.text().ends_with(&format!("request {id}\n")), "{}", answer.text());
        client.finish_sending();
        assert!(client.is_closed(), "{request:?}");
    }
    // The same in pieces: the verdict must not depend on where the network cuts.
    for &(request, status) in REFUSED {
        let mut client = edge.client();
        for byte in request.as_bytes() {
            // The edge may have refused and closed before the last byte.
            if std::io::Write::write_all(&mut client.stream, &[*byte]).is_err() {
                break;
            }
        }
        assert_eq!(client.answer().status(), status, "{request:?}");
    }
    assert_eq!(server.count(), 0);
    let counted: u64 = edge.threads.shared.threads[0].0.rejected.iter().map(evenkeel_edge::shared::Count::get).sum();
    assert_eq!(counted, 2 * REFUSED.len() as u64, "each is counted by its status");
    assert_eq!(edge.get("/").status(), 200);
    assert!(edge.notices().iter().any(|n| matches!(n, evenkeel_edge::messages::Notice::Rejected { .. })));
}

#[test]
fn ambiguous_answers_become_502() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
    ];
    for answer in answers {
        let server = Server::answering(answer);
        let edge = Edge::start(snapshot(&[server.address]));
        let seen = edge.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((seen.status(), server.count()), (502, 1), "{answer:?}");
    }
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let edge = Edge::start(snapshot(&[Server::answering(huge).address]));
    assert_eq!(edge.get("/").status(), 502);
}

#[test]
fn interim_answers_without_end_are_bounded() {
    let server = Server::start(|mut script| {
        let head = std::io::Read::read(&mut script.client.stream, &mut [0; 1024]);
        assert!(head.is_ok_and(|bytes| bytes > 0));
        for _ in 0..10_000 {
            script.send("HTTP/1.1 102 Processing\r\n\r\n");
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    ] {
        let mut client = edge.client();
        client.send(request.as_bytes());
        let mut interim = 0;
        let status = loop {
            match client.answer().status() {
                102 => interim += 1,
                status => break status,
            }
        };
        assert_eq!(status, 502, "{request:?}");
        assert!(interim < 1_000, "{interim} interim answers after {request:?}");
    }
}

#[test]
fn sizes_are_bounded() {
    let server = Server::named("a");
    let mut small = snapshot(&[server.address]);
    small.listeners[0].limits.body_bytes = 1000;
    small.listeners[0].limits.headers = 20;
    let edge = Edge::start(small);
    let long = "x".repeat(20_000);
    let many = "X-Many: y\r\n".repeat(50);
    let chunked = format!("400\r\n{}\r\n0\r\n\r\n", "x".repeat(1024));
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n".to_owned(), 413),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"), 413),
    ] {
        assert_eq!(edge.ask(&request).status(), status, "{}", &request[..40]);
    }
    assert_eq!(server.count(), 0);
    // Counted while it streams: the instance has seen its beginning, but never a whole request.
    let mut client = edge.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    std::thread::sleep(Duration::from_millis(20));
    client.send(chunked.as_bytes());
    assert_eq!((client.answer().status(), server.count()), (413, 0));
}

#[test]
fn slow_clients_are_bounded() {
    let server = Server::named("a");
    let mut hasty = snapshot(&[server.address]);
    let limits = &mut hasty.listeners[0].limits;
    // Short for who is slow, and long for a test whose machine is busy.
    (limits.head_timeout_ms, limits.body_idle_ms, limits.keep_alive_ms) = (500, 500, 700);
    let edge = Edge::start(hasty);
    for slow in [
        "GET / HTTP/1.1\r\nHos",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\nab",
    ] {
        assert_eq!(edge.ask(slow).status(), 408, "{slow:?}");
    }
    // One byte now and then does not extend the time for a head.
    let mut client = edge.client();
    for byte in b"GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
        if std::io::Write::write_all(&mut client.stream, &[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.answer().status(), 408);
    // An idle connection ends without a word.
    let mut idle = edge.client();
    idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.answer().status(), 200);
    assert!(idle.is_closed());
    assert_eq!(server.count(), 1);
}

#[test]
fn a_reader_that_takes_nothing_is_cut_off() {
    let server = Server::start(|mut script| {
        script.request();
        script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 20));
        for _ in 0..1024 {
            script.send(vec![b'x'; 1 << 16]);
        }
    });
    let mut hasty = snapshot(&[server.address]);
    hasty.listeners[0].limits.body_idle_ms = 100;
    let edge = Edge::start(hasty);
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is cut off and counted", || edge.sum(|cell| &cell.cancelled) == 1);
    eventually("its connection is closed", || edge.threads.shared.threads[0].0.connections.get() == 0);
    assert_eq!(edge.instance(0).in_flight.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn connections_of_a_listener_are_bounded() {
    let server = Server::named("a");
    let mut few = snapshot(&[server.address]);
    few.listeners[0].limits.connections = 2;
    let edge = Edge::start(few);
    let (mut first, mut second, mut third) = (edge.client(), edge.client(), edge.client());
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for client in [&mut first, &mut second] {
        client.send(get);
        assert_eq!(client.answer().status(), 200);
    }
    third.send(get);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(server.count(), 2, "the third one waits in the kernel's queue");
    drop(first);
    assert_eq!(third.answer().status(), 200);
}

#[test]
fn a_bound_on_connections_that_is_raised_lets_in_who_waits() {
    let server = Server::named("a");
    let mut few = snapshot(&[server.address]);
    (few.listeners[0].limits.connections, few.listeners[0].limits.keep_alive_ms) = (1, 60_000);
    let mut edge = Edge::start(few.clone());
    let (mut first, mut second) = (edge.client(), edge.client());
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    first.send(get);
    assert_eq!(first.answer().status(), 200);
    second.send(get);
    few.version = 2;
    few.listeners[0].limits.connections = 2;
    edge.apply(few);
    assert_eq!(second.answer().status(), 200);
}

#[test]
fn nobody_is_routed_where_nothing_matches() {
    let server = Server::named("a");
    let mut routed = snapshot(&[server.address]);
    routed.routes[0].host = Some("shop.example".into());
    let edge = Edge::start(routed);
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: other\r\n\r\nHEAD / HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(client.answer().status(), 404);
    assert_eq!(client.answer_to_head().status(), 404);
    client.send(b"GET / HTTP/1.1\r\nHost: SHOP.example:8080\r\n\r\n");
    assert_eq!(client.answer().text(), "a");
}

#[test]
fn refused_clients_do_no_harm_to_others() {
    let server = Server::named("a");
    let edge = Edge::start(snapshot(&[server.address]));
    std::thread::scope(|scope| {
        for n in 0..4 {
            let edge = &edge;
            scope.spawn(move || {
                for &(request, _) in REFUSED.iter().skip(n) {
                    let mut client = edge.client();
                    client.send(request.as_bytes());
                }
            });
        }
        let mut good = edge.client();
        for _ in 0..200 {
            good.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(good.answer().text(), "a");
        }
    });
    eventually("nothing is left open", || edge.threads.shared.threads[0].0.connections.get() == 0);
}
