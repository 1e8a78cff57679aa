//! Whole messages, of listeners that refuse and that report, and answers: what is forwarded means the same to whoever
//! takes it apart by other means.
#![no_main]

#[path = "../../crates/evenkeel-edge/tests/fuzzed/forwarded.rs"]
mod forwarded;
#[path = "../../crates/evenkeel-edge/tests/fuzzed/limits.rs"]
mod limits;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if input.starts_with(b"HTTP/") {
        forwarded::answer(input, false);
        forwarded::answer(input, true);
    } else {
        forwarded::request(input);
    }
});
