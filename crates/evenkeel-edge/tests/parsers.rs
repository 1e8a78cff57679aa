//! The parsers as library functions: whatever the bytes, they do not panic, and what they let through means one
//! thing only.

use std::mem::MaybeUninit;

use evenkeel_edge::fastcgi::translated;
use evenkeel_edge::http::{
    framing::Body,
    head_request::{self, FieldRoom, Forwarding},
    head_response::{self, Delivery},
};
use proptest::prelude::*;

/// What was written for the instance, where the head was understood.
fn rewritten(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
    let head = head_request::parse(input, &mut room, &CLIENT).ok()??;
    let mut out = Vec::new();
    head.write(&mut out, &Forwarding { client: b"192.0.2.1", trusted: false, id: b"id", expect: false });
    Some((out, head.length))
}

/// Pieces of which requests are made, good and bad.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "GET / HTTP/1.1\r\n", "POST /x?y HTTP/1.1\r\n", "GET http://a/ HTTP/1.0\r\n", "Host: a\r\n", "Host: b\r\n",
            "Content-Length: 5\r\n", "Content-Length: 6\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close, x-a\r\n",
            "X-A: 1\r\n", "TE: trailers\r\n", "\r\n", "\n", "\r", " ", ":", "Expect: 100-continue\r\n", "5\r\nhello\r\n", "0\r\n\r\n",
            "X-Forwarded-For: 9.9.9.9\r\n", "Transfer-Encoding : chunked\r\n", " folded\r\n", "Connection: host, content-length\r\n",
            "Connection: keep-alive, Upgrade\r\n", "Upgrade: websocket\r\n", "Upgrade: h2c, a/1, b c\r\n", "Upgrade: H2C\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What is passed on has one Host, at most one statement of its length, no line ending but CRLF, and parses
    /// again to the same framing.
    #[test]
    fn a_request_that_passes_means_one_thing(pieces in prop::collection::vec(piece(), 1..12)) {
        let input = pieces.concat();
        if let Some((out, _)) = rewritten(&input) {
            let text = String::from_utf8_lossy(&out).to_ascii_lowercase();
            prop_assert!(text.ends_with("\r\n\r\n"));
            prop_assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
            prop_assert_eq!(text.matches('\r').count(), text.matches("\r\n").count());
            prop_assert_eq!(text.matches("\r\nhost: ").count(), 1);
            let lengths = text.matches("\r\ncontent-length:").count() + text.matches("\r\ntransfer-encoding:").count();
            prop_assert!(lengths <= 1);
            prop_assert_eq!(text.matches("\r\nx-forwarded-for:").count(), 1);
            prop_assert!(!text.contains("9.9.9.9"));
            prop_assert!(!text.contains("\r\nconnection: close") && !text.contains("h2c"));
            let upgrades = text.matches("\r\nconnection: upgrade\r\nupgrade: ").count();
            // Either another protocol is asked for, or trailers are.
            let trailers = text.matches("\r\nconnection: te\r\nte: trailers\r\n").count();
            prop_assert_eq!(text.matches("\r\nte:").count(), trailers);
            prop_assert_eq!(text.matches("\r\nconnection:").count(), upgrades + trailers);
            prop_assert_eq!(text.matches("\r\nupgrade:").count(), upgrades);
            let mut first: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
            let mut second: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
            let before = head_request::parse(&input, &mut first, &CLIENT).unwrap().unwrap();
            prop_assert_eq!(upgrades, usize::from(before.upgrades));
            prop_assert!(!before.upgrades || (before.minor == 1 && before.body == Body::Empty));
            if !before.authority.is_empty() {
                let after = head_request::parse(&out, &mut second, &CLIENT).unwrap().unwrap();
                prop_assert_eq!(before.body, after.body);
                prop_assert_eq!((before.method, before.path, before.authority), (after.method, after.path, after.authority));
            }
        }
    }

    /// A head is either incomplete at every cut before its end, or refused, and never understood early.
    #[test]
    fn a_cut_head_is_not_understood(pieces in prop::collection::vec(piece(), 1..10), cut in any::<prop::sample::Index>()) {
        let input = pieces.concat();
        if let Some((_, length)) = rewritten(&input) {
            prop_assert!(rewritten(&input[..cut.index(length)]).is_none());
            // What follows the head does not change it.
            prop_assert_eq!(rewritten(&input[..length]), rewritten(&input));
        }
    }

    /// The same for answers.
    #[test]
    fn an_answer_that_passes_means_one_thing(start in prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200\r\n", "HTTP/1.1 204 No\r\n", "HTTP/1.1 101 S\r\n", "HTTP/1.1 103 E\r\n",
    ]), pieces in prop::collection::vec(piece(), 1..10), to_head in any::<bool>()) {
        let input = [vec![start.as_bytes().to_vec()], pieces].concat().concat();
        let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
        if let Ok(Some(head)) = head_response::parse(&input, &mut room, &SERVICE, to_head) {
            let mut out = Vec::new();
            head.write(&mut out, &Delivery { id: b"id", minor: 1, close: false, more: b"" });
            let text = String::from_utf8_lossy(&out).to_ascii_lowercase();
            prop_assert!(text.ends_with("\r\n\r\n"));
            prop_assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
            let lengths = text.matches("\r\ncontent-length:").count() + text.matches("\r\ntransfer-encoding:").count();
            prop_assert!(lengths <= 1);
            let upgrades = text.matches("\r\nconnection: upgrade\r\nupgrade: ").count();
            prop_assert_eq!(upgrades, usize::from(head.status == 101));
            prop_assert_eq!(text.matches("\r\nconnection:").count(), upgrades);
            // A field of another name, as `AUpgrade`, may say what it likes.
            prop_assert!(!text.lines().any(|line| line.starts_with("upgrade:") && line.contains("h2c")));
            prop_assert!(!head.is_upgrade() || !head.is_interim());
            if to_head {
                prop_assert_eq!(head.body, Body::Empty);
            }
        }
    }

    /// What is forwarded, also by a listener that reports, reads the same by other means.
    #[test]
    fn what_is_forwarded_means_the_same_to_others(pieces in prop::collection::vec(piece(), 1..12)) {
        forwarded::request(&pieces.concat());
        forwarded::answer(&[b"HTTP/1.1 200 OK\r\n".to_vec(), pieces.concat()].concat(), false);
    }

    /// Any bytes at all.
    #[test]
    fn nothing_panics(input in prop::collection::vec(any::<u8>(), 0..300)) {
        rewritten(&input);
        let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
        let _ = head_response::parse(&input, &mut room, &SERVICE, false);
    }
}

