//! Which request may be sent again, and how often.
//!
//! [`may_repeat`] decides for one request after one failed try: safe is what never reached an instance, what is
//! idempotent by its method (RFC 9110 section 9.2.2), and what its client marked with an `Idempotency-Key` where
//! the route believes in it. [`Budget`] bounds how many tries all requests of a service may add, so that retries
//! never multiply an overload: a share of the requests of the last ten seconds plus a few a second.

use std::time::Duration;

use crate::{
    snapshot::{Hold, Retry},
    time::Moment,
};

/// What is known of a request whose try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
pub struct Attempt {
    /// Its method is idempotent, see [`is_idempotent`].
    pub idempotent: bool,
    /// It carries an `Idempotency-Key` and its route opts in.
    pub keyed: bool,
    /// How much of it an instance may have seen.
    pub sent: Sent,
    /// Everything that was sent is still at hand.
    pub replayable: bool,
    /// At least one byte of an answer has reached the client.
    pub answered: bool,
    /// Tries made so far, the first one included.
    pub tries: u8,
}

/// How much of a request an instance may have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// No byte: the connection could not be opened.
    Nothing,
    /// At least one byte, or nobody knows.
    Something,
}

/// Whether a request may be sent again after a failed try. The budget is asked separately.
pub fn may_repeat(attempt: Attempt, retry: &Retry) -> bool {
    if attempt.answered || !attempt.replayable || attempt.tries > retry.max {
        return false;
    }
    attempt.sent == Sent::Nothing || attempt.idempotent || attempt.keyed
}

/// How many instances died while they worked on one request and on nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LonelyDeaths(u8);

impl LonelyDeaths {
    /// One more did.
    pub fn note(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// Whether the request is taken for their cause. A third instance is then not put at risk, though the method would
    /// allow it: an instance that dies takes the requests of others with it. Where others were in flight any of them
    /// may have been the cause, so that does not count.
    pub const fn accuse(self) -> bool {
        self.0 >= 2
    }
}

/// Whether a method is idempotent by RFC 9110 section 9.2.2: sending it twice means the same as once. Methods
/// are case-sensitive (section 9.1); one that is not registered there is taken as not idempotent.
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}

/// How far back the budget looks, in seconds.
const WINDOW_S: u64 = 10;
const SLOTS: usize = 10;

/// What happened to a service's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This many requests came since the last time they were reported.
    Requests(u32),
    /// A request would like to be sent again.
    Retry,
}

/// The answer to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Noted, or the retry may be made and is counted.
    Granted,
    /// The budget is used up: the failure goes to the client.
    Exhausted,
}

/// The retry budget of one service: a window of ten slots of one second each.
#[derive(Clone, Debug)]
pub struct Budget {
    slots: [Slot; SLOTS],
    /// The second that the newest slot stands for.
    second: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u32,
    retries: u32,
}

impl Budget {
    /// An unused budget.
    pub fn new(now: Moment) -> Self {
        Self { slots: [Slot::default(); SLOTS], second: second(now) }
    }

    /// Takes note of an event. A retry is granted while the retries of the window are fewer than
    /// `budget_percent` of its requests plus `budget_min_per_s` for each of its seconds.
    pub fn on(&mut self, event: Event, retry: &Retry, now: Moment) -> Answer {
        let at = self.advance(second(now));
        match event {
            Event::Requests(n) => {
                self.slots[at].requests = self.slots[at].requests.saturating_add(n);
                Answer::Granted
            }
            Event::Retry => {
                let requests: u64 = self.slots.iter().map(|slot| u64::from(slot.requests)).sum();
                let retries: u64 = self.slots.iter().map(|slot| u64::from(slot.retries)).sum();
                let floor = u64::from(retry.budget_min_per_s) * WINDOW_S;
                if retries < requests * u64::from(retry.budget_percent) / 100 + floor {
                    self.slots[at].retries = self.slots[at].retries.saturating_add(1);
                    Answer::Granted
                } else {
                    Answer::Exhausted
                }
            }
        }
    }

    /// Empties the slots of the seconds that passed and returns the present one. A moment before the newest
    /// slot counts as the newest: threads report at slightly different times.
    fn advance(&mut self, to: u64) -> usize {
        for passed in (self.second + 1..=to).take(SLOTS) {
            // After a gap longer than the window it does not matter which slot is emptied first.
            self.slots[slot(passed)] = Slot::default();
        }
        if to > self.second + WINDOW_S {
            self.slots = [Slot::default(); SLOTS];
        }
        self.second = self.second.max(to);
        slot(self.second)
    }
}

fn second(now: Moment) -> u64 {
    now.since(Moment::ORIGIN).as_secs()
}

fn slot(second: u64) -> usize {
    usize::try_from(second % WINDOW_S).unwrap_or(0)
}

