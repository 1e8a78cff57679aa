//! What HTTP/1 asks of a server in front of others, beyond bytes (RFC 9110, RFC 9112): other protocols, expectations,
//! trailers, versions, ends of connections, dates.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    io::{Read, Write},
    net::Shutdown,
    time::Duration,
};

use common::{Client, Edge, Server, eventually, snapshot};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket, irc/6.9\r\n\r\n";

fn agree(protocol: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n")
}

#[test]
fn only_a_protocol_that_was_asked_for_is_switched_to() {
    for (protocol, status) in [
        ("websocket", 101),
        ("WebSocket", 101),
        ("IRC/6.9", 101),
        ("irc/6.9, websocket", 101),
        ("irc", 502),
        ("websocket/13", 502),
        ("mqtt", 502),
        ("websocket, mqtt", 502),
        ("h2c", 502),
    ] {
        let edge = Edge::start(snapshot(&[Server::answering(agree(protocol)).address]));
        assert_eq!(edge.ask(ASK).status(), status, "{protocol}");
    }
}

/// An instance that agrees, waits until it has heard something, and then does this.
fn closing(how: impl Fn(&mut common::Script) + Send + Sync + 'static) -> Server {
    Server::start(move |mut script| {
        script.request();
        script.send(agree("websocket"));
        let mut byte = [0];
        script.client.stream.read_exact(&mut byte).unwrap();
        how(&mut script);
    })
}

