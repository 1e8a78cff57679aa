//! Cookies of the edge's own in a head that was written for an instance.
#![no_main]

#[path = "../../crates/evenkeel-edge/tests/fuzzed/cookie.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzzed::run(input);
});
