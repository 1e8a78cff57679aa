//! What must hold of chunked bodies whatever the bytes: no panic, and the same meaning however they are cut. Shared by the
//! fuzzer and by the test that replays its corpus.
#![allow(unreachable_pub)] // Who includes it decides who sees it.

use evenkeel_edge::http::framing::{Body, Chunked};

/// Whether it is refused, wherever it is cut.
pub fn run(input: &[u8]) -> bool {
    let whole = read(input, input.len().max(1));
    assert_eq!(whole, read(input, 1), "cut at every byte");
    assert_eq!(whole, read(input, 3), "cut at every third byte");
    whole.is_none()
}

/// Content and framed length of a chunked body that arrives in pieces of `size`; `None` if it is refused.
fn read(input: &[u8], size: usize) -> Option<(Vec<u8>, usize, bool)> {
    let mut body = Body::Chunked(Chunked::default());
    let (mut content, mut taken, mut done) = (Vec::new(), 0, false);
    for piece in input.chunks(size) {
        let step = body.advance_with(piece, |part| content.extend_from_slice(part)).ok()?;
        taken += step.taken;
        done = step.done;
        if done {
            break;
        }
    }
    Some((content, taken, done))
}
