//! When a drill is given up because it harms clients more than was agreed.
//!
//! Fed with what clients saw, tick by tick. It owns the sums of the last ticks and nothing else.

use std::collections::VecDeque;

use super::{Tick, in_words, series::TICK_MS};
use crate::stack::Abort;

/// Fewer requests say nothing about a share.
const FEWEST: u64 = 20;

/// The condition, and what it has seen.
#[derive(Clone, Debug)]
pub struct Brake {
    abort: Abort,
    /// Requests and errors of the last ticks.
    window: VecDeque<(u64, u64)>,
}

impl Brake {
    /// Nothing was seen yet.
    pub fn new(abort: Abort) -> Self {
        Self { abort, window: VecDeque::new() }
    }

    /// One more tick; why the drill must end now, if it must.
    pub fn on(&mut self, tick: &Tick) -> Option<String> {
        let ticks = (self.abort.after.as_ms() / TICK_MS).max(1);
        self.window.push_back((tick.requests, tick.errors));
        while self.window.len() as u64 > ticks {
            self.window.pop_front();
        }
        let (requests, errors) = self.window.iter().fold((0, 0), |(r, e), tick| (r + tick.0, e + tick.1));
        let full = self.window.len() as u64 == ticks;
        let too_many = requests >= FEWEST && errors * 100 >= requests * u64::from(self.abort.errors);
        (full && too_many).then(|| {
            let over = in_words(self.abort.after.as_ms());
            format!(
                "{errors} of {requests} requests failed in the last {over}, and {} % end a drill",
                self.abort.errors
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Duration;

    #[test]
    fn only_a_lasting_share_of_errors_ends_a_drill() {
        let tick = |requests, errors| Tick { requests, errors, ..Tick::default() };
        let mut brake = Brake::new(Abort { errors: 50, after: Duration::ms(300) });
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
        let mut brake = Brake::new(Abort { errors: 50, after: Duration::ms(100) });
        assert_eq!(brake.on(&Tick { requests: FEWEST - 1, errors: FEWEST - 1, ..Tick::default() }), None);
    }
}
