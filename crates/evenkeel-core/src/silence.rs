//! The silent-instance rule: requests in flight, nothing received while others are well.
//!
//! A stopped process accepts connections (its kernel does) and answers nothing, so neither a connect error nor a
//! cut connection shows it, and a check needs its interval and its rounds. Traffic shows it sooner, but a slow
//! request looks the same, and an instance that serves one request at a time answers no probe either while it does.
//! So suspicion alone does nothing except ask, and whom it asks depends on who knows ([`Asked`]).
//!
//! Of an instance whose processes run on this machine the kernel knows whether they are stopped. That is proof; as long
//! as one of them runs the instance is alive however long it takes, and its check alone decides. Any other instance is
//! probed as its check does, twice with a short bound, where failing that tells anything: where its service's habits show
//! that such a silence is none of them (with enough answers lately, and no quiet that ended well nearly as long), or where
//! the service was seen to answer probes while about as many requests waited, so that it does not serve one at a time.
//! To learn the latter a quiet instance is probed once without consequences. Who has no check that asks the application
//! is not asked at all. A silent instance comes back with the first answer to such a question, or the first byte.
//!
//! How short the bound may be is learnt from the probes that the instance passes: several times as long as they take.
//!
//! Suspicion needs somebody who could take over, so that this rule never takes the last instance. Where it is a guess it
//! needs a comparison as well: one of those answered well after this one did last, or has none to answer. Where all
//! others wait too, the cause is more likely something that they share. And suspicion needs an observer that was awake:
//! after a pause of our own everything is observed anew, since what looked like silence may have been our own.
//!
//! One [`Silence`] for each service, owned by who observes it. It sends no probe and moves no request itself.

mod peers;
mod watch;

use std::{collections::BTreeMap, time::Duration};

pub use self::watch::ENOUGH;
use self::{
    peers::Peers,
    watch::{Known, Question, State, Watch},
};
use crate::time::Moment;

/// Tight probes in a row that must fail.
const FAILURES: u32 = 2;

/// How many times as many requests may wait at an instance as its service was shown to serve at once. What is excluded
/// is one that serves one at a time; one whose every process is busy could not serve others now either.
const STRETCH: u64 = 16;

/// For how long that is believed.
const SHOWN_LATELY: Duration = Duration::from_mins(2);

/// The longest pause between two probes that are sent only to learn: it doubles while nothing is learnt.
const LEARNS_APART: Duration = Duration::from_secs(2);

/// A gap between two observations that is taken for a pause of our own, at the least. Suspicion after a shorter one
/// costs nothing but a probe.
const PAUSE: Duration = Duration::from_millis(125);

/// What traffic showed of one instance.
#[derive(Clone, Copy, Debug)]
pub struct Seen<K> {
    /// Which instance.
    pub key: K,
    /// It gets requests.
    pub healthy: bool,
    /// Requests in flight that wait for their answers now: not uploads, streams and tunnels under way.
    pub in_flight: u64,
    /// Since when those have waited with nothing received: the last byte, or the start of the wait if that is later.
    /// `None` while there are none.
    pub quiet_since: Option<Moment>,
    /// When a byte was received from it last; `None`: never.
    pub last_received: Option<Moment>,
    /// Who knows whether it lives.
    pub asked: Asked,
}