/// Shortest and longest pause of a request that reaches nobody, in milliseconds.
const PAUSE_MS: (u64, u64) = (10, 500);

/// How long a request waits that has tried every healthy instance and could not even connect, before it tries them
/// again, in milliseconds. Such an instance is about to lose its health or to come back; the request is held as if
/// nobody were healthy, so the pauses grow with what it has waited already and end where holding would. `None`: it
/// has waited long enough.
pub fn pause_ms(paused_ms: u64, hold: &Hold) -> Option<u64> {
    let rest = hold.max_ms.checked_sub(paused_ms).filter(|&rest| rest > 0)?;
    Some(paused_ms.clamp(PAUSE_MS.0, PAUSE_MS.1).min(rest))
}

/// How long a refused client should wait before it asks again (`Retry-After`, RFC 9110 section 10.2.3), in whole
/// seconds and at least one.
pub fn retry_after_s(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).clamp(1, 3600).try_into().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_holding() {
        let hold = Hold { max_ms: 1_000, max_requests: 1 };
        let (mut pauses, mut waited_ms) = (Vec::new(), 0);
        while let Some(pause) = pause_ms(waited_ms, &hold) {
            pauses.push(pause);
            waited_ms += pause;
        }
        assert_eq!(pauses, [10, 10, 20, 40, 80, 160, 320, 360]);
        assert_eq!(pause_ms(0, &Hold { max_ms: 0, ..hold }), None);
    }

    const RETRY: Retry =
        Retry { max: 2, budget_percent: 20, budget_min_per_s: 1, try_timeout_ms: 0, hedge_after_ms: 0 };

    fn attempt() -> Attempt {
        Attempt { idempotent: true, keyed: false, sent: Sent::Something, replayable: true, answered: false, tries: 1 }
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        assert!(may_repeat(attempt(), &RETRY));
        assert!(!may_repeat(Attempt { idempotent: false, ..attempt() }, &RETRY));
        assert!(may_repeat(Attempt { idempotent: false, keyed: true, ..attempt() }, &RETRY));
        assert!(may_repeat(Attempt { idempotent: false, sent: Sent::Nothing, ..attempt() }, &RETRY));
        assert!(!may_repeat(Attempt { replayable: false, ..attempt() }, &RETRY));
        assert!(!may_repeat(Attempt { answered: true, sent: Sent::Nothing, ..attempt() }, &RETRY));
    }

    #[test]
    fn one_instance_may_die_for_any_reason() {
        let mut deaths = LonelyDeaths::default();
        deaths.note();
        assert!(!deaths.accuse());
        deaths.note();
        assert!(deaths.accuse());
    }

    #[test]
    fn tries_are_bounded() {
        assert!(may_repeat(Attempt { tries: 2, ..attempt() }, &RETRY));
        assert!(!may_repeat(Attempt { tries: 3, ..attempt() }, &RETRY));
        assert!(!may_repeat(attempt(), &Retry { max: 0, ..RETRY }));
    }

    #[test]
    fn methods() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(method.as_bytes()));
        }
        for method in ["POST", "PATCH", "CONNECT", "get", "PROPFIND", ""] {
            assert!(!is_idempotent(method.as_bytes()));
        }
    }

    fn grants(budget: &mut Budget, now: Moment) -> u32 {
        let mut granted = 0;
        while budget.on(Event::Retry, &RETRY, now) == Answer::Granted {
            granted += 1;
            assert!(granted < 100_000, "the budget never ends");
        }
        granted
    }

    #[test]
    fn a_share_of_the_window_and_a_floor() {
        let at = Moment::from_millis(50_000);
        let mut budget = Budget::new(at);
        assert_eq!(grants(&mut budget, at), 10, "the floor alone");
        budget.on(Event::Requests(1000), &RETRY, at);
        assert_eq!(grants(&mut budget, at), 200);
        assert_eq!(grants(&mut budget, Moment::from_millis(59_999)), 0, "the window still holds both");
        assert_eq!(grants(&mut budget, Moment::from_millis(60_000)), 10, "only the floor is left");
    }

    #[test]
    fn a_long_gap_empties_the_window_and_an_old_moment_does_no_harm() {
        let mut budget = Budget::new(Moment::ORIGIN);
        budget.on(Event::Requests(1000), &RETRY, Moment::ORIGIN);
        assert_eq!(grants(&mut budget, Moment::from_millis(3_600_000)), 10);
        assert_eq!(grants(&mut budget, Moment::from_millis(3_599_000)), 0);
    }

    #[test]
    fn a_client_is_told_whole_seconds() {
        assert_eq!(retry_after_s(Duration::ZERO), 1);
        assert_eq!(retry_after_s(Duration::from_millis(1001)), 2);
    }
}
