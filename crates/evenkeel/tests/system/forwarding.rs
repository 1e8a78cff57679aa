//! What goes through the edge arrives as it was meant: checked with an independent client (curl) and raw sockets,
//! against instances that record what they got.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use crate::{
    instance::{Received, serve},
    rig::{PATIENCE, Rig, all_healthy},
};

/// `keel up` in front of one instance at `port`.
fn in_front_of(port: u16, listener: &str) -> Rig {
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n{listener}\n[services.app]\ninstances = [\"127.0.0.1:{port}\"]\n\
         check = {{ http = \"/healthz\" }}\n"
    ));
    rig.wait_until("the instance is healthy", all_healthy);
    rig
}

/// An answer with this body and these header lines.
fn plain(stream: &mut TcpStream, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
}

fn curl(arguments: &[&str]) -> Output {
    let output = Command::new("curl").args(["-sS", "--max-time", "60"]).args(arguments).output();
    output.expect("curl is installed by `cargo xtask setup`")
}

fn url(rig: &Rig, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", rig.port)
}

/// Bytes in which a lost, doubled or moved part is seen.
fn pattern(length: usize) -> Vec<u8> {
    let byte = |index: usize| u8::try_from((index * 31 + index / 251) % 256).unwrap();
    (0..length).map(byte).collect()
}

