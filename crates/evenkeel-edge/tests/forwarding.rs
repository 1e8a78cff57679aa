//! Messages pass through the edge as RFC 9110 and RFC 9112 ask for: framing, fields, order, size and pace.

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use common::{Client, Edge, Server, eventually, snapshot};
use evenkeel_core::snapshot::Network;

#[test]
fn fields_meant_for_one_connection_stay_behind() {
    let server = Server::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
         Upgrade: h2c\r\nProxy-Connection: x\r\nX-Kept: yes\r\n\r\nok",
    );
    let edge = Edge::start(snapshot(&[server.address]));
    let answer = edge.ask(
        "GET /p?q=1 HTTP/1.1\r\nHost: shop.example:8080\r\nConnection: close, X-Drop\r\nX-Drop: 1\r\nTE: gzip\r\n\
         Upgrade: websocket\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\nProxy: evil\r\nAccept: */*\r\n\r\n",
    );
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.field("x-kept"), Some("yes"));
    for gone in ["x-secret", "keep-alive", "upgrade", "proxy-connection"] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
    let request = &server.requests()[0];
    assert!(request.head.starts_with("GET /p?q=1 HTTP/1.1\r\nHost: shop.example:8080\r\n"), "{}", request.head);
    assert_eq!(request.field("accept"), Some("*/*"));
    for gone in ["x-drop", "te", "upgrade", "keep-alive", "proxy-authorization", "proxy", "connection"] {
        assert_eq!(request.field(gone), None, "{gone}");
    }
}

