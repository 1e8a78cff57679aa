//! Durations and sizes as people write them: `250ms`, `1s`, `5m`, `64KiB`, `16MiB`.
//!
//! A number without a unit is refused, since nobody can know what its writer meant.

use std::fmt;

use super::textual::textual;

/// A duration in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(u64);

impl Duration {
    /// `ms` milliseconds.
    pub const fn ms(ms: u64) -> Self {
        Self(ms)
    }

    /// `s` seconds.
    pub const fn s(s: u64) -> Self {
        Self(s * 1000)
    }

    /// In milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.0
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// In bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Splits `text` into a decimal number and one of `units` and multiplies; `None` for anything else.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let scale = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Nine digits are more than any unit here can tell apart, and they cannot overflow.
    let known_digits = fraction.len() <= 9 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    let parts = 10_u128.pow(u32::try_from(fraction.len()).ok().filter(|_| known_digits)?);
    let numerator: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let rest = u64::try_from(u128::from(scale) * numerator / parts).ok()?;
    let value = whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(rest)?;
    (!number.ends_with('.')).then_some(value)
}

/// Writes `value` with the largest unit that leaves a whole number.
fn shortest(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fits = |(_, scale): &&(&str, u64)| value != 0 && value.is_multiple_of(*scale);
    let (unit, scale) = units.iter().filter(fits).max_by_key(|(_, scale)| *scale).unwrap_or(&units[0]);
    write!(f, "{}{unit}", value / scale)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shortest(self.0, &DURATION_UNITS, f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shortest(self.0, &SIZE_UNITS, f)
    }
}

textual!(
    Duration,
    |text| scaled(text, &DURATION_UNITS).map(Duration),
    "a duration with its unit, as \"250ms\", \"1s\", \"5m\", \"2h\" or \"7d\"",
    "^[0-9]+(\\.[0-9]+)? *(ms|s|m|h|d)$"
);
textual!(
    Size,
    |text| scaled(text, &SIZE_UNITS).map(Size),
    "a size with its unit, as \"512B\", \"64KiB\", \"16MiB\" or \"1GB\"",
    "^[0-9]+(\\.[0-9]+)? *(B|KiB|MiB|GiB|kB|MB|GB)$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in
            [("250ms", 250), ("1s", 1000), ("1.5s", 1500), ("5m", 300_000), ("2 h", 7_200_000), ("0ms", 0)]
        {
            assert_eq!(scaled(text, &DURATION_UNITS), Some(ms), "{text}");
        }
        assert_eq!(scaled("64KiB", &SIZE_UNITS), Some(65_536));
        assert_eq!(scaled("1.5MiB", &SIZE_UNITS), Some(1_572_864));
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "1", "s", "1 second", "-1s", "1.s", "..s", "1e3s", "99999999999999999999s", "1S"] {
            assert_eq!(scaled(text, &DURATION_UNITS), None, "{text}");
        }
    }

    #[test]
    fn writes_the_shortest_form() {
        assert_eq!(Duration::ms(1500).to_string(), "1500ms");
        assert_eq!(Duration::s(120).to_string(), "2m");
        assert_eq!(Duration::ms(0).to_string(), "0ms");
        assert_eq!(Size::kib(64).to_string(), "64KiB");
    }
}
