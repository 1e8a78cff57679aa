//! Upgraded connections: WebSocket and whatever else speaks over HTTP's connection after a 101.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    sync::mpsc,
    thread,
    time::Duration,
};

use common::{Client, Edge, Message, Server, eventually, snapshot};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Agrees, and then says back what it hears until that ends.
fn echo() -> Server {
    Server::start(|mut script| {
        script.request();
        script.send(AGREE);
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

fn open(edge: &Edge) -> Client {
    let mut client = edge.client();
    client.send(ASK.as_bytes());
    let answer = client.answer();
    assert_eq!(answer.status(), 101, "{}", answer.head);
    client
}

fn exactly(client: &mut Client, count: usize) -> Vec<u8> {
    client.take(count).unwrap()
}

#[test]
fn both_heads_are_passed_on_and_then_bytes() {
    let server = echo();
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    // What a client sends ahead is for the other protocol.
    client.send([ASK.as_bytes(), b"early "].concat().as_slice());
    let answer = client.answer();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.fields("upgrade"), ["websocket"]);
    assert_eq!(answer.fields("connection"), ["upgrade"]);
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(answer.field("content-length").is_none());
    let request = &server.requests()[0];
    assert_eq!(request.fields("upgrade"), ["websocket"]);
    assert_eq!(request.fields("connection"), ["upgrade"]);
    assert_eq!(request.field("sec-websocket-version"), Some("13"));
    assert!(request.field("x-forwarded-for").is_some());
    assert_eq!(exactly(&mut client, 6), b"early ");
    client.send(b"hello");
    assert_eq!(exactly(&mut client, 5), b"hello");
    let instance = edge.instance(0);
    assert_eq!(instance.sum(|cell| &cell.in_flight), 1);
    assert_eq!(instance.quiet_since_ms(), None, "nothing is expected of it");
    client.finish_sending();
    assert_eq!(client.rest(), b"bye", "its other half lives on");
    eventually("it is over", || instance.sum(|cell| &cell.in_flight) == 0);
    eventually("it is counted", || edge.sum(|cell| &cell.responses[0]) == 1);
    assert_eq!((edge.sum(|cell| &cell.aborted), edge.sum(|cell| &cell.cancelled)), (0, 0));
    assert_eq!((edge.sum(|cell| &cell.received_bytes), edge.sum(|cell| &cell.sent_bytes)), (11, 14));
    assert_eq!((instance.sum(|cell| &cell.responses[0]), instance.sum(|cell| &cell.failed)), (1, 0));
}

#[test]
fn the_instance_may_end_its_half_first() {
    let (sender, heard) = mpsc::channel();
    let server = Server::start(move |mut script| {
        script.request();
        script.send([AGREE.as_bytes(), b"first"].concat());
        script.client.stream.shutdown(Shutdown::Write).unwrap();
        sender.send(script.client.rest()).unwrap();
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = open(&edge);
    assert_eq!(client.rest(), b"first");
    client.send(b"second");
    client.finish_sending();
    assert_eq!(heard.recv_timeout(common::PATIENCE).unwrap(), b"second");
}

#[test]
fn much_passes_both_ways_at_once_and_in_order() {
    const LENGTH: usize = 20 << 20;
    let server = echo();
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = open(&edge);
    let mut writer = client.stream.try_clone().unwrap();
    let pattern = |at: usize| u8::try_from((at * 7 + at / 251) % 256).unwrap();
    let thread = thread::spawn(move || {
        let all: Vec<u8> = (0..LENGTH).map(pattern).collect();
        writer.write_all(&all).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    // Reading begins late, so that writers have to wait.
    thread::sleep(Duration::from_millis(100));
    let back = client.rest();
    thread.join().unwrap();
    assert_eq!(back.len(), LENGTH + 3);
    assert!(back[..LENGTH].iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
}

#[test]
fn who_does_not_read_stops_its_writer_and_nothing_else() {
    let (told, tells) = mpsc::channel();
    let server = Server::start(move |mut script| {
        script.request();
        script.send(AGREE);
        script.client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let (chunk, mut sent) = (vec![0; 65_536], 0usize);
        while let Ok(count) = script.client.stream.write(&chunk) {
            sent += count;
        }
        told.send(sent).unwrap();
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let client = open(&edge);
    let sent = tells.recv_timeout(common::PATIENCE).unwrap();
    assert!(sent < 64 << 20, "{sent} bytes were taken for somebody who reads none");
    drop(client);
}

#[test]
fn an_answer_that_refuses_is_an_answer_like_any() {
    let server = Server::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nUpgrade: websocket\r\n\r\nno");
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    for _ in 0..3 {
        client.send(ASK.as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (403, "no"));
        assert!(answer.field("upgrade").is_none());
    }
}

fn heads(edge: &Edge, server: &Server, requests: &[String]) -> Vec<Message> {
    let before = server.count();
    for request in requests {
        assert_eq!(edge.ask(request).status(), 200);
    }
    server.requests().split_off(before)
}

#[test]
fn other_versions_of_http_and_bodies_are_not_upgraded() {
    let server = Server::named("plain");
    let edge = Edge::start(snapshot(&[server.address]));
    let fields = |upgrade: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\nUpgrade: {upgrade}\r\n\r\n"
        )
    };
    let not = [
        fields("h2c"),
        fields("H2C"),
        fields("TLS/1.2, HTTP/2.0"),
        fields("web socket"),
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx"
            .to_owned(),
    ];
    for head in heads(&edge, &server, &not) {
        assert!(head.field("upgrade").is_none() && head.field("connection").is_none(), "{}", head.head);
        assert!(head.field("http2-settings").is_none(), "{}", head.head);
    }
    let some = heads(&edge, &server, &[fields("h2c, websocket")]);
    assert_eq!(some[0].fields("upgrade"), ["websocket"]);
    assert!(some[0].field("http2-settings").is_none());
}

#[test]
fn nobody_asked_for_another_protocol() {
    let server = Server::answering(AGREE);
    let edge = Edge::start(snapshot(&[server.address]));
    assert_eq!(edge.get("/").status(), 502);
    let nameless = Server::answering("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    let edge = Edge::start(snapshot(&[nameless.address]));
    assert_eq!(edge.ask(ASK).status(), 502);
}

#[test]
fn silence_ends_a_tunnel_after_its_bound_and_blames_nobody() {
    let server = echo();
    let mut bounded = snapshot(&[server.address]);
    bounded.services[0].limits.tunnel_idle_ms = 2_000;
    // The bound of an answer is not the bound of a tunnel.
    bounded.services[0].limits.response_timeout_ms = 700;
    bounded.services[0].limits.idle_timeout_ms = 700;
    let mut edge = Edge::start(bounded);
    let mut client = open(&edge);
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(800));
        client.send(b"x");
        assert_eq!(exactly(&mut client, 1), b"x");
    }
    assert!(client.rest().is_empty());
    let instance = edge.instance(0);
    eventually("it is over", || instance.sum(|cell| &cell.in_flight) == 0);
    assert_eq!(instance.sum(|cell| &cell.failed), 0);
    assert!(edge.notices().is_empty());
}

#[test]
fn whoever_cuts_a_tunnel_the_other_side_hears_it_and_nobody_is_blamed() {
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    let server = Server::start(move |mut script| {
        script.request();
        script.send(AGREE);
        receiver.lock().unwrap().recv().unwrap();
        script.reset();
    });
    let mut edge = Edge::start(snapshot(&[server.address]));
    let mut client = open(&edge);
    sender.send(()).unwrap();
    let mut rest = Vec::new();
    assert!(client.stream.read_to_end(&mut rest).is_err(), "a cut is no orderly end");
    let client = open(&edge);
    let linger = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(&client.stream, linger).unwrap();
    drop(client);
    let instance = edge.instance(0);
    eventually("both are over", || instance.sum(|cell| &cell.in_flight) == 0);
    assert_eq!(instance.sum(|cell| &cell.failed), 0);
    assert_eq!(edge.sum(|cell| &cell.retries), 0);
    assert!(edge.notices().is_empty());
}

#[test]
fn a_client_that_leaves_a_stream_of_events_is_noticed_before_the_next_one() {
    for reset in [false, true] {
        let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        let edge = Edge::start(snapshot(&[server.address]));
        let mut client = edge.client();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(exactly(&mut client, 8), b"HTTP/1.1");
        let instance = edge.instance(0);
        assert_eq!(instance.sum(|cell| &cell.in_flight), 1);
        if reset {
            rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        eventually("the instance is told", || instance.sum(|cell| &cell.in_flight) == 0);
        eventually("it is counted", || edge.sum(|cell| &cell.cancelled) == 1);
        assert_eq!(instance.sum(|cell| &cell.failed), 0);
    }
}

/// One frame of RFC 6455 section 5.2, masked as a client must.
fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask = if masked { [0x37, 0xfa, 0x21, 0x3d] } else { [0; 4] };
    let mut bytes = vec![0x80 | opcode];
    let flag = if masked { 0x80 } else { 0 };
    if let Some(length) = u8::try_from(payload.len()).ok().filter(|length| *length < 126) {
        bytes.push(flag | length);
    } else {
        bytes.push(flag | 0x7e);
        bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    }
    if masked {
        bytes.extend_from_slice(&mask);
    }
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Opcode and payload of the next frame.
fn read_frame(stream: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let length = match head[1] & 0x7f {
        0x7e => {
            let mut long = [0; 2];
            stream.read_exact(&mut long).ok()?;
            usize::from(u16::from_be_bytes(long))
        }
        short => usize::from(short),
    };
    let mut mask = [0; 4];
    if head[1] & 0x80 != 0 {
        stream.read_exact(&mut mask).ok()?;
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).ok()?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((head[0] & 0x0f, payload))
}

fn converse(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send(ASK.as_bytes());
    assert_eq!(client.answer().status(), 101);
    for length in [0, 5, 125, 126, 4000, 65_535] {
        let text = vec![b'a'; length];
        client.send(&frame(1, &text, true));
        assert_eq!(read_frame(&mut client.stream), Some((1, text)));
    }
    client.send(&frame(9, b"are you there", true));
    assert_eq!(read_frame(&mut client.stream), Some((10, b"are you there".to_vec())));
    client.send(&frame(8, &1000u16.to_be_bytes(), true));
    assert_eq!(read_frame(&mut client.stream), Some((8, 1000u16.to_be_bytes().to_vec())));
    assert!(client.is_closed());
}

#[test]
fn web_sockets_speak_through_it() {
    let server = Server::start(|mut script| {
        script.request();
        script.send(AGREE);
        while let Some((opcode, payload)) = read_frame(&mut script.client.stream) {
            let answer = if opcode == 9 { 10 } else { opcode };
            script.send(frame(answer, &payload, false));
            if opcode == 8 {
                return;
            }
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let clients: Vec<_> =
        (0..8).map(|_| edge.address).map(|address| thread::spawn(move || converse(address))).collect();
    for client in clients {
        client.join().unwrap();
    }
    let instance = edge.instance(0);
    eventually("all are over", || instance.sum(|cell| &cell.in_flight) == 0);
    assert_eq!(edge.sum(|cell| &cell.responses[0]), 8);
}