proptest! {
    /// What speaks FastCGI: whatever comes, what passes is one answer of HTTP, and pieces do not change which.
    #[test]
    fn a_fastcgi_answer_that_passes_is_one_answer(records in prop::collection::vec((
        prop::sample::select(vec![3_u8, 6, 6, 6, 7, 9]),
        prop::sample::select(vec![
            "", "Status: 404 x\r\n", "Content-Length: 2\r\n", "\r\n", "\n", "hi", "A: b\r\n", "\0", "\0\0\0\0\0\0\0\0", "Location: /\n",
        ]),
        0_u8..4,
    ), 0..8), piece in 1_usize..30, to_head in any::<bool>()) {
        let record = |(kind, content, padding): &(u8, &str, u8)| {
            let length = u8::try_from(content.len()).expect("they are short");
            [&[1, *kind, 0, 1, 0, length, *padding, 0], content.as_bytes(), &vec![0; usize::from(*padding)]].concat()
        };
        let input: Vec<u8> = records.iter().flat_map(record).collect();
        let whole = translated(&input, usize::MAX, to_head);
        let pieces = translated(&input, piece, to_head);
        prop_assert_eq!(whole.is_some(), pieces.is_some());
        let read = |out: &[u8]| {
            let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
            let head = head_response::parse(out, &mut room, &SERVICE, to_head).expect("an answer").expect("a whole head");
            let (mut body, mut content) = (head.body, Vec::new());
            let step = body.advance_with(&out[head.length..], |part| content.extend_from_slice(part)).expect("a body");
            assert!(step.done && head.length + step.taken == out.len(), "nothing is missing, and nothing follows");
            (head.status, content)
        };
        if let (Some(whole), Some(pieces)) = (whole, pieces) {
            prop_assert_eq!(read(&whole), read(&pieces));
        }
    }
}

