//! Notices that the wall clock was set, by what a clock shows that nobody can set. Entries keep their order by id
//! whatever their times say; this says where the times cannot be compared. Pure.

use std::time::Duration;

use evenkeel_core::{
    journal::{Entry, Level, Reason},
    time::{WallTime, in_words},
};

/// What two clocks may differ by without anybody having set one: a slewed clock and a late thread.
const TOLERATED: Duration = Duration::from_secs(2);

/// Compares the clocks from entry to entry.
#[derive(Debug, Default)]
pub(super) struct ClockStep {
    /// What both clocks showed last.
    last: Option<(WallTime, Duration)>,
}

impl ClockStep {
    /// Takes what the wall clock and the time since boot (`CLOCK_BOOTTIME`, `clock_gettime(2)`) show. An entry where
    /// the former was set in between.
    pub(super) fn look(&mut self, wall: WallTime, boot: Duration) -> Option<Entry> {
        let (before, boot_before) = self.last.replace((wall, boot))?;
        let expected = u128::from(before.as_millis()) + boot.saturating_sub(boot_before).as_millis();
        let by = Duration::from_millis(u64::try_from(expected.abs_diff(wall.as_millis().into())).unwrap_or(u64::MAX));
        if by < TOLERATED {
            return None;
        }
        let (direction, times) = if expected > wall.as_millis().into() {
            ("back", "later than they were")
        } else {
            ("forward", "earlier than they were by the new clock")
        };
        Some(Entry {
            id: 0,
            at: wall,
            level: Level::Warning,
            subject: "node".to_owned(),
            kind: "clock-step".to_owned(),
            message: format!(
                "the machine's clock was set {direction} by {}: times before this entry look {times}",
                in_words(by)
            ),
            reasons: vec![
                Reason::seen("the wall clock and the time since boot disagree"),
                Reason::rule("durations are measured by a clock that cannot be set, so nothing was decided by it"),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_from_time_that_passes() {
        let wall = WallTime::from_millis;
        let mut step = ClockStep::default();
        assert_eq!(step.look(wall(10_000_000), Duration::from_secs(5)), None);
        assert_eq!(step.look(wall(13_600_000), Duration::from_secs(3605)), None, "an hour passed");
        assert_eq!(step.look(wall(13_601_500), Duration::from_secs(3605)), None, "slewed, or a late thread");
        let back = step.look(wall(10_001_500), Duration::from_secs(3605)).unwrap();
        assert!(back.message.contains("set back by 3600 s"), "{}", back.message);
        let forward = step.look(wall(20_001_500), Duration::from_secs(3605)).unwrap();
        assert!(forward.message.contains("set forward by 10000 s"), "{}", forward.message);
        assert_eq!(step.look(wall(20_001_500), Duration::from_secs(3605)), None, "said once");
    }
}
