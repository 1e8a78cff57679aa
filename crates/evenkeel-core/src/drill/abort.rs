//! When a drill is given up because it harms clients more than was agreed.
//!
//! Fed with what clients saw, tick by tick. It owns the sums of the last ticks and nothing else.

use std::collections::VecDeque;

use super::{Tick, in_words, series::TICK_MS};
use crate::stack::Abort;

/// Fewer requests say nothing about a share. A service that takes its time answers no more than this in a while, and a
/// drill has no more than ten clients that could wait.
const FEWEST: u64 = 5;

/// The condition, and what it has seen.
#[derive(Clone, Debug)]
pub struct Brake {
    abort: Abort,
    /// From when on a request that has not ended counts as failing, in milliseconds.
    overdue_ms: u64,
    window: VecDeque<Seen>,
}

/// What counts of one tick.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    requests: u64,
    errors: u64,
    /// A client that waits sends nothing: were its one request counted once, the many answers that others have in the
    /// meantime would hide it, so it counts in each tick in which it waits.
    overdue: u64,
}

impl Brake {
    /// Nothing was seen yet. A request that has not ended after `overdue_ms` is failing.
    pub fn new(abort: Abort, overdue_ms: u64) -> Self {
        Self { abort, overdue_ms, window: VecDeque::new() }
    }

    /// One more tick; why the drill must end now, if it must.
    pub fn on(&mut self, tick: &Tick) -> Option<String> {
        let ticks = (self.abort.after.as_ms() / TICK_MS).max(1);
        let &Tick { requests, errors, overdue, .. } = tick;
        self.window.push_back(Seen { requests, errors, overdue });
        while self.window.len() as u64 > ticks {
            self.window.pop_front();
        }
        let sum = |of: fn(&Seen) -> u64| self.window.iter().map(of).sum::<u64>();
        let (requests, errors, waits) = (sum(|seen| seen.requests), sum(|seen| seen.errors), sum(|seen| seen.overdue));
        let (all, bad) = (requests + waits, errors + waits);
        let full = self.window.len() as u64 == ticks;
        let too_many = all >= FEWEST && bad * 100 >= all * u64::from(self.abort.errors);
        (full && too_many).then(|| self.why(requests, errors))
    }

    fn why(&self, requests: u64, errors: u64) -> String {
        let over = in_words(self.abort.after.as_ms());
        let most = self.window.iter().map(|seen| seen.overdue).max().unwrap_or(0);
        let waited = match most {
            0 => String::new(),
            _ => format!(" and up to {most} at once waited for more than {}", in_words(self.overdue_ms)),
        };
        format!(
            "{errors} of {requests} requests failed{waited} in the last {over}, and {} % end a drill",
            self.abort.errors
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Duration;

    #[test]
    fn only_a_lasting_share_of_errors_ends_a_drill() {
        let tick = |requests, errors| Tick { requests, errors, ..Tick::default() };
        let mut brake = Brake::new(Abort { errors: 50, after: Duration::ms(300) }, 10_000);
        assert_eq!(brake.on(&tick(10, 10)), None, "too early");
        assert_eq!(brake.on(&tick(10, 10)), None);
        assert_eq!(brake.on(&tick(21, 0)), None, "20 of 41 are less than half");
        assert_eq!(brake.on(&tick(0, 0)), None, "10 of 31 of the last three");
        assert_eq!(brake.on(&tick(0, 0)), None, "none of the last three");
        assert_eq!(brake.on(&tick(30, 14)), None);
        assert_eq!(
            brake.on(&tick(30, 26)),
            Some("40 of 60 requests failed in the last 300 ms, and 50 % end a drill".to_owned())
        );
        let why = brake.on(&tick(10, 9)).unwrap();
        assert_eq!(why, "49 of 70 requests failed in the last 300 ms, and 50 % end a drill");
    }

    #[test]
    fn few_requests_say_nothing() {
        let mut brake = Brake::new(Abort { errors: 50, after: Duration::ms(100) }, 10_000);
        assert_eq!(brake.on(&Tick { requests: FEWEST - 1, errors: FEWEST - 1, ..Tick::default() }), None);
    }
    #[test]
    fn clients_that_wait_for_ever_end_a_drill_although_nothing_ends() {
        let mut brake = Brake::new(Abort { errors: 50, after: Duration::ms(300) }, 10_000);
        let tick = |requests, overdue| Tick { requests, overdue, ..Tick::default() };
        assert_eq!(brake.on(&tick(20, 0)), None);
        assert_eq!(brake.on(&tick(0, 0)), None, "they wait, but not for long");
        assert_eq!(brake.on(&tick(0, 10)), None, "10 of 30");
        assert_eq!(
            brake.on(&tick(0, 10)),
            Some(
                "0 of 0 requests failed and up to 10 at once waited for more than 10.0 s in the last 300 ms, and 50 % \
                 end a drill"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_client_that_waits_is_not_hidden_by_the_answers_of_others() {
        let mut brake = Brake::new(Abort { errors: 50, after: Duration::ms(300) }, 10_000);
        // Six of ten wait: the other four have four answers a tick between them.
        let some = Tick { requests: 4, overdue: 6, ..Tick::default() };
        assert_eq!((brake.on(&some), brake.on(&some)), (None, None));
        assert!(brake.on(&some).is_some());
        let mut brake = Brake::new(Abort { errors: 50, after: Duration::ms(300) }, 10_000);
        let few = Tick { requests: 14, overdue: 3, ..Tick::default() };
        assert_eq!((brake.on(&few), brake.on(&few), brake.on(&few)), (None, None, None), "one hung instance of three");
    }

    #[test]
    fn a_slow_service_has_a_brake_too() {
        let mut brake = Brake::new(Abort { errors: 50, after: Duration::s(5) }, 10_000);
        let failed = |n: u64| Tick {
            requests: u64::from(n.is_multiple_of(10)),
            errors: u64::from(n.is_multiple_of(10)),
            ..Tick::default()
        };
        let ended = (0..100).find_map(|n| brake.on(&failed(n)));
        assert_eq!(ended.as_deref(), Some("5 of 5 requests failed in the last 5.0 s, and 50 % end a drill"));
    }
}
