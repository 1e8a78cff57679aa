//! Compression of answers: for whom, of what, how it is said, and what becomes of an answer that breaks off.

#![allow(clippy::unwrap_used, clippy::format_collect)] // Texts of tests are short.

mod common;

use std::{
    io::{Read, Write},
    process::Command,
};

use common::{Client, Edge, Message, Server, snapshot};
use evenkeel_core::snapshot::{Compress, Encoding, Snapshot};
use proptest::prelude::*;

const ENCODINGS: [&str; 3] = ["zstd", "br", "gzip"];

fn with(instance: &Server) -> Snapshot {
    let mut snapshot = snapshot(&[instance.address]);
    snapshot.services[0].answers.compress = Some(Compress {
        encodings: vec![Encoding::Zstd, Encoding::Br, Encoding::Gzip],
        min_bytes: 100,
        types: vec!["text/*".into(), "application/json".into()],
    });
    snapshot
}

fn text(lines: usize) -> String {
    (0..lines).map(|n| format!("line {n} of a text that can be made smaller\n")).collect()
}

fn decode(encoding: &str, coded: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    match encoding {
        "gzip" => flate2::read::GzDecoder::new(coded).read_to_end(&mut content)?,
        "br" => brotli::Decompressor::new(coded, 4096).read_to_end(&mut content)?,
        "zstd" => zstd::Decoder::new(coded)?.read_to_end(&mut content)?,
        other => panic!("{other}"),
    };
    Ok(content)
}

/// Answers with the fields of the path, `/FRAMING/LINES/FIELDS`, where a comma stands for a line's end.
fn instance() -> Server {
    Server::start(|mut script| {
        while let Some(request) = script.request() {
            let mut parts = request.head.split(' ').nth(1).unwrap().splitn(4, '/').skip(1);
            let (framing, lines, fields) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            let fields: String = fields.split(',').map(|field| format!("{}\r\n", field.replace('~', " "))).collect();
            let (body, to_head) = (text(lines.parse().unwrap()), request.head.starts_with("HEAD"));
            let status = if framing == "partial" { 206 } else { 200 };
            script.send(format!("HTTP/1.1 {status} OK\r\n{fields}"));
            match framing {
                "chunked" => {
                    script.send("Transfer-Encoding: chunked\r\n\r\n");
                    for part in body.as_bytes().chunks(10_000) {
                        script.send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
                    }
                    script.send("0\r\n\r\n");
                }
                "close" => {
                    script.send(format!("\r\n{body}"));
                    return;
                }
                _ if to_head => script.send(format!("Content-Length: {}\r\n\r\n", body.len())),
                _ => script.send(format!("Content-Length: {}\r\n\r\n{body}", body.len())),
            }
        }
    })
}

fn ask(edge: &Edge, path: &str, accept: &str) -> Message {
    edge.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {accept}\r\n\r\n"))
}

#[test]
fn every_coding_over_every_framing_decodes_to_what_the_instance_said() {
    let instance = instance();
    let edge = Edge::start(with(&instance));
    // Small and whole, beyond what is put together first, and long.
    for lines in [10, 1000, 3000, 100_000] {
        for framing in ["length", "chunked", "close"] {
            for encoding in ENCODINGS {
                let path = format!(
                    "/{framing}/{lines}/Content-Type:~text/html;~charset=utf-8,ETag:~\"a\",Accept-Ranges:~bytes"
                );
                let answer = ask(&edge, &path, encoding);
                let case = format!("{framing} {lines} {encoding}\n{}", answer.head);
                assert_eq!(answer.fields("content-encoding"), [encoding], "{case}");
                assert_eq!(answer.fields("vary"), ["Accept-Encoding"], "{case}");
                assert_eq!(answer.fields("etag"), ["W/\"a\""], "{case}");
                assert!(answer.fields("accept-ranges").is_empty(), "{case}");
                let whole = text(lines);
                assert!(answer.body.len() < whole.len() * 2 / 3, "{case}");
                assert!(decode(encoding, &answer.body).unwrap() == whole.as_bytes(), "{case}");
                let said = (answer.fields("content-length").len(), answer.fields("transfer-encoding").len());
                assert_eq!(said.0 + said.1, 1, "{case}");
                if (framing, lines) == ("length", 10) {
                    assert_eq!(answer.fields("content-length"), [answer.body.len().to_string()], "{case}");
                }
            }
        }
    }
}

