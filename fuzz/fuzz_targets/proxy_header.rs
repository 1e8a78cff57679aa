//! PROXY headers: no panic, nothing is taken beyond the header, and what was understood is written and understood anew.
#![no_main]

#[path = "../../crates/evenkeel-edge/tests/fuzzed/proxy_header.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    body::run(input);
});
