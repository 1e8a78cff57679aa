//! Heads of answers: no panic, and what was written for the client ends where it says.
#![no_main]

#[path = "../../crates/evenkeel-edge/tests/fuzzed/limits.rs"]
mod limits;

use std::mem::MaybeUninit;

use evenkeel_edge::http::{
    head_request::FieldRoom,
    head_response::{Delivery, parse},
};
use limits::SERVICE;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
    let Ok(Some(head)) = parse(input, &mut room, &SERVICE, false) else { return };
    assert!(head.length <= input.len());
    let mut out = Vec::new();
    head.write(&mut out, &Delivery { id: b"id", minor: 1, close: false, more: b"" });
    let ends = out.windows(4).position(|window| window == b"\r\n\r\n");
    assert!(!(head.is_upgrade() && head.is_interim()), "either another protocol or another head follows");
    assert_eq!(ends, Some(out.len() - 4), "the client sees one head and nothing behind it");
});