#[test]
fn connections_are_used_again_after_compressed_answers() {
    let instance = instance();
    let edge = Edge::start(with(&instance));
    let mut client = edge.client();
    for lines in [10, 100_000, 3000, 10] {
        let request = format!(
            "GET /length/{lines}/Content-Type:~text/css HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n"
        );
        client.send(request.as_bytes());
        assert!(decode("gzip", &client.answer().body).unwrap() == text(lines).as_bytes());
    }
    assert_eq!(edge.instance(0).sum(|cell| &cell.answered), 4);
}

#[test]
fn what_must_stay_as_it_is_stays() {
    let instance = instance();
    let edge = Edge::start(with(&instance));
    let kind = "Content-Type:~text/html";
    for (path, why) in [
        ("/length/100/Content-Type:~image/png".to_owned(), "another type"),
        ("/length/100/X:~y".to_owned(), "no type"),
        (format!("/length/2/{kind}"), "too short"),
        (format!("/length/100/{kind},Content-Encoding:~br"), "coded already"),
        (
            format!("/length/100/{kind},Cache-Control:~public,Cache-Control:~max-age=1;~x,Cache-Control:~no-transform"),
            "no-transform",
        ),
        (format!("/partial/100/{kind},Content-Range:~bytes~0-1/2"), "a part"),
        (format!("/length/100/{kind},Repr-Digest:~sha-256=:AAAA:"), "a digest"),
        (format!("/length/100/{kind},Trailer:~X-Sum"), "trailers"),
        ("/chunked/100/Content-Type:~text/event-stream".to_owned(), "a stream of events"),
    ] {
        let answer = ask(&edge, &path, "gzip, br, zstd");
        assert_eq!(answer.text(), text(path.split('/').nth(2).unwrap().parse().unwrap()), "{why}");
        assert!(answer.fields("vary").is_empty(), "{why}: {}", answer.head);
        assert_ne!(answer.field("content-encoding"), Some("zstd"), "{why}");
    }
    let path = format!("/length/100/{kind},ETag:~\"a\",Vary:~Cookie");
    for accept in ["identity", "gzip;q=0", "deflate", "", "*;q=0", "gzip;q=0.5, identity"] {
        let answer = ask(&edge, &path, accept);
        assert_eq!(answer.text(), text(100), "{accept}");
        assert_eq!(answer.fields("vary"), ["Cookie", "Accept-Encoding"], "caches must know: {accept}");
        assert_eq!(answer.fields("etag"), ["\"a\""], "{accept}");
        assert!(answer.fields("content-encoding").is_empty(), "{accept}");
    }
    let named = ask(&edge, &format!("/length/100/{kind},Vary:~accept-encoding"), "gzip");
    assert_eq!(named.fields("vary"), ["accept-encoding"]);
    let old = edge.ask(&format!("GET /length/100/{kind} HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n"));
    assert_eq!((old.text(), old.fields("content-encoding").len()), (text(100), 0));
    let mut client = edge.client();
    client.send(format!("HEAD /length/100/{kind} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n").as_bytes());
    let head = client.answer_to_head();
    // What a GET would get, whose length nobody knows (RFC 9110 section 8.6).
    assert_eq!((head.fields("content-length").len(), head.fields("transfer-encoding").len()), (0, 0), "{}", head.head);
    assert_eq!((head.fields("vary"), head.fields("content-encoding")), (vec!["Accept-Encoding"], vec!["gzip"]));
    for (lines, accept) in [(100, "identity"), (2, "gzip")] {
        let path = format!("/length/{lines}/{kind}");
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {accept}\r\n\r\n").as_bytes());
        let head = client.answer_to_head();
        assert_eq!(head.fields("content-length"), [text(lines).len().to_string()], "{lines} {accept}");
        assert!(head.fields("content-encoding").is_empty(), "{lines} {accept}");
    }
}

