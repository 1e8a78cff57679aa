//! Request heads: no panic, and what was written for the instance is understood by the same rules in the same way.
#![no_main]

#[path = "../../crates/evenkeel-edge/tests/fuzzed/limits.rs"]
mod limits;

use std::mem::MaybeUninit;

use evenkeel_core::snapshot::ClientLimits;
use evenkeel_edge::http::head_request::{FieldRoom, Forwarding, parse};
use limits::CLIENT;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
    let Ok(Some(head)) = parse(input, &mut room, &CLIENT) else { return };
    assert!(head.length <= input.len());
    let mut out = Vec::new();
    head.write(&mut out, &Forwarding { client: b"192.0.2.1", trusted: false, id: b"id", expect: false });

    // A client of HTTP/1.0 may name no host; the instance is told so by an empty field (RFC 9112 section 3.2), which
    // the edge itself would not take from a client.
    if head.host().is_empty() {
        return;
    }
    // The bounds hold for what clients send; what the edge adds may exceed them.
    let wide = ClientLimits { head_bytes: 1 << 20, headers: 250, target_bytes: 1 << 20, ..CLIENT };
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
    let again = parse(&out, &mut room, &wide).expect("what the edge writes is strict").expect("and complete");
    assert_eq!(again.length, out.len(), "nothing of it is left over");
    assert_eq!(again.body, head.body, "both sides see the same body");
    assert_eq!(again.host(), head.host(), "and the same host");
    assert_eq!(again.upgrades, head.upgrades, "and the same wish for another protocol");
});
