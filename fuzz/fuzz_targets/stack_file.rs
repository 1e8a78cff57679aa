//! Stack files: no panic, and every diagnostic points into the text.
#![no_main]

use evenkeel_core::stack::parse;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(diagnostics) = parse(text, "keel.toml") {
        assert!(!diagnostics.faults.is_empty());
        assert!(!diagnostics.to_string().is_empty());
        for span in diagnostics.faults.iter().filter_map(|fault| fault.span.as_ref()) {
            assert!(span.end <= text.len());
        }
    }
});
