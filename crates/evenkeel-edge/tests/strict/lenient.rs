//! Heads that are put right, and heads that stay refused, one by one.

use evenkeel_core::ambiguity::Ambiguity;
use evenkeel_edge::http::lenient::{Amended, amend};

use super::limits::CLIENT;

fn amended(input: &str) -> Option<(String, Vec<Ambiguity>)> {
    match amend(input.as_bytes(), &CLIENT) {
        Amended::Head { head, length, found } => {
            assert!(input.as_bytes()[..length].ends_with(b"\n"));
            Some((String::from_utf8(head).expect("text becomes text"), found))
        }
        Amended::More | Amended::No => None,
    }
}

#[test]
fn what_has_one_meaning_is_put_right() {
    let cases = [
        ("GET / HTTP/1.1\nHost: a\n\nrest", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ambiguity::BareLf),
        ("\nGET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ambiguity::BareLf),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: b  \r\n\t c\r\n  d\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b c d\r\n\r\n",
            Ambiguity::Folded,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\nHost: a\r\ncontent-length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
            Ambiguity::RepeatedLength,
        ),
        ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%C3%A9 HTTP/1.1\r\nHost: a\r\n\r\n", Ambiguity::RawTarget),
        (
            "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://b/x HTTP/1.1\r\nHost: b\r\n\r\n",
            Ambiguity::OtherHost,
        ),
    ];
    for (input, output, what) in cases {
        assert_eq!(amended(input), Some((output.to_owned(), vec![what])), "{input:?}");
    }
}

#[test]
fn what_has_two_meanings_stays_refused() {
    for input in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\n folded\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: b\r\n Transfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tcontent_length : 3\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n Host: d\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 03\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(amended(input), None, "{input:?}");
    }
}

#[test]
fn an_incomplete_head_is_waited_for_within_its_bound() {
    assert_eq!(amend(b"GET / HTTP/1.1\nHost: a\n", &CLIENT), Amended::More);
    let long = format!("GET / HTTP/1.1\nX: {}", "x".repeat(20_000));
    assert_eq!(amend(long.as_bytes(), &CLIENT), Amended::No);
}
