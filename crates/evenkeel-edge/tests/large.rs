//! Long bodies, which pass through the edge unseen: every byte in its place, no more of them held than there is room for,
//! and an end that is not the end is noticed.

#![allow(clippy::unwrap_used)] // What fails in the helpers fails the test.

mod common;

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use common::{Edge, Server, eventually, snapshot};

const LONG: usize = 5 << 20;

/// Bytes of which each says where it stands.
fn pattern(length: usize) -> Vec<u8> {
    (0..length.div_ceil(4)).flat_map(|place| u32::try_from(place).unwrap().to_le_bytes()).take(length).collect()
}

fn answer(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

#[test]
fn a_long_answer_arrives_as_it_was_sent_and_both_connections_go_on() {
    // Not a multiple of anything.
    let body = pattern(LONG + 12_345);
    let server = Server::answering(answer(&body));
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    for _ in 0..3 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.answer().body == body, "the body differs");
    }
    let sent = 3 * body.len() as u64;
    eventually("its bytes are counted", || edge.sum(|cell| &cell.sent_bytes) == sent);
    assert_eq!(edge.instance(0).sum(|cell| &cell.answered), 3);
}

#[test]
fn a_long_request_body_arrives_as_it_was_sent() {
    let body = pattern(LONG + 54_321);
    let expected = body.clone();
    let server = Server::start(move |mut script| {
        while let Some(request) = script.request() {
            let same = request.body == expected;
            script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{same:<5}"));
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    for _ in 0..2 {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
        client.send(&body);
        assert_eq!(client.answer().text().trim(), "true");
    }
    let received = 2 * body.len() as u64;
    eventually("its bytes are counted", || edge.sum(|cell| &cell.received_bytes) == received);
}

#[test]
fn two_long_bodies_at_once_do_not_hinder_each_other() {
    let body = pattern(LONG);
    let server = Server::start(|mut script| {
        // The answer begins with the first byte of the request's body, and ends with its last one.
        let mut stream = script.client.stream.try_clone().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"));
        let mut part = vec![0; 1 << 16];
        let mut left = LONG;
        while left > 0 {
            let count = stream.read(&mut part).unwrap();
            assert!(count > 0, "the request ended early");
            script.send(&part[..count]);
            left -= count;
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    let mut sender = client.stream.try_clone().unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        sender.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG}\r\n\r\n").as_bytes()).unwrap();
        sender.write_all(&sent).unwrap();
    });
    assert!(client.answer().body == body, "the body differs");
    sending.join().unwrap();
}

#[test]
fn a_long_answer_that_is_cut_off_does_not_look_whole() {
    let whole = answer(&pattern(LONG));
    let server = Server::start(move |mut script| {
        if script.request().is_some() {
            script.send(&whole[..LONG / 2]);
            let _ = script.client.stream.shutdown(Shutdown::Both);
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.message(false).is_none(), "half an answer is none");
    eventually("it is counted", || edge.sum(|cell| &cell.aborted) == 1);
}

#[test]
fn a_client_that_takes_nothing_slows_the_instance_down() {
    const HUGE: usize = 256 << 20;
    let written = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&written);
    let server = Server::start(move |mut script| {
        let part = vec![b'x'; 1 << 20];
        if script.request().is_some() {
            script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {HUGE}\r\n\r\n"));
            while script.client.stream.write_all(&part).is_ok() {
                counted.fetch_add(1 << 20, Relaxed);
            }
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.take(17).unwrap(), b"HTTP/1.1 200 OK\r\n");
    // It has come to a halt once nothing more is written for a while: in the kernel's buffers there is room for some.
    eventually("it has come to a halt", || {
        let now = written.load(Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(100));
        now > 0 && now == written.load(Relaxed)
    });
    assert!(written.load(Relaxed) < HUGE as u64 / 2, "{} bytes are on their way", written.load(Relaxed));
    drop(client);
}

#[test]
fn what_follows_a_long_answer_is_nobodys_answer() {
    let body = pattern(1 << 20);
    let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let server = Server::answering([answer(&body).as_slice(), evil].concat());
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    for _ in 0..10 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.answer().body == body, "the body differs");
    }
}

#[test]
fn requests_behind_a_long_body_wait_for_their_turn() {
    let body = pattern(LONG + 1);
    let expected = body.clone();
    let server = Server::start(move |mut script| {
        while let Some(request) = script.request() {
            let same = request.body == expected || request.body.is_empty();
            script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{same:<5}"));
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for _ in 0..2 {
            let post = format!("POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            sender.write_all(&[post.as_bytes(), &body, b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).unwrap();
        }
        // Whoever has said everything still wants its answers.
        sender.shutdown(Shutdown::Write).unwrap();
    });
    for _ in 0..4 {
        assert_eq!(client.answer().text().trim(), "true");
    }
    sending.join().unwrap();
    let starts: Vec<String> =
        server.requests().iter().map(|request| request.head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(starts, ["/long", "/next", "/long", "/next"]);
}

#[test]
fn half_a_long_request_body_is_no_request() {
    for resets in [false, true] {
        let server = Server::start(|mut script| {
            if let Some(request) = script.request() {
                script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}", request.body.len().min(1)));
            }
        });
        let edge = Edge::start(snapshot(&[server.address]));
        let mut client = edge.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG}\r\n\r\n").as_bytes());
        client.send(&pattern(LONG / 2));
        if resets {
            rustix::net::sockopt::set_socket_linger(&client.stream, Some(std::time::Duration::ZERO)).unwrap();
            drop(client);
        } else {
            client.finish_sending();
            assert!(client.message(false).is_none(), "nobody has the whole request");
        }
        eventually("it is counted", || edge.sum(|cell| &cell.cancelled) == 1);
        assert_eq!(server.count(), 0, "the instance has seen no whole request");
        assert_eq!(edge.get("/").text(), "0", "the next one goes on");
    }
}
