//! Numbers and times as people read them.

use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) use evenkeel_core::words::{count, latency};
use evenkeel_core::{stack, time::WallTime};
use serde::de::{Deserialize, IntoDeserializer, value::StrDeserializer};

/// Milliseconds as a span with at most two units: `0s`, `42s`, `3m 12s`, `5h 2m`, `4d 7h`.
pub(crate) fn span(ms: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let seconds = ms / 1000;
    let Some(first) = UNITS.iter().position(|(_, length)| seconds >= *length) else {
        return "0s".to_owned();
    };
    let (unit, length) = UNITS[first];
    let mut text = format!("{}{unit}", seconds / length);
    if let Some((unit, smaller)) = UNITS.get(first + 1) {
        let rest = seconds % length / smaller;
        if rest > 0 {
            let _ = write!(text, " {rest}{unit}");
        }
    }
    text
}

/// How long ago `then` was, seen from `now`; zero where clocks disagree.
pub(crate) fn since(then: WallTime, now: WallTime) -> String {
    span(now.as_millis().saturating_sub(then.as_millis()))
}

/// A duration as a stack file has it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let source: StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
    let parsed = stack::Duration::deserialize(source).map_err(|error| error.to_string())?;
    Ok(Duration::from_millis(parsed.as_ms()))
}

/// The present.
pub(crate) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What the kernel and libraries say of broken connections and failed writes, and the same in plain words.
const PLAIN: [(&str, &str); 12] = [
    ("Connection refused (os error 111)", "nobody accepts connections there (connection refused)"),
    ("Connection reset by peer (os error 104)", "the other side broke the connection off"),
    ("Broken pipe (os error 32)", "the other side had closed the connection"),
    ("Connection timed out (os error 110)", "nobody answered in time"),
    ("Network is unreachable (os error 101)", "no network leads there"),
    ("Cannot assign requested address (os error 99)", "this machine has no free port left"),
    ("Too many open files (os error 24)", "this process may open no more files or connections"),
    ("No space left on device (os error 28)", "the disk is full"),
    ("File too large (os error 27)", "files may have no more bytes"),
    (": connection closed before message completed", ""),
    (": connection error", ""),
    (", without `Connection: close`", ", unannounced"),
];

/// An error in plain words: without the numbers of the kernel, and without what a library adds for programmers.
pub(crate) fn plain(text: &str) -> String {
    let mut text = PLAIN.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    while let Some(from) = text.find(" (os error ") {
        let Some(length) = text[from..].find(')') else { break };
        text.replace_range(from..=from + length, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (ms, text) in [
            (0, "0s"),
            (999, "0s"),
            (42_000, "42s"),
            (192_000, "3m 12s"),
            (180_000, "3m"),
            (18_120_000, "5h 2m"),
            (370_800_000, "4d 7h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn durations_are_written_as_in_a_stack_file() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert!(duration("30").unwrap_err().contains("with its unit"));
    }

    #[test]
    fn numbers_of_the_kernel_are_translated_or_left_out() {
        for (text, said) in [
            (
                "GET /: Connection refused (os error 111)",
                "GET /: nobody accepts connections there (connection refused)",
            ),
            ("it broke: connection error", "it broke"),
            ("Owner died (os error 130), twice (os error 1)", "Owner died, twice"),
            ("cut (os error 1", "cut (os error 1"),
            ("status 502", "status 502"),
        ] {
            assert_eq!(plain(text), said);
        }
    }
}
