//! What must hold of cookies of the edge's own in a head that was written for an instance, whatever the bytes: no panic,
//! nothing of that name is left, and every other line stays as it is. Shared by the fuzzer and by the test that replays
//! its corpus.
#![allow(unreachable_pub)] // Who includes it decides who sees it.

use evenkeel_edge::http::cookie::{strip, token, value};

const NAME: &[u8] = b"keel";

/// Whether something was taken out.
pub fn run(input: &[u8]) -> bool {
    let lines = |head: &[u8]| -> Vec<Vec<u8>> { head.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect() };
    let cookie = |line: &Vec<u8>| line.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"cookie:"));
    let head = [b"GET / HTTP/1.1\r\n", input, b"\r\n\r\n"].concat();
    let mut out = head.clone();
    strip(&mut out, NAME);
    assert!(out.len() <= head.len());
    for line in lines(&out).iter().filter(|line| cookie(line)) {
        assert_eq!(value(&line[7..], NAME), None);
    }
    let others = |head: &[u8]| -> Vec<Vec<u8>> { lines(head).into_iter().filter(|line| !cookie(line)).collect() };
    assert_eq!(others(&out), others(&head));
    if let Some(token) = token(input) {
        assert_eq!(format!("{token:016x}").as_bytes(), input);
    }
    out != head
}
