//! Bounds of numbers that somebody asks with: what is beyond them is refused with the bound, not understood otherwise.

use std::ops::RangeInclusive;

use evenkeel_core::time::WallTime;

use super::error::ApiError;

/// The end of the year 9999, UTC, in milliseconds since the Unix epoch: the last that has four digits.
const LAST_MS: u64 = 253_402_300_799_999;

/// A moment that a field of a query names, in milliseconds since the Unix epoch.
pub(super) fn moment(name: &str, ms: Option<u64>) -> Result<Option<WallTime>, ApiError> {
    within(name, ms, 0..=LAST_MS, "milliseconds since the Unix epoch").map(|ms| ms.map(WallTime::from_millis))
}

/// A number that a field holds, if it is within the bounds. `what` says what it counts.
pub(super) fn within(
    name: &str,
    value: Option<u64>,
    bounds: RangeInclusive<u64>,
    what: &str,
) -> Result<Option<u64>, ApiError> {
    let (least, most) = (bounds.start(), bounds.end());
    match value {
        Some(value) if !bounds.contains(&value) => {
            let hint = format!("`{name}` is from {least} to {most} {what}.");
            Err(ApiError::new(400, format!("`{name}` is out of bounds: {value}"), hint))
        }
        value => Ok(value),
    }
}
