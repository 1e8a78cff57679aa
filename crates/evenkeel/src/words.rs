//! Numbers and times as people read them.

use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use evenkeel_core::{stack, time::WallTime};
use serde::de::{Deserialize, IntoDeserializer, value::StrDeserializer};

/// `12304` as `12,304`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds as a latency: `0.4 ms`, `12 ms`, `1.2 s`.
pub(crate) fn latency(ms: f64) -> String {
    if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_304, "12,304"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
    }

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
    fn latencies_keep_two_digits() {
        for (ms, text) in [(0.04, "0.0 ms"), (1.24, "1.2 ms"), (9.96, "10 ms"), (812.0, "812 ms"), (1234.0, "1.2 s")] {
            assert_eq!(latency(ms), text);
        }
    }

    #[test]
    fn durations_are_written_as_in_a_stack_file() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert!(duration("30").unwrap_err().contains("with its unit"));
    }
}
