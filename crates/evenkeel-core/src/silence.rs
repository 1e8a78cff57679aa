//! The silent-instance rule: requests in flight, nothing received while others are well.
//!
//! A stopped process accepts connections (its kernel does) and answers nothing, so neither a connect error nor a
//! cut connection shows it, and a check needs its interval and its rounds. Traffic shows it sooner, but a slow
//! request looks the same, and an instance that serves one request at a time answers no probe either while it does.
//! So suspicion alone does nothing except ask, and whom it asks depends on who knows ([`Asked`]).
//!
//! Of an instance whose processes run on this machine the kernel knows whether they are stopped. That is proof; as long
//! as one of them runs the instance is alive however long it takes, and its check alone decides. Any other instance is
//! probed as its check does, twice with a short bound, where its service's habits show that such a silence is none of
//! them: with enough answers lately, and no quiet that ended well nearly as long. Who has no check that asks the application is
//! not asked at all. A silent instance comes back with the first answer to such a question, or the first byte.
//!
//! How short the bound may be is learnt from the probes that the instance passes: several times as long as they take.
//!
//! Suspicion needs somebody who could take over, so that this rule never takes the last instance. Where it is a guess it
//! needs a comparison as well: one of those answered well after this one did last, or has none to answer. Where all
//! others wait too, the cause is more likely something that they share. And suspicion needs an observer that was awake:
//! after a pause of our own everything is observed anew, since what looked like silence may have been our own.
//!
//! One [`Silence`] for each service, owned by who observes it. It sends no probe and moves no request itself.

use std::{collections::BTreeMap, time::Duration};

use crate::time::{Moment, in_words};

/// A slow request is not probed for again and again: the pause after each probe that was passed within one quiet
/// spell doubles, up to this many times the configured time.
const MAX_BACK_OFF: u32 = 8;

/// Tight probes in a row that must fail.
const FAILURES: u32 = 2;

/// So many answers of an instance show its habits.
pub const ENOUGH: u64 = 300;

/// It is suspected once it is quiet for so many times as long as the longest quiet lately that ended.
const LONGER: u32 = 2;

/// How many times as long as usual a probe may take.
const PATIENCE: u32 = 4;

/// The bound of a probe while nothing is known of how long they take, and the longest one, in times of the
/// configured time.
const UNKNOWN_BOUND: u32 = 2;
const LONGEST_BOUND: u32 = 20;

/// No habit makes the bound of a probe longer: one that may take for ever is never followed by another.
const LONGEST_HABIT: Duration = Duration::from_mins(1);

/// With each probe that is passed, what is usual sinks by this share of itself unless the probe took longer.
const FORGETS: u32 = 16;

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
        /// No quiet of its service's instances that ended meanwhile lasted longer, but of those found silent.
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

