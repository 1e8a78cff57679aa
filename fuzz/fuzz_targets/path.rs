//! Paths of requests, in the normal form in which routes are found.
#![no_main]

#[path = "../../crates/evenkeel-edge/tests/fuzzed/path.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzzed::run(input);
});
