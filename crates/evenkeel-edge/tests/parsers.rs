//! The parsers as library functions: whatever the bytes, they do not panic, and what they let through means one
//! thing only.

use std::mem::MaybeUninit;

use evenkeel_core::snapshot::{ClientLimits, ServiceLimits};
use evenkeel_edge::http::{
    framing::Body,
    head_request::{self, FieldRoom, Forwarding},
    head_response::{self, Delivery},
};
use proptest::prelude::*;

const LIMITS: ClientLimits = ClientLimits {
    head_bytes: 4096,
    headers: 32,
    target_bytes: 1024,
    body_bytes: 1 << 20,
    head_timeout_ms: 1,
    body_idle_ms: 1,
    keep_alive_ms: 1,
    connections: 1,
    connections_per_client: 0,
};

const SERVICE: ServiceLimits = ServiceLimits {
    connect_timeout_ms: 1,
    response_timeout_ms: 1,
    idle_timeout_ms: 1,
    tunnel_idle_ms: 3_600_000,
    in_flight_per_instance: 0,
    head_bytes: 4096,
    whole_bytes: 65_536,
    silent_after_ms: 0,
    idle_connections: 1,
};

/// What was written for the instance, where the head was understood.
fn rewritten(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
    let head = head_request::parse(input, &mut room, &LIMITS).ok()??;
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
            prop_assert!(!text.contains("9.9.9.9") && !text.contains("\r\nte:"));
            prop_assert!(!text.contains("\r\nconnection: close") && !text.contains("h2c"));
            let upgrades = text.matches("\r\nconnection: upgrade\r\nupgrade: ").count();
            prop_assert_eq!(text.matches("\r\nconnection:").count(), upgrades);
            prop_assert_eq!(text.matches("\r\nupgrade:").count(), upgrades);
            let mut first: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
            let mut second: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
            let before = head_request::parse(&input, &mut first, &LIMITS).unwrap().unwrap();
            prop_assert_eq!(upgrades, usize::from(before.upgrades));
            prop_assert!(!before.upgrades || (before.minor == 1 && before.body == Body::Empty));
            if !before.authority.is_empty() {
                let after = head_request::parse(&out, &mut second, &LIMITS).unwrap().unwrap();
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
            head.write(&mut out, &Delivery { id: b"id", minor: 1, close: false });
            let text = String::from_utf8_lossy(&out).to_ascii_lowercase();
            prop_assert!(text.ends_with("\r\n\r\n"));
            prop_assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
            let lengths = text.matches("\r\ncontent-length:").count() + text.matches("\r\ntransfer-encoding:").count();
            prop_assert!(lengths <= 1);
            let upgrades = text.matches("\r\nconnection: upgrade\r\nupgrade: ").count();
            prop_assert_eq!(upgrades, usize::from(head.status == 101));
            prop_assert_eq!(text.matches("\r\nconnection:").count(), upgrades);
            prop_assert!(!text.contains("h2c"));
            prop_assert!(!head.is_upgrade() || !head.is_interim());
            if to_head {
                prop_assert_eq!(head.body, Body::Empty);
            }
        }
    }

    /// Any bytes at all.
    #[test]
    fn nothing_panics(input in prop::collection::vec(any::<u8>(), 0..300)) {
        rewritten(&input);
        let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
        let _ = head_response::parse(&input, &mut room, &SERVICE, false);
    }
}