#[test]
fn what_a_client_says_of_itself_counts_only_from_trusted_addresses() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nForwarded: for=9\r\n\
                   X-Forwarded-Proto: https\r\nX-Forwarded-Host: other\r\nX-Real-IP: 6\r\nX-Request-Id: mine\r\n\r\n";
    let server = Server::named("a");
    let edge = Edge::start(snapshot(&[server.address]));
    let answer = edge.ask(request);
    let seen = &server.requests()[0];
    assert_eq!(seen.fields("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.fields("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.fields("x-forwarded-host"), ["a"]);
    assert_eq!((seen.field("forwarded"), seen.field("x-real-ip")), (None, None));
    let id = seen.field("x-request-id").unwrap();
    assert_eq!((id.len(), answer.fields("x-request-id")), (16, vec![id]));

    let mut trusting = snapshot(&[server.address]);
    trusting.listeners[0].trusted = vec![Network { address: "127.0.0.0".parse().unwrap(), prefix: 8 }];
    let answer = Edge::start(trusting).ask(request);
    let seen = &server.requests()[1];
    assert_eq!(seen.fields("x-forwarded-for"), ["1.2.3.4, 5.6.7.8, 127.0.0.1"]);
    assert_eq!(seen.fields("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.fields("x-forwarded-host"), ["other"]);
    assert_eq!((seen.field("forwarded"), seen.field("x-real-ip")), (Some("for=9"), Some("6")));
    assert_eq!((seen.field("x-request-id"), answer.field("x-request-id")), (Some("mine"), Some("mine")));
}

#[test]
fn twenty_requests_in_one_go_are_answered_in_order() {
    let servers = [Server::echo(), Server::echo(), Server::echo()];
    let edge = Edge::start(snapshot(&servers.each_ref().map(|s| s.address)));
    let mut client = edge.client();
    let post = |n| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{n:03}");
    let all: Vec<String> = (0..20).map(post).collect();
    client.send(all.concat().as_bytes());
    for n in 0..20 {
        let text = client.answer().text();
        assert!(text.starts_with(&format!("POST /{n} ")) && text.ends_with(&format!("\n\n{n:03}")), "{text}");
    }
}

#[test]
fn a_message_may_be_split_at_every_byte() {
    let server = Server::echo();
    let edge = Edge::start(snapshot(&[server.address]));
    let request =
        b"\r\nPOST /split HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n";
    for cut in 1..request.len() {
        let mut client = edge.client();
        client.send(&request[..cut]);
        // Both parts must arrive apart; the first has been read when the edge knows of the connection and waits.
        std::thread::sleep(std::time::Duration::from_millis(1));
        client.send(&request[cut..]);
        let answer = client.answer();
        assert!(answer.status() == 200 && answer.text().ends_with("\n\nabc"), "cut at {cut}: {answer:?}");
    }
    let mut client = edge.client();
    for byte in request {
        client.send(&[*byte]);
    }
    assert!(client.answer().text().ends_with("\n\nabc"));
}

#[test]
fn an_answer_may_be_split_at_every_byte() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello";
    let server = Server::start(move |mut script| {
        while let Some(request) = script.request() {
            let cut: usize = request.head.split([' ', '/']).nth(2).unwrap().parse().unwrap();
            script.send(&whole[..cut]);
            std::thread::sleep(std::time::Duration::from_millis(1));
            script.send(&whole[cut..]);
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    for cut in 1..whole.len() {
        client.send(format!("GET /{cut} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.text().as_str(), answer.field("x-a")), ("hello", Some("b")), "cut at {cut}");
    }
}

#[test]
fn three_megabytes_by_length_and_by_chunks() {
    let body: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let server = Server::start(|mut script| {
        while let Some(request) = script.request() {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            script.send([head.as_bytes(), &request.body].concat());
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
    client.send(&body);
    assert_eq!(client.answer().body, body);
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in body.chunks(70_001) {
        client.send(format!("{:x}\r\n", part.len()).as_bytes());
        client.send(part);
        client.send(b"\r\n");
    }
    client.send(b"0\r\nX-Sum: 7\r\n\r\n");
    assert_eq!(client.answer().body, body);
    common::eventually("received bytes are counted", || edge.sum(|cell| &cell.received_bytes) == 6_000_000);
    common::eventually("sent bytes are counted", || edge.sum(|cell| &cell.sent_bytes) == 6_000_000);
}

#[test]
fn chunked_answers_pass_with_their_trailers() {
    let chunks = "5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n";
    let server = Server::start(move |mut script| {
        while let Some(request) = script.request() {
            script.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
            for part in chunks.as_bytes().chunks(if request.head.starts_with("GET /slow") { 1 } else { 1000 }) {
                script.send(part);
            }
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    for path in ["/fast", "/slow", "/fast"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.text().as_str(), answer.raw.as_slice()), ("hello world", chunks.as_bytes()), "{path}");
        assert_eq!(answer.field("trailer"), Some("X-Sum"));
    }
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.text().as_str(), answer.field("transfer-encoding")), ("hello", None));
    assert_eq!(answer.field("connection"), Some("close"));
}

#[test]
fn a_client_of_http_1_0_may_keep_its_connection() {
    let server = Server::named("a");
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    for _ in 0..2 {
        client.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.text().as_str(), answer.field("connection")), ("a", Some("keep-alive")));
    }
    client.send(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn an_answer_until_close_ends_the_connection() {
    let body = vec![b'x'; 300_000];
    let answer = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &body].concat();
    let server = Server::start(move |mut script| {
        script.request();
        script.send(&answer);
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let answer = edge.get("/");
    assert_eq!((answer.body.len(), answer.field("connection")), (body.len(), Some("close")));
}

#[test]
fn answers_without_a_body() {
    let server = Server::start(|mut script| {
        while let Some(request) = script.request() {
            let path = request.head.split(' ').nth(1).unwrap();
            script.send(match path {
                "/204" => "HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
            });
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer_to_head().field("content-length"), Some("7"));
    client.send(b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.field("content-length")), (204, None));
    client.send(b"GET /304 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().field("content-length"), Some("7"));
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer_to_head().status(), 200);
}

#[test]
fn interim_answers_pass_and_a_body_waits_for_its_100() {
    let server = Server::start(|mut script| {
        let (mut head, mut byte) = (Vec::new(), [0u8; 1]);
        while !head.ends_with(b"\r\n\r\n") {
            std::io::Read::read_exact(&mut script.client.stream, &mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains("Expect: 100-continue\r\n"), "{head}");
        script.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        let mut body = [0u8; 5];
        std::io::Read::read_exact(&mut script.client.stream, &mut body).unwrap();
        script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}", String::from_utf8_lossy(&body)));
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let hints = client.answer();
    assert_eq!((hints.status(), hints.field("link")), (103, Some("</a>")));
    assert_eq!(client.answer().status(), 100);
    client.send(b"hello");
    assert_eq!(client.answer().text(), "hello");
}

#[test]
fn an_answer_may_come_before_the_body_is_complete() {
    let server = Server::start(|mut script| {
        let mut part = [0u8; 4096];
        let _ = std::io::Read::read(&mut script.client.stream, &mut part);
        script.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\nsome");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str(), answer.field("connection")), (401, "no", Some("close")));
    // What the client still sends is taken for a while, so that its answer is not destroyed.
    client.send(&vec![b'x'; 100_000]);
}

#[test]
fn a_slow_reader_slows_its_instance_down() {
    const TOTAL: usize = 64 << 20;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&sent);
    let server = Server::start(move |mut script| {
        script.request();
        script.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n"));
        let part = vec![b'x'; 1 << 16];
        for _ in 0..TOTAL / part.len() {
            script.send(&part);
            counted.fetch_add(part.len(), std::sync::atomic::Ordering::Relaxed);
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let before = std::cell::Cell::new(usize::MAX);
    common::eventually("the instance is stopped by the reader", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        before.replace(now) == now && now > 0
    });
    assert!(sent.load(std::sync::atomic::Ordering::Relaxed) < TOTAL, "everything was buffered");
    assert_eq!(client.answer().body.len(), TOTAL);
}

#[test]
fn absolute_form_and_asterisk_form() {
    let server = Server::echo();
    let edge = Edge::start(snapshot(&[server.address]));
    let answer = edge.ask("GET http://shop.example/x?y HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert!(answer.text().starts_with("GET /x?y HTTP/1.1\r\nHost: shop.example\r\n"), "{}", answer.text());
    assert!(edge.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").text().starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    let server = Server::named("a");
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.finish_sending();
    assert_eq!(client.answer().text(), "a");
    assert!(client.is_closed());
}

#[test]
fn an_instance_that_sends_too_much_spoils_only_its_connection() {
    let server = Server::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    );
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = Client::connect(edge.address);
    for _ in 0..3 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().text(), "ok");
    }
}

#[test]
fn an_instance_is_free_as_soon_as_its_answer_is_over() {
    let early = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n";
    for (answer, more, status) in [(early, "", 403), ("", "no chunk\r\n", 400)] {
        let server = Server::start(move |mut script| {
            let head = std::io::Read::read(&mut script.client.stream, &mut [0; 1024]);
            assert!(head.is_ok_and(|bytes| bytes > 0));
            script.send(answer);
            script.client.rest();
        });
        let edge = Edge::start(snapshot(&[server.address]));
        let (instance, thread) = (edge.instance(0), &edge.threads.shared.threads[0].0);
        let mut client = edge.client();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        eventually("it is there", || instance.threads[0].0.tries.get() == 1);
        client.send(more.as_bytes());
        assert_eq!(client.answer().status(), status);
        eventually("nothing is in flight", || instance.in_flight.load(Relaxed) == 0);
        assert_eq!(thread.connections.get(), 1, "what the client still sends is read before its connection is closed");
        drop(client);
        eventually("it is closed", || thread.connections.get() == 0);
    }
}

#[test]
fn bytes_behind_an_answer_without_a_body_are_nobodys_answer() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let server = Server::start(move |mut script| {
        counted.fetch_add(1, Relaxed);
        while let Some(request) = script.request() {
            let answer = if request.head.starts_with("POST") {
                "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Le"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
            };
            script.send(answer);
        }
    });
    let edge = Edge::start(snapshot(&[server.address]));
    let mut client = edge.client();
    // Too large to be taken in whole, so that the answer is relayed.
    client.send(
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000)).as_bytes(),
    );
    assert_eq!(client.answer().status(), 204);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "good");
    assert_eq!(connections.load(Relaxed), 2, "such a connection is not used again");
}

#[test]
fn an_answer_to_head_that_says_its_length_keeps_its_connection() {
    for framing in ["Content-Length: 4", "Transfer-Encoding: chunked"] {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let server = Server::start(move |mut script| {
            counted.fetch_add(1, Relaxed);
            while script.request().is_some() {
                script.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
            }
        });
        let edge = Edge::start(snapshot(&[server.address]));
        eventually("one is used again after which no body came", || {
            let (mut client, before) = (edge.client(), connections.load(Relaxed));
            client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.answer_to_head().status(), 200);
            connections.load(Relaxed) == before
        });
    }
}

#[test]
fn a_body_that_must_not_be_is_nobodys_answer() {
    // It comes later than the head, as if the next request had been answered.
    let late = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let cases =
        [("HEAD", "200 OK"), ("HEAD", "204 No Content"), ("GET", "304 Not Modified"), ("GET", "204 No Content")];
    for (first, head) in cases {
        let server = Server::start(move |mut script| {
            let Some(request) = script.request() else { return };
            if request.head.contains("/first") {
                script.send(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", late.len()));
                if script.request().is_some() {
                    script.send(late);
                }
            } else {
                script.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
            }
        });
        let edge = Edge::start(snapshot(&[server.address]));
        let mut client = edge.client();
        let both = format!("{first} /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(both.as_bytes());
        assert_eq!(client.answer_to_head().status(), head[..3].parse::<u16>().unwrap());
        assert_eq!(client.answer().text(), "good", "{first} {head}");
    }
}

#[test]
fn names_that_an_application_may_take_for_others_stay_behind() {
    let edge = Edge::start(snapshot(&[Server::echo().address]));
    let doubtful =
        ["X_Forwarded_For", "x-forwarded_proto", "X_Real_IP", "Content_Length", "Transfer_Encoding", "Host_"];
    let fields = doubtful.join(": 7\r\n");
    let seen = edge.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}: 7\r\nMy_Own: 7\r\n\r\n")).text();
    for name in doubtful.iter().chain(&["My_Own"]) {
        assert!(!seen.contains(name), "{name} in {seen}");
    }
}
