//! Rewritten targets and `Accept-Encoding`.
#![no_main]

#[path = "../../crates/evenkeel-edge/tests/fuzzed/rewrite.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzed::run(input));