#[test]
fn the_last_words_of_an_instance_arrive_although_the_client_still_talks() {
    const WORDS: usize = 200_000;
    let last = || vec![b'w'; WORDS];
    let servers = [
        // It closes while bytes for it are unread, which resets its connection.
        closing(move |script| {
            script.send(last());
            std::thread::sleep(Duration::from_millis(50));
        }),
        // It reads on for a while and closes in order.
        closing(move |script| {
            script.send(last());
            script.client.stream.shutdown(Shutdown::Write).unwrap();
            let mut part = [0; 4096];
            for _ in 0..4 {
                let _ = script.client.stream.read(&mut part);
            }
        }),
    ];
    for server in servers {
        let edge = Edge::start(snapshot(&[server.address]));
        let mut client = edge.client();
        client.send(ASK.as_bytes());
        assert_eq!(client.answer().status(), 101);
        let mut words = client.stream.try_clone().unwrap();
        let talking = std::thread::spawn(move || {
            while words.write_all(&[b'c'; 1000]).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(client.take(WORDS), Some(last()), "every one of them");
        drop(client.rest());
        client.stream.shutdown(Shutdown::Both).ok();
        talking.join().unwrap();
        let instance = edge.instance(0);
        eventually("it is over", || instance.sum(|cell| &cell.in_flight) == 0);
        assert_eq!(instance.sum(|cell| &cell.failed), 0);
    }
}

const EXPECT: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

/// Reads a head byte by byte, so that nothing behind it is taken.
fn head(client: &mut Client) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn an_expectation_may_be_answered_without_the_body() {
    let server = Server::start(|mut script| {
        assert!(head(&mut script.client).contains("\r\nExpect: 100-continue\r\n"));
        script.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
        // Nothing more may come over this connection: whatever did would be the body.
        assert!(script.client.is_closed());
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(EXPECT.as_bytes());
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str(), answer.field("connection")), (417, "no", Some("close")));
    client.finish_sending();
    assert!(client.is_closed());
}

#[test]
fn a_client_need_not_wait_for_its_100() {
    let server = Server::start(|mut script| {
        head(&mut script.client);
        let body = script.client.take(5).unwrap();
        script.send([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".as_slice(), &body].concat());
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(EXPECT.as_bytes());
    std::thread::sleep(Duration::from_millis(20));
    client.send(b"hello");
    assert_eq!(client.answer().text(), "hello");
}

#[test]
fn trailers_pass_both_ways() {
    let server = Server::start(|mut script| {
        let request = script.request().unwrap();
        assert_eq!((request.field("te"), request.field("trailer")), (Some("trailers"), Some("X-Sum")));
        script.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Server-Timing\r\n\r\n\
             2\r\nok\r\n0\r\nServer-Timing: db;dur=5\r\n\r\n",
        );
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
          Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!((answer.text().as_str(), answer.field("trailer")), ("ok", Some("Server-Timing")));
    assert!(answer.raw.ends_with(b"0\r\nServer-Timing: db;dur=5\r\n\r\n"), "{:?}", answer.raw);
    let request = &server.requests()[0];
    assert!(request.raw.ends_with(b"0\r\nX-Sum: 7\r\n\r\n"), "{:?}", request.raw);
}

#[test]
fn a_forbidden_trailer_field_of_an_answer_on_its_way_cuts_it_off() {
    // More than is put together first, so that its head has gone out.
    let chunk = format!("20000\r\n{}\r\n", "x".repeat(0x20000));
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\nContent-Length: 5\r\n\r\n");
    let edge = Edge::start(snapshot(&[Server::answering(answer).address]));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.message(false).is_none(), "no whole answer");
}

#[test]
fn an_answer_says_when_it_was_given() {
    let own = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n");
    let edge = Edge::start(snapshot(&[own.address]));
    assert_eq!(edge.get("/").fields("date"), ["Sun, 06 Nov 1994 08:49:37 GMT"], "an instance's own is left alone");
    let edge = Edge::start(snapshot(&[Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").address]));
    for answer in [edge.get("/"), edge.ask("GET / HTTP/1.1\r\n\r\n")] {
        let dates = answer.fields("date");
        assert!(matches!(dates.as_slice(), [one] if one.len() == 29 && one.ends_with(" GMT")), "{}", answer.head);
    }
    for untouched in ["server", "via"] {
        assert!(edge.get("/").field(untouched).is_none(), "the edge says nothing of itself");
    }
}

#[test]
fn server_and_via_of_others_pass() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServer: x/1\r\nVia: 1.1 inner\r\n\r\n");
    let edge = Edge::start(snapshot(&[server.address]));
    let answer = edge.ask("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 outer\r\n\r\n");
    assert_eq!((answer.field("server"), answer.field("via")), (Some("x/1"), Some("1.1 inner")));
    assert_eq!(server.requests()[0].field("via"), Some("1.0 outer"));
}

#[test]
fn a_slow_body_is_refused_where_its_rate_is_bounded() {
    let server = Server::named("a");
    let mut bounded = snapshot(&[server.address]);
    let limits = &mut bounded.listeners[0].limits;
    (limits.min_rate_bytes_per_s, limits.min_rate_grace_ms) = (1_000_000, 700);
    let edge = Edge::start(bounded);
    // By length and small, by length and large, in chunks: each in the way in which it is read.
    for (start, piece) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", "x"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", "x"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
    ] {
        let mut client = edge.client();
        client.send(start.as_bytes());
        let mut writer = client.stream.try_clone().unwrap();
        // Never idle for long, and yet far too slow.
        let writing = std::thread::spawn(move || {
            for _ in 0..500 {
                if writer.write_all(piece.as_bytes()).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        assert_eq!(client.answer().status(), 408, "{start:?}");
        client.stream.shutdown(Shutdown::Both).ok();
        writing.join().unwrap();
    }
    assert_eq!(server.count(), 0);
    let body = "x".repeat(100_000);
    let quick = edge.ask(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(quick.status(), 200);
}

/// Neither one that waits for the 100 it asked for, nor one whose instance was slow to take what had come.
#[test]
fn who_waits_for_the_instance_is_not_slow() {
    let server = Server::start(|mut script| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(script.client.take(1).unwrap());
        }
        std::thread::sleep(Duration::from_millis(1_800));
        script.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(script.client.take(20).unwrap(), [b'x'; 20]);
        script.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let mut bounded = snapshot(&[server.address]);
    let limits = &mut bounded.listeners[0].limits;
    (limits.min_rate_bytes_per_s, limits.min_rate_grace_ms) = (1000, 1_500);
    let edge = Edge::start(bounded);
    let mut client = edge.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().status(), 100);
    client.send(&[b'x'; 10]);
    std::thread::sleep(Duration::from_millis(50));
    client.send(&[b'x'; 10]);
    assert_eq!(client.answer().status(), 200, "the time until the 100 was not the client's");
}

#[test]
fn versions_are_spoken_with_each_side_as_it_can() {
    // Of HTTP/1.0, without a length, to a client of HTTP/1.1: it ends with the connection.
    let old = Server::start(|mut script| {
        script.request();
        script.send("HTTP/1.0 200 OK\r\n\r\nold");
    });
    let edge = Edge::start(snapshot(&[old.address]));
    let answer = edge.get("/");
    assert_eq!((answer.text().as_str(), answer.field("connection")), ("old", Some("close")));
    assert!(answer.head.starts_with("HTTP/1.1 200"), "an answer has the version of its sender");
    let request = &old.requests()[0];
    assert!(request.head.starts_with("GET / HTTP/1.1"), "and so has a request");
    // HEAD: everything but the body, over and over.
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    for _ in 0..3 {
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.answer_to_head();
        assert_eq!((head.status(), head.field("content-length")), (200, Some("9")));
    }
    client.send(b"HEAD / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer_to_head().field("connection"), Some("close"));
    assert!(client.is_closed());
}