/// What is known of one instance.
#[derive(Clone, Debug)]
struct Watch {
    seen: Seen<()>,
    /// Quiet before this does not count: we slept.
    floor: Moment,
    state: State,
    /// The probe whose result is awaited; 0: none.
    awaited: u64,
    /// Suspicion and repeated probes of a silent instance wait until then.
    not_before: Moment,
    /// Probes passed within this quiet spell.
    passed: u32,
    /// The observation that it was part of last.
    round: u64,
    /// How long its probes take that are passed: the longest one, slowly forgotten.
    usual: Option<Duration>,
    /// When that grew last.
    grown: Option<Moment>,
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
        Self { after, watches: BTreeMap::new(), last_observed: None, round: 0, probes: 0 }
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
        for (&key, watch) in &mut self.watches {
            // What the kernel says is no guess, so that it is enough if there is somebody else.
            let proves = watch.seen.asked == Asked::Kernel;
            let compares = |since| {
                if proves { peers.others(key) } else { peers.compare(key, since + self.after / 2) }
            };
            if !watch.asks(self.after, compares, now, self.probes + 1) {
                continue;
            }
            self.probes += 1;
            outputs.push(match watch.seen.asked {
                Asked::Kernel => Output::LookNow { key },
                _ => Output::ProbeNow { key, number: self.probes, timeout: watch.bound(self.after) },
            });
        }
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
            _ if received || seen.quiet_since != former.quiet_since => watch.new_spell(now),
            _ => {}
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
        let after = self.after;
        let Some(watch) = self.watches.get_mut(&key) else {
            return;
        };
        let asked = number != 0 && watch.awaited == number;
        if asked {
            watch.awaited = 0;
        }
        match (result, watch.state) {
            (Ok(()), State::Silent) => watch.returns(key, "it passed a probe", now, outputs),
            (Ok(()), State::Suspected { .. }) => watch.vouched_for(after, now),
            (Err(cause), State::Suspected { failures }) if asked => {
                if failures + 1 >= FAILURES {
                    watch.state = State::Silent;
                    watch.not_before = now + after;
                    let proof = format!("{FAILURES} probes in a row failed: {cause}{}", watch.habits());
                    outputs.push(Output::Silent { key, reason: watch.reason(now, &proof) });
                } else {
                    watch.state = State::Suspected { failures: failures + 1 };
                    watch.awaited = next;
                    self.probes = next;
                    outputs.push(Output::ProbeNow { key, number: next, timeout: watch.bound(after) });
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

impl Watch {
    fn new(seen: Seen<()>, now: Moment) -> Self {
        let (usual, grown) = (None, None);
        Self { seen, floor: now, state: State::Trusted, awaited: 0, not_before: now, passed: 0, round: 0, usual, grown }
    }

    /// It sent something, or has nothing more to send: what was suspected is over.
    fn new_spell(&mut self, now: Moment) {
        self.state = State::Trusted;
        self.awaited = 0;
        self.not_before = now;
        self.passed = 0;
    }

    /// It is silent no longer.
    fn returns<K>(&mut self, key: K, reason: &str, now: Moment, outputs: &mut Vec<Output<K>>) {
        self.new_spell(now);
        self.floor = now;
        outputs.push(Output::Answers { key, reason: reason.to_owned() });
    }

    /// It lives, so that what it does takes long.
    fn vouched_for(&mut self, after: Duration, now: Moment) {
        self.state = State::Trusted;
        self.passed = self.passed.saturating_add(1);
        self.not_before = now + after * (1 << (self.passed - 1).min(31)).min(MAX_BACK_OFF);
    }

    /// A probe was passed. One that takes far longer than usual, since its instance was stopped for a moment, moves
    /// what is usual only a little; all of them being slow moves it within a few.
    fn learn(&mut self, took: Duration, after: Duration, now: Moment) {
        let Some(usual) = self.usual else {
            self.usual = Some(took.min(after * UNKNOWN_BOUND / PATIENCE));
            return;
        };
        // What one stop held up is passed at one moment, and says one thing.
        let grows = took > usual && self.grown.is_none_or(|at| now.since(at) >= after);
        if grows {
            self.grown = Some(now);
        }
        let most = if grows { (usual * 2).max(after / (2 * PATIENCE)) } else { usual };
        self.usual = Some(took.min(most).max(usual * (FORGETS - 1) / FORGETS));
    }

    /// How long a probe may take that is sent now.
    fn bound(&self, after: Duration) -> Duration {
        let usual = self.usual.map_or(after * UNKNOWN_BOUND, |usual| {
            usual.saturating_mul(PATIENCE).clamp(after / 2, after * LONGEST_BOUND)
        });
        usual.max((self.suspect_after(after).unwrap_or_default() / 2).min(LONGEST_HABIT))
    }

    /// The quiet after which it is suspected; `None`: no quiet says anything.
    fn suspect_after(&self, after: Duration) -> Option<Duration> {
        match self.seen.asked {
            Asked::Kernel => Some(after),
            Asked::Probe { answered, longest } if answered >= ENOUGH => Some(after.max(longest.saturating_mul(LONGER))),
            Asked::Probe { .. } | Asked::Nobody => None,
        }
    }

    /// Since when it is quiet, as far as we were awake.
    fn quiet_since(&self) -> Option<Moment> {
        Some(self.seen.quiet_since?.max(self.floor))
    }

    /// Whether a probe is to be sent now, the `next`th. `compares`: whether others are better off since a moment.
    fn asks(&mut self, after: Duration, compares: impl Fn(Moment) -> bool, now: Moment, next: u64) -> bool {
        let asks = match self.state {
            State::Suspected { .. } => false,
            State::Silent => self.awaited == 0 && now >= self.not_before,
            State::Trusted => {
                let quiet = self.quiet_since().zip(self.suspect_after(after));
                let quiet = quiet.filter(|&(since, bound)| now.since(since) >= bound && now >= self.not_before);
                quiet.is_some_and(|(since, _)| compares(since))
            }
        };
        if asks {
            self.awaited = next;
            if self.state == State::Trusted {
                self.state = State::Suspected { failures: 0 };
            }
        }
        asks
    }

    /// What is usual lately.
    fn habits(&self) -> String {
        match self.seen.asked {
            Asked::Probe { answered, longest } if answered >= ENOUGH => {
                let longest = in_words(longest);
                format!("; it gave {answered} answers lately, and its service was never quiet for more than {longest}")
            }
            _ => String::new(),
        }
    }

    fn reason(&self, now: Moment, proof: &str) -> String {
        let quiet_ms = self.quiet_since().map_or(0, |since| now.since(since).as_millis());
        let (in_flight, requests) =
            (self.seen.in_flight, if self.seen.in_flight == 1 { "request" } else { "requests" });
        format!(
            "nothing received for {quiet_ms} ms with {in_flight} {requests} in flight while others are well, and {proof}"
        )
    }
}

/// Whom an instance can be compared with: those that get requests and are not silent.
struct Peers<K> {
    /// How many there are, and one of them.
    all: (usize, Option<K>),
    /// How many have nothing in flight, and one of them.
    idle: (usize, Option<K>),
    /// The two newest moments at which different ones sent something, newest first.
    newest: [(Option<Moment>, Option<K>); 2],
}

impl<K: Copy + Ord> Peers<K> {
    fn of(watches: &BTreeMap<K, Watch>) -> Self {
        let mut peers = Self { all: (0, None), idle: (0, None), newest: [(None, None); 2] };
        for (&key, watch) in watches.iter().filter(|(_, watch)| watch.seen.healthy && watch.state != State::Silent) {
            peers.all = (peers.all.0 + 1, Some(key));
            if watch.seen.quiet_since.is_none() {
                peers.idle = (peers.idle.0 + 1, Some(key));
            }
            let sent = (watch.seen.last_received, Some(key));
            if sent.0 > peers.newest[0].0 {
                peers.newest = [sent, peers.newest[0]];
            } else if sent.0 > peers.newest[1].0 {
                peers.newest[1] = sent;
            }
        }
        peers
    }

    /// Whether there is one other than `key`: it is this one alone only where there is one.
    fn others(&self, key: K) -> bool {
        self.all.0 > 1 || self.all.1.is_some_and(|one| one != key)
    }

    /// Whether one other than `key` sent something after this moment, or has nothing to send.
    fn compare(&self, key: K, after: Moment) -> bool {
        let idle = self.idle.0 > usize::from(self.idle.1 == Some(key));
        let newest = if self.newest[0].1 == Some(key) { self.newest[1].0 } else { self.newest[0].0 };
        idle || newest.is_some_and(|sent| sent > after)
    }
}

#[cfg(test)]
mod tests;