#[test]
fn a_service_without_compression_changes_nothing() {
    let instance = instance();
    let edge = Edge::start(snapshot(&[instance.address]));
    let answer = ask(&edge, "/length/100/Content-Type:~text/html", "gzip");
    assert_eq!((answer.text(), answer.fields("vary").len()), (text(100), 0));
}

#[test]
fn what_cannot_be_made_smaller_is_passed_on_as_it_is() {
    let instance = Server::answering(
        [
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"a\"\r\nContent-Length: 256\r\n\r\n".as_slice(),
            &(0..=255).collect::<Vec<u8>>(),
        ]
        .concat(),
    );
    let edge = Edge::start(with(&instance));
    let answer = ask(&edge, "/", "gzip");
    assert_eq!(answer.body, (0..=255).collect::<Vec<u8>>());
    assert_eq!((answer.fields("content-encoding").len(), answer.fields("vary")), (0, vec!["Accept-Encoding"]));
    assert_eq!(answer.fields("etag"), ["\"a\""]);
}

#[test]
fn what_the_instance_has_said_arrives_while_it_pauses() {
    for encoding in ENCODINGS {
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let instance = Server::start(move |mut script| {
            script.request();
            script.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n",
            );
            wait.lock().unwrap().recv().unwrap();
            script.send("7\r\nsecond\n\r\n0\r\n\r\n");
        });
        let edge = Edge::start(with(&instance));
        let mut client = edge.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {encoding}\r\n\r\n").as_bytes());
        let (mut raw, mut first) = (Vec::new(), [0; 6]);
        // The instance says nothing more until this was read.
        while !begins_with(encoding, &unchunked(&raw), &mut first) {
            let more = client.some();
            assert!(!more.is_empty(), "{encoding}: the connection ended");
            raw.extend_from_slice(&more);
        }
        assert_eq!(&first, b"first\n");
        go_on.send(()).unwrap();
        while !raw.ends_with(b"\r\n0\r\n\r\n") {
            raw.extend_from_slice(&client.some());
        }
        assert_eq!(decode(encoding, &unchunked(&raw)).unwrap(), b"first\nsecond\n", "{encoding}");
    }
}

/// The content of the chunks that have come so far behind a head.
fn unchunked(raw: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let Some(start) = raw.windows(4).position(|part| part == b"\r\n\r\n") else { return content };
    let mut rest = &raw[start + 4..];
    while let Some(end) = rest.windows(2).position(|part| part == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else { break };
        content.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    content
}

fn begins_with(encoding: &str, coded: &[u8], first: &mut [u8]) -> bool {
    match encoding {
        "gzip" => flate2::read::GzDecoder::new(coded).read_exact(first),
        "br" => brotli::Decompressor::new(coded, 4096).read_exact(first),
        _ => zstd::Decoder::new(coded).and_then(|mut decoder| decoder.read_exact(first)),
    }
    .is_ok()
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    let body = text(5000);
    for (how, head) in [
        ("cut", format!("Content-Length: {}\r\n\r\n{body}", body.len() + 1)),
        ("cut", format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len())),
        ("cut", format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}", body.len() + 1)),
        ("reset", format!("\r\n{body}")),
        ("wrong", format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\nzz\r\n", body.len())),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{head}");
        let instance = Server::start(move |mut script| {
            script.request();
            script.send(&answer);
            match how {
                "reset" => script.reset(),
                "wrong" => drop(script.client.some()),
                _ => {}
            }
        });
        for encoding in ENCODINGS {
            let mut snapshot = with(&instance);
            snapshot.services[0].retry.max = 0;
            let edge = Edge::start(snapshot);
            let mut client = edge.client();
            let request =
                format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nAccept-Encoding: {encoding}\r\n\r\n");
            client.send(request.as_bytes());
            let raw = client.rest();
            let told = raw.starts_with(b"HTTP/1.1 502");
            let ended = raw.ends_with(b"\r\n0\r\n\r\n") || decode(encoding, &unchunked(&raw)).is_ok();
            assert!(told || !ended, "{how} {encoding}: {head:.60}");
        }
    }
}