/// Sends `request` and returns everything until the edge closes.
fn raw(rig: &Rig, request: &[u8]) -> String {
    let mut stream = connect(rig);
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn connect(rig: &Rig) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", rig.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[test]
fn c01_hop_by_hop_request_headers_end_at_the_edge() {
    let (port, got) = serve(|_, stream| plain(stream, "", b"ok"));
    let rig = in_front_of(port, "");
    let output = curl(&[
        &url(&rig, "/"),
        "-H",
        "Connection: keep-alive, X-Private",
        "-H",
        "X-Private: 1",
        "-H",
        "Keep-Alive: timeout=5",
        "-H",
        "TE: trailers",
        "-H",
        "Proxy-Authorization: Basic x",
        "-H",
        "Proxy-Connection: keep-alive",
        "-H",
        "Upgrade: h2c",
        "-H",
        "X-Public: 2",
    ]);
    assert_eq!(output.stdout, b"ok", "{output:?}");
    let received = got.recv().unwrap();
    for gone in ["x-private", "keep-alive", "proxy-authorization", "proxy-connection", "upgrade"] {
        assert!(received.values(gone).is_empty(), "{gone}: {}", received.head);
    }
    // Trailers pass both ways, so the edge says on its own connection that they may come, and nothing else of the client's.
    assert_eq!((received.values("te"), received.values("connection")), (vec!["trailers"], vec!["te"]));
    assert_eq!(received.values("x-public"), ["2"]);
}

#[test]
fn c02_hop_by_hop_response_headers_end_at_the_edge() {
    let headers = "Connection: X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-Public: 2\r\n";
    let (port, _got) = serve(move |_, stream| plain(stream, headers, b"ok"));
    let rig = in_front_of(port, "");
    let output = curl(&["-i", &url(&rig, "/")]);
    let answer = String::from_utf8(output.stdout).unwrap().to_lowercase();
    for gone in ["x-private", "keep-alive: timeout", "proxy-authenticate"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    assert!(answer.contains("x-public: 2") && answer.ends_with("ok"), "{answer}");
}

#[test]
fn c03_a_stranger_cannot_claim_to_be_forwarded() {
    let (port, got) = serve(|_, stream| plain(stream, "", b"ok"));
    let rig = in_front_of(port, "");
    curl(&[
        &url(&rig, "/"),
        "-H",
        "X-Forwarded-For: 6.6.6.6",
        "-H",
        "X-Forwarded-Proto: https",
        "-H",
        "X-Forwarded-Host: evil",
        "-H",
        "X-Request-Id: chosen",
        "-H",
        "Host: shop.example.com",
    ]);
    let received = got.recv().unwrap();
    assert_eq!(received.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.values("x-forwarded-proto"), ["http"]);
    assert_eq!(received.values("x-forwarded-host"), ["shop.example.com"]);
    assert_eq!(received.values("host"), ["shop.example.com"]);
    assert_eq!(received.values("x-request-id").len(), 1);
    assert_ne!(received.values("x-request-id"), ["chosen"]);
}

#[test]
fn c04_a_trusted_address_is_believed() {
    let (port, got) = serve(|_, stream| plain(stream, "", b"ok"));
    let rig = in_front_of(port, "trusted = [\"127.0.0.0/8\"]");
    curl(&[
        &url(&rig, "/"),
        "-H",
        "X-Forwarded-For: 9.9.9.9",
        "-H",
        "X-Forwarded-Proto: https",
        "-H",
        "X-Forwarded-Host: outside.example.com",
        "-H",
        "X-Request-Id: chosen",
    ]);
    let received = got.recv().unwrap();
    assert_eq!(received.values("x-forwarded-for").join(", "), "9.9.9.9, 127.0.0.1");
    assert_eq!(received.values("x-forwarded-proto"), ["https"]);
    assert_eq!(received.values("x-forwarded-host"), ["outside.example.com"]);
    assert_eq!(received.values("x-request-id"), ["chosen"]);
}

/// A `POST` of 3 MB by curl arrives byte by byte.
fn posts_arrive(extra: &[&str], framed: impl Fn(&Received)) {
    let (port, got) = serve(|received, stream| plain(stream, "", received.body.len().to_string().as_bytes()));
    let rig = in_front_of(port, "");
    let body = pattern(3_000_000);
    let file = rig.folder.path().join("body");
    std::fs::write(&file, &body).unwrap();
    let data = format!("@{}", file.display());
    let target = url(&rig, "/upload");
    let output = curl(&[&["--data-binary", &data, "-H", "Expect:", &target], extra].concat());
    assert_eq!(output.stdout, b"3000000", "{output:?}");
    let received = got.recv().unwrap();
    framed(&received);
    assert!(received.body == body, "the body arrives unchanged");
}

#[test]
fn c05_a_large_post_with_a_length() {
    posts_arrive(&[], |received| {
        assert_eq!(received.values("content-length"), ["3000000"]);
    });
}

#[test]
fn c06_a_large_post_in_chunks() {
    posts_arrive(&["-H", "Transfer-Encoding: chunked"], |received| {
        assert_eq!(received.values("transfer-encoding"), ["chunked"]);
        assert!(received.values("content-length").is_empty());
    });
}

#[test]
fn c07_an_answer_in_chunks() {
    let body = pattern(300_000);
    let sent = body.clone();
    let (port, _got) = serve(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for piece in sent.chunks(7_001) {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
            stream.write_all(&[piece, b"\r\n"].concat()).unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let rig = in_front_of(port, "");
    let output = curl(&[&url(&rig, "/")]);
    assert!(output.status.success() && output.stdout == body, "{:?}", output.status);
}

#[test]
fn c08_an_answer_that_ends_with_the_connection() {
    let body = pattern(200_000);
    let sent = body.clone();
    let (port, _got) = serve(move |_, stream| {
        stream.write_all(&[b"HTTP/1.0 200 OK\r\n\r\n", sent.as_slice()].concat()).unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let rig = in_front_of(port, "");
    let output = curl(&[&url(&rig, "/")]);
    assert!(output.status.success() && output.stdout == body, "{:?}", output.status);
}

#[test]
fn c09_a_large_answer() {
    let body = pattern(20_000_000);
    let sent = body.clone();
    let (port, _got) = serve(move |_, stream| plain(stream, "", &sent));
    let rig = in_front_of(port, "");
    let output = curl(&["--limit-rate", "40M", &url(&rig, "/")]);
    assert!(output.status.success() && output.stdout == body, "{:?}", output.status);
}

#[test]
fn c10_a_slow_answer_arrives_as_it_comes() {
    let (port, _got) = serve(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        for _ in 0..5 {
            stream.write_all(b"5\r\ntick\n\r\n").unwrap();
            thread::sleep(Duration::from_millis(300));
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let rig = in_front_of(port, "");
    let mut stream = connect(&rig);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let start = Instant::now();
    let (mut answer, mut first) = (Vec::new(), None);
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).unwrap();
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..read]);
        if first.is_none() && answer.windows(4).any(|window| window == b"tick") {
            first = Some(start.elapsed());
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(answer.matches("tick").count(), 5, "{answer}");
    // The whole answer takes 1.5 s; the first part must not wait for the last.
    assert!(first.unwrap() * 2 < start.elapsed(), "{first:?} of {:?}", start.elapsed());
}

#[test]
fn c11_head_has_the_headers_and_no_body() {
    let (port, got) = serve(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nX-Public: 2\r\n\r\n").unwrap();
    });
    let rig = in_front_of(port, "");
    let output = curl(&["--head", &url(&rig, "/a"), &url(&rig, "/b")]);
    let answer = String::from_utf8(output.stdout).unwrap().to_lowercase();
    assert!(output.status.success(), "{answer}");
    assert_eq!(answer.matches("content-length: 12345").count(), 2, "{answer}");
    assert!(got.recv().unwrap().head.starts_with("HEAD /a ") && got.recv().unwrap().head.starts_with("HEAD /b "));
}

#[test]
fn c12_twenty_requests_at_once_are_answered_in_order() {
    let (port, _got) = serve(|received, stream| {
        let path = received.head.split(' ').nth(1).unwrap().to_owned();
        // Early ones take longer, so that only keeping the order gives the right order.
        let number: u64 = path.trim_start_matches('/').parse().unwrap();
        thread::sleep(Duration::from_millis(20_u64.saturating_sub(number)));
        plain(stream, "", path.as_bytes());
    });
    let rig = in_front_of(port, "");
    let requests: Vec<String> = (0..20)
        .map(|number| {
            let close = if number == 19 { "Connection: close\r\n" } else { "" };
            format!("GET /{number} HTTP/1.1\r\nHost: test\r\n{close}\r\n")
        })
        .collect();
    let answer = raw(&rig, requests.concat().as_bytes());
    let bodies: Vec<&str> =
        answer.split("\r\n\r\n").skip(1).map(|rest| rest.split("HTTP/1.1").next().unwrap()).collect();
    let expected: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    assert_eq!(bodies, expected);
}

#[test]
fn c13_a_request_split_at_every_byte() {
    let (port, got) = serve(|received, stream| plain(stream, "", &received.body));
    let rig = in_front_of(port, "");
    let request = b"POST /path?x=1 HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nX-Public: 2\r\n\r\nhello";
    let mut stream = connect(&rig);
    for split in 1..request.len() {
        let (first, second) = request.split_at(split);
        stream.write_all(first).unwrap();
        thread::sleep(Duration::from_millis(1));
        stream.write_all(second).unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        while !answer.ends_with(b"hello") {
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "closed at split {split}: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "split {split}: {}", String::from_utf8_lossy(&answer));
        assert_eq!(got.recv().unwrap().values("x-public"), ["2"], "split {split}");
    }
}

#[test]
fn c14_an_answer_split_at_every_byte() {
    let (port, _got) = serve(|_, stream| {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Public: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        stream.set_nodelay(true).unwrap();
        for byte in answer.chunks(1) {
            stream.write_all(byte).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
    let rig = in_front_of(port, "");
    let output = curl(&["-i", &url(&rig, "/"), &url(&rig, "/")]);
    let answer = String::from_utf8(output.stdout).unwrap().to_lowercase();
    assert_eq!((answer.matches("x-public: 2").count(), answer.matches("hello").count()), (2, 2), "{answer}");
}
