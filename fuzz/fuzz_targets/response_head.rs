//! Heads of answers: no panic, and what was written for the client ends where it says.
#![no_main]

use std::mem::MaybeUninit;

use evenkeel_core::snapshot::ServiceLimits;
use evenkeel_edge::http::{
    head_request::FieldRoom,
    head_response::{Delivery, parse},
};

const LIMITS: ServiceLimits = ServiceLimits {
    connect_timeout_ms: 1,
    response_timeout_ms: 1,
    idle_timeout_ms: 1,
    tunnel_idle_ms: 3_600_000,
    in_flight_per_instance: 0,
    head_bytes: 16 << 10,
    whole_bytes: 65_536,
    silent_after_ms: 0,
    idle_connections: 1,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut room: FieldRoom<'_> = [const { MaybeUninit::uninit() }; 256];
    let Ok(Some(head)) = parse(input, &mut room, &LIMITS, false) else { return };
    assert!(head.length <= input.len());
    let mut out = Vec::new();
    head.write(&mut out, &Delivery { id: b"id", minor: 1, close: false, more: b"" });
    let ends = out.windows(4).position(|window| window == b"\r\n\r\n");
    assert!(!(head.is_upgrade() && head.is_interim()), "either another protocol or another head follows");
    assert_eq!(ends, Some(out.len() - 4), "the client sees one head and nothing behind it");
});