#[test]
fn an_endless_answer_costs_bounded_memory_and_lets_others_through() {
    let instance = Server::start(|mut script| {
        let Some(request) = script.request() else { return };
        if request.head.starts_with("GET /endless") {
            script.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = format!("10000\r\n{}\r\n", "0123456789abcdef".repeat(4096));
            while script.client.stream.write_all(chunk.as_bytes()).is_ok() {}
        } else {
            script.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let edge = Edge::start(with(&instance));
    let mut endless: Vec<Client> = ENCODINGS
        .iter()
        .map(|encoding| {
            let mut client = edge.client();
            client
                .send(format!("GET /endless HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {encoding}\r\n\r\n").as_bytes());
            client
        })
        .collect();
    for client in &mut endless {
        for _ in 0..20 {
            assert!(!client.some().is_empty());
        }
    }
    // One thread serves all of them: it still has time for others.
    for _ in 0..5 {
        assert_eq!(edge.get("/").text(), "ok");
    }
    for client in &mut endless {
        assert!(!client.some().is_empty());
    }
}

#[test]
fn an_instance_that_dies_in_the_middle_of_a_small_answer_is_made_good() {
    let dying = Server::start(|mut script| {
        script.request();
        script.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\nsome");
        script.reset();
    });
    let good = instance();
    let mut snapshot = with(&good);
    let second = common::service("app", &[dying.address, good.address]).instances;
    snapshot.services[0].instances = second;
    let edge = Edge::start(snapshot);
    for _ in 0..4 {
        let answer = ask(&edge, "/length/100/Content-Type:~text/plain", "br");
        assert_eq!(decode("br", &answer.body).unwrap(), text(100).into_bytes());
    }
    assert!(!dying.seen.lock().unwrap().is_empty());
}

#[test]
fn curl_understands_every_coding() {
    let instance = instance();
    let edge = Edge::start(with(&instance));
    let version = Command::new("curl").arg("--version").output().expect("curl is there, see `cargo xtask setup`");
    let version = String::from_utf8(version.stdout).unwrap();
    let builds = [("gzip", "libz"), ("br", "brotli"), ("zstd", "zstd")];
    assert!(version.contains("libz"), "{version}");
    for (encoding, _) in builds.iter().filter(|(_, feature)| version.contains(feature)) {
        for (framing, lines) in [("length", 50), ("length", 50_000), ("chunked", 50_000), ("close", 5000)] {
            let url = format!("http://{}/{framing}/{lines}/Content-Type:~text/html", edge.address);
            let accept = format!("Accept-Encoding: {encoding}");
            let curl = Command::new("curl")
                .args(["-sS", "--compressed", "--noproxy", "*", "-D", "/dev/stderr", "-H", &accept, &url])
                .output()
                .unwrap();
            let head = String::from_utf8_lossy(&curl.stderr);
            assert!(curl.status.success(), "{encoding} {framing} {lines}: {head}");
            assert!(head.contains(&format!("Content-Encoding: {encoding}\r\n")), "{head}");
            assert!(curl.stdout == text(lines).as_bytes(), "{encoding} {framing} {lines}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Any body through any coding and any chunking decodes to itself.
    #[test]
    fn any_body_decodes_to_itself(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..3000), 0..6),
        repeat in 1usize..30, which in 0usize..3, pauses in any::<bool>(),
    ) {
        let pieces: Vec<Vec<u8>> = pieces.into_iter().map(|piece| piece.repeat(repeat)).collect();
        let whole = pieces.concat();
        let instance = Server::start(move |mut script| {
            script.request();
            script.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in &pieces {
                script.send([format!("{:x};x=y\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
                if pauses {
                    std::thread::yield_now();
                }
            }
            script.send("0\r\n\r\n");
        });
        let edge = Edge::start(with(&instance));
        let answer = ask(&edge, "/", ENCODINGS[which]);
        if answer.fields("content-encoding").is_empty() {
            prop_assert_eq!(answer.body, whole);
        } else {
            prop_assert_eq!(decode(ENCODINGS[which], &answer.body).unwrap(), whole);
        }
    }
}
