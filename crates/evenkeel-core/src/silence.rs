//! The silent-instance rule: requests in flight, nothing received while others answer.
//!
//! A stopped process accepts connections (its kernel does) and answers nothing, so neither a connect error nor a
//! cut connection shows it, and a check needs its interval and its rounds. Traffic shows it sooner, but a slow
//! request looks the same. So suspicion alone does nothing except ask: one probe at once with a short bound, and a
//! second one if that fails. An instance that answers is left alone; one that fails both is silent. It comes
//! back with the first probe that it passes or the first byte that it sends.
//!
//! Suspicion needs a comparison. Where no other instance of the service answered either, nothing is suspected
//! and the check decides alone. And it needs an observer that was awake: after a pause of our own everything is
//! observed anew, since what looked like silence may have been our own.
//!
//! One [`Silence`] for each service, owned by who observes it. It sends no probe and moves no request itself.

use std::{collections::BTreeMap, time::Duration};

use crate::time::Moment;

/// A slow request is not probed for again and again: the pause after each probe that was passed within one quiet
/// spell doubles, up to this many times the configured time.
const MAX_BACK_OFF: u32 = 8;

/// Tight probes in a row that must fail.
const FAILURES: u32 = 2;

/// What traffic showed of one instance.
#[derive(Clone, Copy, Debug)]
pub struct Seen<K> {
    /// Which instance.
    pub key: K,
    /// Requests in flight now.
    pub in_flight: u64,
    /// When a byte was received from it last; `None`: never.
    pub last_received: Option<Moment>,
}

