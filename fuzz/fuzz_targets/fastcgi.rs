//! What FastCGI instances and servers of gRPC say, and paths of clients that are to lead to scripts.
#![no_main]

use evenkeel_edge::probe::grpc::serving_status;

#[path = "../../crates/evenkeel-edge/tests/fuzzed/fastcgi.rs"]
mod fuzzed;
#[path = "../../crates/evenkeel-edge/tests/fuzzed/limits.rs"]
mod limits;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = serving_status(input);
    fuzzed::run(input);
});
