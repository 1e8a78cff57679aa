//! Bodies: no panic, and the same meaning however the bytes are cut.
#![no_main]

#[path = "../../crates/evenkeel-edge/tests/fuzzed/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    body::run(input);
});