/// Who knows whether an instance lives that sends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The kernel: its processes run on this machine.
    Kernel,
    /// The instance itself, by a probe as its check sends it.
    Probe {
        /// How many requests it answered lately.
        answered: u64,
        /// No quiet of its service's instances that ended meanwhile lasted longer, but of those found silent. Where
        /// others answer now, as long as a quiet with as many answers elsewhere as then would take.
        longest: Duration,
    },
    /// Nobody.
    Nobody,
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
        /// How long it took.
        took: Duration,
        /// `Err` with its cause in words.
        result: Result<(), &'a str>,
    },
    /// The kernel was asked for [`Output::LookNow`].
    Looked {
        /// Which instance.
        key: K,
        /// Its processes run; `Err` with words for those that are stopped.
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
    /// Ask the kernel now whether its processes are stopped, and report that before anything else.
    LookNow {
        /// Which instance.
        key: K,
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

/// The rule for one service.
#[derive(Clone, Debug)]
pub struct Silence<K> {
    after: Duration,
    watches: BTreeMap<K, Watch>,
    /// The most requests that waited while a probe was passed, lately, and when that was seen.
    at_once: (u64, Moment),
    /// No probe is sent only to learn before then, and how long the next pause would be.
    learns: (Moment, Duration),
    last_observed: Option<Moment>,
    /// Counts observations, to notice who is missing from one.
    round: u64,
    probes: u64,
}

impl<K: Copy + Ord> Silence<K> {
    /// The rule with [`silent_after_ms`](crate::snapshot::ServiceLimits::silent_after_ms); 0 switches it off.
    pub fn new(silent_after_ms: u64) -> Self {
        let after = Duration::from_millis(silent_after_ms);
        let (at_once, learns) = ((0, Moment::ORIGIN), (Moment::ORIGIN, after));
        Self { after, watches: BTreeMap::new(), at_once, learns, last_observed: None, round: 0, probes: 0 }
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
            Event::Probed { key, number, took, result } => {
                let after = self.after;
                let trusted = self.watches.get_mut(&key).filter(|watch| watch.state != State::Silent);
                if let (Some(watch), true) = (trusted, result.is_ok()) {
                    watch.learn(took, after, now);
                }
                self.probed(key, number, result, now, &mut outputs);
            }
            Event::Looked { key, result } => self.looked(key, result, now, &mut outputs),
        }
        outputs
    }

    fn observed(&mut self, seen: &[Seen<K>], now: Moment, outputs: &mut Vec<Output<K>>) {
        let overslept = self.last_observed.is_some_and(|last| now.since(last) > PAUSE.max(self.after / 2));
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
        let peers = Peers::of(&self.watches);
        let known = self.known(now);
        for (&key, watch) in &mut self.watches {
            // What the kernel says is no guess, so that it is enough if there is somebody else.
            let proves = watch.seen.asked == Asked::Kernel;
            let compares = |after| if proves { peers.others(key) } else { peers.compare(key, after) };
            let number = self.probes + 1;
            let question = watch.asks(known, compares, number).or_else(|| {
                let (not_before, pause) = &mut self.learns;
                let question = if now < *not_before { None } else { watch.learns(known, compares, number) };
                if question.is_some() {
                    *not_before = now + *pause;
                    *pause = (*pause * 2).min(LEARNS_APART);
                }
                question
            });
            let Some(question) = question else { continue };
            self.probes = number;
            outputs.push(match question {
                Question::Kernel => Output::LookNow { key },
                Question::Probe(timeout) => Output::ProbeNow { key, number, timeout },
            });
        }
    }

    fn known(&self, now: Moment) -> Known {
        Known { after: self.after, at_once: self.serves_at_once(now), now }
    }

    /// How many requests an instance of this service may have waiting and still be expected to answer a probe.
    fn serves_at_once(&self, now: Moment) -> u64 {
        let (most, seen) = self.at_once;
        if now.since(seen) < SHOWN_LATELY { most.saturating_mul(STRETCH) } else { 0 }
    }

    /// An instance passed a probe while so many requests waited there.
    fn showed_at_once(&mut self, requests: u64, now: Moment) {
        let (most, seen) = self.at_once;
        if requests >= most || now.since(seen) >= SHOWN_LATELY {
            self.at_once = (requests, now);
        }
        self.learns = (now, self.after);
    }

    /// Takes over what traffic shows of one instance.
    fn update(&mut self, one: &Seen<K>, now: Moment, outputs: &mut Vec<Output<K>>) {
        let seen = Seen {
            key: (),
            healthy: one.healthy,
            in_flight: one.in_flight,
            quiet_since: one.quiet_since,
            last_received: one.last_received,
            asked: one.asked,
        };
        let watch = self.watches.entry(one.key).or_insert_with(|| Watch::new(seen, now));
        watch.round = self.round;
        let former = std::mem::replace(&mut watch.seen, seen);
        let received = seen.last_received > former.last_received;
        watch.counts(now);
        let goes_on = !received && seen.quiet_since == former.quiet_since;
        let at_once = watch.passed_with.take().filter(|_| goes_on).map(|requests| requests.min(seen.in_flight));
        match watch.state {
            State::Silent if received => {
                watch.new_spell(now);
                outputs.push(Output::Answers { key: one.key, reason: "it sends again".to_owned() });
            }
            State::Silent if seen.asked == Asked::Nobody => {
                watch.new_spell(now);
                outputs.push(Output::Answers {
                    key: one.key,
                    reason: "nobody knows any more whether it lives".to_owned(),
                });
            }
            State::Silent => {}
            _ if !goes_on => watch.new_spell(now),
            _ => {}
        }
        if let Some(requests) = at_once {
            self.showed_at_once(requests, now);
        }
    }

    /// We slept: nothing that was observed before counts against anybody.
    fn restart(&mut self, now: Moment) {
        for watch in self.watches.values_mut() {
            watch.floor = now;
            if watch.state == State::Silent {
                watch.awaited = 0;
            } else {
                watch.new_spell(now);
            }
        }
    }

    fn switched_off(&mut self, outputs: &mut Vec<Output<K>>) {
        for (key, watch) in &mut self.watches {
            if watch.state == State::Silent {
                outputs.push(Output::Answers { key: *key, reason: "the rule was switched off".to_owned() });
            }
            watch.state = State::Trusted;
            watch.awaited = 0;
        }
    }

    fn probed(&mut self, key: K, number: u64, result: Result<(), &str>, now: Moment, outputs: &mut Vec<Output<K>>) {
        let next = self.probes + 1;
        let (after, known) = (self.after, self.known(now));
        let Some(watch) = self.watches.get_mut(&key) else {
            return;
        };
        let asked = number != 0 && watch.awaited == number;
        if asked {
            watch.awaited = 0;
            // Whether it did so while they waited, the next observation shows.
            watch.passed_with = result.is_ok().then_some(watch.waiting);
        }
        match (result, watch.state) {
            (Ok(()), State::Silent) => watch.returns(key, "it passed a probe", now, outputs),
            (Ok(()), State::Suspected { .. }) => watch.vouched_for(after, now),
            (Err(cause), State::Suspected { failures }) if asked => {
                if failures + 1 >= FAILURES {
                    watch.state = State::Silent;
                    watch.not_before = now + after;
                    let proof = format!("{FAILURES} probes in a row failed: {cause}{}", watch.habits(known.at_once));
                    outputs.push(Output::Silent { key, reason: watch.reason(now, &proof) });
                } else {
                    watch.state = State::Suspected { failures: failures + 1 };
                    watch.awaited = next;
                    self.probes = next;
                    outputs.push(Output::ProbeNow { key, number: next, timeout: watch.bound(known) });
                }
            }
            (Err(_), State::Silent) if asked => watch.not_before = now + after,
            _ => {}
        }
    }

    fn looked(&mut self, key: K, result: Result<(), &str>, now: Moment, outputs: &mut Vec<Output<K>>) {
        let after = self.after;
        // Others that were asked at the same moment may have been stopped as well: the last one stays.
        let others = Peers::of(&self.watches).others(key);
        let Some(watch) = self.watches.get_mut(&key).filter(|watch| watch.awaited != 0) else {
            return;
        };
        watch.awaited = 0;
        match (result, watch.state) {
            (Ok(()), State::Silent) => watch.returns(key, "it runs again", now, outputs),
            (Ok(()), _) => watch.vouched_for(after, now),
            (Err(_), State::Silent) => watch.not_before = now + after,
            (Err(_), _) if !others => {
                watch.state = State::Trusted;
                watch.not_before = now + after;
            }
            (Err(proof), _) => {
                watch.state = State::Silent;
                watch.not_before = now + after;
                outputs.push(Output::Silent { key, reason: watch.reason(now, proof) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