/// What was observed.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a, K> {
    /// All instances of the service at this moment. Those that are missing are forgotten.
    Observed(&'a [Seen<K>]),
    /// A probe ended: one that was asked for, by its number, or one of the check (0), whose failures do not count
    /// here.
    Probed {
        /// Which instance.
        key: K,
        /// [`Output::ProbeNow::number`], or 0.
        number: u64,
        /// `Err` with its cause in words.
        result: Result<(), &'a str>,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<K> {
    /// Probe it now, and report the result.
    ProbeNow {
        /// Which instance.
        key: K,
        /// Names this probe.
        number: u64,
        /// A probe that takes longer has failed.
        timeout: Duration,
    },
    /// It is silent: no new requests, and those in flight that may be sent again go elsewhere.
    Silent {
        /// Which instance.
        key: K,
        /// Why, in words.
        reason: String,
    },
    /// It is no longer silent.
    Answers {
        /// Which instance.
        key: K,
        /// Why, in words.
        reason: String,
    },
}

/// What is known of one instance.
#[derive(Clone, Debug)]
struct Watch {
    /// Since when it has requests in flight and sent nothing. Meaningless without requests in flight.
    quiet_since: Moment,
    last_received: Option<Moment>,
    in_flight: u64,
    state: State,
    /// The probe whose result is awaited; 0: none.
    awaited: u64,
    /// Suspicion and repeated probes of a silent instance wait until then.
    not_before: Moment,
    /// Probes passed within this quiet spell.
    passed: u32,
    /// The observation that it was part of last.
    round: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trusted,
    Suspected { failures: u32 },
    Silent,
}

/// The rule for one service.
#[derive(Clone, Debug)]
pub struct Silence<K> {
    after: Duration,
    watches: BTreeMap<K, Watch>,
    last_observed: Option<Moment>,
    /// Counts observations, to notice who is missing from one.
    round: u64,
    probes: u64,
}

impl<K: Copy + Ord> Silence<K> {
    /// The rule with [`silent_after_ms`](crate::snapshot::ServiceLimits::silent_after_ms); 0 switches it off.
    pub fn new(silent_after_ms: u64) -> Self {
        let after = Duration::from_millis(silent_after_ms);
        Self {
            after,
            watches: BTreeMap::new(),
            last_observed: None,
            round: 0,
            probes: 0,
        }
    }

    /// The same knowledge under a new number.
    pub fn retune(&mut self, silent_after_ms: u64) {
        self.after = Duration::from_millis(silent_after_ms);
    }

    /// Whether this instance is silent.
    pub fn is_silent(&self, key: K) -> bool {
        self.watches.get(&key).is_some_and(|watch| watch.state == State::Silent)
    }

    /// Something was observed at `now`, which never goes back.
    pub fn on(&mut self, event: Event<'_, K>, now: Moment) -> Vec<Output<K>> {
        let mut outputs = Vec::new();
        match event {
            Event::Observed(seen) => self.observed(seen, now, &mut outputs),
            Event::Probed { key, number, result } => self.probed(key, number, result, now, &mut outputs),
        }
        outputs
    }

    fn observed(&mut self, seen: &[Seen<K>], now: Moment, outputs: &mut Vec<Output<K>>) {
        let overslept = self.last_observed.is_some_and(|last| now.since(last) > self.after / 2);
        self.last_observed = Some(now);
        self.round += 1;
        for one in seen {
            self.update(one, now, outputs);
        }
        let round = self.round;
        self.watches.retain(|_, watch| watch.round == round);
        if overslept {
            self.restart(now);
        }
        if self.after.is_zero() {
            return self.switched_off(outputs);
        }
        let newest = newest_two(seen);
        for (key, watch) in &mut self.watches {
            let elsewhere = if newest[0].1 == Some(*key) {
                newest[1].0
            } else {
                newest[0].0
            };
            if let Some(number) = watch.asks(self.after, elsewhere, now, self.probes + 1) {
                self.probes = number;
                outputs.push(Output::ProbeNow {
                    key: *key,
                    number,
                    timeout: self.after,
                });
            }
        }
    }

    /// Takes over what traffic shows of one instance.
    fn update(&mut self, one: &Seen<K>, now: Moment, outputs: &mut Vec<Output<K>>) {
        let watch = self
            .watches
            .entry(one.key)
            .or_insert_with(|| Watch::new(one.last_received, now));
        watch.round = self.round;
        let received = one.last_received > watch.last_received;
        let idle = watch.in_flight == 0 || one.in_flight == 0;
        watch.last_received = one.last_received.max(watch.last_received);
        watch.in_flight = one.in_flight;
        if received || (idle && watch.state != State::Silent) {
            watch.spell_ends(now);
        }
        if received && watch.state == State::Silent {
            watch.trust();
            outputs.push(Output::Answers {
                key: one.key,
                reason: "it sends again".to_owned(),
            });
        } else if received || (one.in_flight == 0 && watch.state != State::Silent) {
            watch.trust();
        }
    }

    /// We slept: nothing that was observed before counts against anybody.
    fn restart(&mut self, now: Moment) {
        for watch in self.watches.values_mut() {
            watch.spell_ends(now);
            watch.awaited = 0;
            if watch.state != State::Silent {
                watch.state = State::Trusted;
            }
        }
    }

    fn switched_off(&mut self, outputs: &mut Vec<Output<K>>) {
        for (key, watch) in &mut self.watches {
            if watch.state == State::Silent {
                outputs.push(Output::Answers {
                    key: *key,
                    reason: "the rule was switched off".to_owned(),
                });
            }
            watch.trust();
        }
    }

    fn probed(&mut self, key: K, number: u64, result: Result<(), &str>, now: Moment, outputs: &mut Vec<Output<K>>) {
        let next = self.probes + 1;
        let after = self.after;
        let Some(watch) = self.watches.get_mut(&key) else {
            return;
        };
        let asked = number != 0 && watch.awaited == number;
        if asked {
            watch.awaited = 0;
        }
        match (result, watch.state) {
            (Ok(()), State::Silent) => {
                watch.trust();
                watch.quiet_since = now;
                outputs.push(Output::Answers {
                    key,
                    reason: "it passed a probe".to_owned(),
                });
            }
            (Ok(()), State::Suspected { .. }) => {
                watch.state = State::Trusted;
                watch.passed = watch.passed.saturating_add(1);
                watch.not_before = now + after * (1 << (watch.passed - 1).min(31)).min(MAX_BACK_OFF);
            }
            (Err(cause), State::Suspected { failures }) if asked => {
                if failures + 1 >= FAILURES {
                    watch.state = State::Silent;
                    watch.not_before = now + after;
                    let reason = watch.reason(now, cause);
                    outputs.push(Output::Silent { key, reason });
                } else {
                    watch.state = State::Suspected { failures: failures + 1 };
                    watch.awaited = next;
                    self.probes = next;
                    outputs.push(Output::ProbeNow {
                        key,
                        number: next,
                        timeout: after,
                    });
                }
            }
            (Err(_), State::Silent) if asked => watch.not_before = now + after,
            _ => {}
        }
    }
}

impl Watch {
    fn new(last_received: Option<Moment>, now: Moment) -> Self {
        Self {
            quiet_since: now,
            last_received,
            in_flight: 0,
            state: State::Trusted,
            awaited: 0,
            not_before: now,
            passed: 0,
            round: 0,
        }
    }

    fn spell_ends(&mut self, now: Moment) {
        self.quiet_since = now;
        self.not_before = now;
        self.passed = 0;
    }

    fn trust(&mut self) {
        self.state = State::Trusted;
        self.awaited = 0;
    }

    /// The number of the probe to send now, if one is due. `elsewhere` is when another instance sent last.
    fn asks(&mut self, after: Duration, elsewhere: Option<Moment>, now: Moment, next: u64) -> Option<u64> {
        let due = match self.state {
            State::Suspected { .. } => false,
            State::Silent => self.awaited == 0 && now >= self.not_before,
            State::Trusted => {
                let quiet = self.in_flight > 0 && now.since(self.quiet_since) >= after;
                quiet && now >= self.not_before && elsewhere.is_some_and(|moment| moment > self.quiet_since)
            }
        };
        if !due {
            return None;
        }
        if self.state == State::Trusted {
            self.state = State::Suspected { failures: 0 };
        }
        self.awaited = next;
        Some(next)
    }

    fn reason(&self, now: Moment, cause: &str) -> String {
        let quiet_ms = now.since(self.quiet_since).as_millis();
        let requests = if self.in_flight == 1 { "request" } else { "requests" };
        format!(
            "nothing received for {quiet_ms} ms with {} {requests} in flight while others answered, and {FAILURES} probes in a row failed: {cause}",
            self.in_flight
        )
    }
}

/// The two newest moments at which different instances sent something, newest first.
fn newest_two<K: Copy>(seen: &[Seen<K>]) -> [(Option<Moment>, Option<K>); 2] {
    let mut newest = [(None, None); 2];
    for one in seen {
        if one.last_received > newest[0].0 {
            newest[1] = newest[0];
            newest[0] = (one.last_received, Some(one.key));
        } else if one.last_received > newest[1].0 {
            newest[1] = (one.last_received, Some(one.key));
        }
    }
    newest
}

#[cfg(test)]
mod tests;
