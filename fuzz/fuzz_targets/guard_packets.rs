//! Packets of the guard: no panic, and what can be read is written in one way only.
#![no_main]

use evenkeel_core::guard::{EdgeNotice, Notice, Order, wire::Message};

fn round<M: Message + PartialEq + std::fmt::Debug>(input: &[u8]) {
    if let Ok(message) = M::decode(input) {
        let bytes = message.encode().expect("what was read fits into a packet");
        assert_eq!(M::decode(&bytes).expect("what was written can be read"), message);
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    round::<Order>(input);
    round::<Notice>(input);
    round::<EdgeNotice>(input);
});