#[path = "fuzzed/body.rs"]
mod body;
#[path = "strict/corpus.rs"]
mod corpus;
#[path = "fuzzed/forwarded.rs"]
mod forwarded;
#[path = "strict/lenient.rs"]
mod lenient;
#[path = "fuzzed/limits.rs"]
mod limits;

use limits::{CLIENT, SERVICE};

/// What the fuzzer has found of interest on this machine, which may be nothing.
fn found(corpus: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/../../fuzz/corpus/{corpus}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|file| std::fs::read(file.path()).expect("a seed can be read")).collect()
}

/// Every message of the corpus of ambiguous ones, and what the fuzzer made of them.
#[test]
fn messages_mean_to_others_what_they_mean_to_the_edge() {
    let mut messages: Vec<Vec<u8>> = corpus::requests().into_iter().map(|case| case.sent).collect();
    messages.extend(corpus::answers().into_iter().map(|case| case.sent));
    messages.extend(["forwarded", "request_head", "response_head"].into_iter().flat_map(found));
    let (mut strict, mut put_right, mut answers) = (0, 0, 0);
    for message in messages {
        let (refusing, reporting) = forwarded::request(&message);
        strict += usize::from(refusing);
        put_right += usize::from(reporting && !refusing);
        answers += usize::from(forwarded::answer(&message, false)) + usize::from(forwarded::answer(&message, true));
    }
    assert!(strict > 50 && put_right > 10 && answers > 20, "{strict}, {put_right}, {answers}");
}

#[test]
fn bodies_mean_the_same_however_they_are_cut() {
    let behind = |sent: Vec<u8>| {
        let end = sent.windows(4).position(|four| four == b"\r\n\r\n")?;
        Some(sent[end + 4..].to_vec())
    };
    let bodies = corpus::requests().into_iter().filter_map(|case| behind(case.sent)).chain(found("body"));
    let refused = bodies.filter(|body| body::run(body)).count();
    assert!(refused > 20, "{refused}");
}

#[path = "fuzzed/fastcgi.rs"]
mod fastcgi;

#[test]
fn the_corpus_of_fastcgi_holds() {
    for input in found("fastcgi") {
        fastcgi::run(&input);
    }
}

/// Answers of scripts as they come, whole and in pieces.
#[test]
fn answers_of_fastcgi_become_answers_of_http() {
    let record = |kind: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("they are short");
        [&[1, kind, 0, 1, 0, length, 0, 0], content].concat()
    };
    let end = record(3, &[0; 8]);
    for (head, begins) in [
        ("Status: 404 Not Found\r\n\r\n", "HTTP/1.1 404 "),
        ("Location: /x\n\n", "HTTP/1.1 302 "),
        ("Content-Length: 2\r\n\r\n", "HTTP/1.1 200 "),
    ] {
        let input = [record(6, head.as_bytes()), record(7, b"notice"), record(6, b"hi"), end.clone()].concat();
        for piece in [1, 7, usize::MAX] {
            let answer = translated(&input, piece, false).expect("it is one");
            assert!(answer.starts_with(begins.as_bytes()), "{head}");
        }
        assert!(fastcgi::run(&input), "{head}");
    }
    for bad in [record(3, &[0, 0, 0, 0, 2, 0, 0, 0]), record(6, b"no colon\n\n"), end, b"HTTP/1.1 200 OK\r\n".to_vec()]
    {
        assert_eq!(translated(&bad, 5, false), None, "{bad:?}");
    }
}

#[path = "fuzzed/cookie.rs"]
mod cookie;

#[test]
fn the_corpus_of_cookies_holds() {
    let stripped = found("cookie").iter().filter(|input| cookie::run(input)).count();
    assert!(stripped >= 2, "{stripped}");
}

#[path = "fuzzed/proxy_header.rs"]
mod proxy_header;

#[test]
fn the_corpus_of_proxy_headers_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/proxy_header");
    let mut understood = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there").flatten() {
        let input = std::fs::read(entry.path()).expect("a seed can be read");
        understood += usize::from(proxy_header::run(&input).is_some());
    }
    assert!(understood >= 12, "{understood}");
}
