//! What is known of one instance, and what that makes us ask.

use std::time::Duration;

use super::{Asked, Output, STRETCH, Seen};
use crate::time::{Moment, in_words};

/// A slow request is not probed for again and again: the pause after each probe that was passed within one quiet
/// spell doubles, up to this many times the configured time.
const MAX_BACK_OFF: u32 = 8;

/// So many answers of an instance show its habits.
pub const ENOUGH: u64 = 300;

/// It is suspected once it is quiet for so many times as long as the longest quiet lately that ended.
const LONGER: u32 = 2;

/// What share of the configured time a quiet must last until a probe is sent only to learn. An instance that works
/// requests off one by one is not quiet between them.
const LEARNS_EARLY: u32 = 4;

/// How many times as long as usual a probe may take.
pub(super) const PATIENCE: u32 = 4;

/// The bound of a probe while nothing is known of how long they take, and the longest one, in times of the
/// configured time.
pub(super) const UNKNOWN_BOUND: u32 = 2;
const LONGEST_BOUND: u32 = 20;

/// No habit makes the bound of a probe longer: one that may take for ever is never followed by another.
pub(super) const LONGEST_HABIT: Duration = Duration::from_mins(1);

/// With each probe that is passed, what is usual sinks by this share of itself unless the probe took longer.
const FORGETS: u32 = 16;

/// What is known of one instance.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) seen: Seen<()>,
    /// Quiet before this does not count: we slept.
    pub(super) floor: Moment,
    pub(super) state: State,
    /// The probe whose result is awaited; 0: none.
    pub(super) awaited: u64,
    /// How many requests waited when it was asked for.
    pub(super) waiting: u64,
    /// How many had waited when a probe was passed just now, which says something if they still do.
    pub(super) passed_with: Option<u64>,
    /// The probe without consequences of this quiet spell was sent.
    pub(super) learnt: bool,
    /// Suspicion and repeated probes of a silent instance wait until then.
    pub(super) not_before: Moment,
    /// How many requests waited when it passed a probe last in this quiet spell, and since when there are more, of which
    /// that probe says nothing.
    pub(super) vouched: (u64, Option<Moment>),
    /// Probes passed within this quiet spell.
    pub(super) passed: u32,
    /// The observation that it was part of last.
    pub(super) round: u64,
    /// How long its probes take that are passed: the longest one, slowly forgotten.
    pub(super) usual: Option<Duration>,
    /// When that grew last.
    pub(super) grown: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Trusted,
    Suspected { failures: u32 },
    Silent,
}

/// What is known of the service when somebody may be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The configured time.
    pub(super) after: Duration,
    /// With so many requests waiting an instance is still expected to answer a probe.
    pub(super) at_once: u64,
    pub(super) now: Moment,
}

/// Who is asked.
pub(super) enum Question {
    /// The kernel.
    Kernel,
    /// The instance, which must answer within this time.
    Probe(Duration),
}

impl Watch {
    pub(super) fn new(seen: Seen<()>, now: Moment) -> Self {
        let (usual, grown) = (None, None);
        Self {
            seen,
            floor: now,
            state: State::Trusted,
            awaited: 0,
            waiting: 0,
            passed_with: None,
            learnt: false,
            not_before: now,
            vouched: (0, None),
            passed: 0,
            round: 0,
            usual,
            grown,
        }
    }

    /// It sent something, or has nothing more to send: what was suspected is over.
    pub(super) fn new_spell(&mut self, now: Moment) {
        self.state = State::Trusted;
        self.awaited = 0;
        self.not_before = now;
        self.passed = 0;
        self.learnt = false;
    }

    /// It is silent no longer.
    pub(super) fn returns<K>(&mut self, key: K, reason: &str, now: Moment, outputs: &mut Vec<Output<K>>) {
        self.new_spell(now);
        self.floor = now;
        outputs.push(Output::Answers { key, reason: reason.to_owned() });
    }

    /// It lives, so that what it does takes long.
    pub(super) fn vouched_for(&mut self, after: Duration, now: Moment) {
        self.state = State::Trusted;
        self.passed = self.passed.saturating_add(1);
        self.vouched = (self.seen.in_flight, None);
        self.not_before = now + after * (1 << (self.passed - 1).min(31)).min(MAX_BACK_OFF);
    }

    /// A probe was passed. One that takes far longer than usual, since its instance was stopped for a moment, moves
    /// what is usual only a little; all of them being slow moves it within a few.
    pub(super) fn learn(&mut self, took: Duration, after: Duration, now: Moment) {
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
    pub(super) fn bound(&self, known: Known) -> Duration {
        let after = known.after;
        let usual = self.usual.map_or(after * UNKNOWN_BOUND, |usual| {
            usual.saturating_mul(PATIENCE).clamp(after / 2, after * LONGEST_BOUND)
        });
        usual.max((self.suspect_after(known).unwrap_or_default() / 4).min(LONGEST_HABIT))
    }

    /// The quiet after which it is suspected; `None`: no quiet says anything.
    fn suspect_after(&self, Known { after, at_once, .. }: Known) -> Option<Duration> {
        match self.seen.asked {
            Asked::Kernel => Some(after),
            Asked::Probe { answered, .. } if answered >= ENOUGH && self.seen.in_flight <= at_once => Some(after),
            Asked::Probe { answered, longest } if answered >= ENOUGH => Some(after.max(longest.saturating_mul(LONGER))),
            Asked::Probe { .. } | Asked::Nobody => None,
        }
    }

    /// Since when it is quiet, as far as we were awake.
    fn quiet_since(&self) -> Option<Moment> {
        Some(self.seen.quiet_since?.max(self.floor))
    }

    /// What is to be asked now, by the `next`th question. `compares`: whether others are better off since a moment.
    pub(super) fn asks(&mut self, known: Known, compares: impl Fn(Moment) -> bool, next: u64) -> Option<Question> {
        let Known { after, now, .. } = known;
        let asks = match self.state {
            State::Suspected { .. } => false,
            State::Silent => self.awaited == 0 && now >= self.not_before,
            State::Trusted => {
                let quiet = self.quiet_since().zip(self.suspect_after(known));
                let due = now >= self.not_before || self.has_new_ones(known);
                let quiet = quiet.filter(|&(since, bound)| now.since(since) >= bound && due);
                quiet.is_some_and(|(since, _)| compares(since + after / 2))
            }
        };
        if !asks {
            return None;
        }
        self.awaits(next);
        if self.state == State::Trusted {
            self.state = State::Suspected { failures: 0 };
        }
        let kernel = self.seen.asked == Asked::Kernel;
        Some(if kernel { Question::Kernel } else { Question::Probe(self.bound(known)) })
    }

    /// A probe only to learn whether it answers one while requests wait, where that is not known: once in a quiet spell.
    pub(super) fn learns(&mut self, known: Known, compares: impl Fn(Moment) -> bool, next: u64) -> Option<Question> {
        let Known { after, at_once, now } = known;
        let can = matches!(self.seen.asked, Asked::Probe { .. }) && self.state == State::Trusted && self.awaited == 0;
        let unknown = self.seen.in_flight > at_once;
        let since = self.quiet_since().filter(|&since| now.since(since) >= after / LEARNS_EARLY)?;
        if !can || !unknown || self.learnt || !compares(since) {
            return None;
        }
        self.awaits(next);
        Some(Question::Probe(self.bound(known)))
    }

    /// So many requests wait now.
    pub(super) fn counts(&mut self, now: Moment) {
        let (vouched, more_since) = &mut self.vouched;
        if self.seen.in_flight <= *vouched {
            *more_since = None;
        } else {
            more_since.get_or_insert(now);
        }
    }

    /// Whether it passed a probe in this quiet spell, and requests that came since then have waited for long.
    fn has_new_ones(&self, Known { after, now, .. }: Known) -> bool {
        self.passed > 0 && self.vouched.1.is_some_and(|since| now.since(since) >= after)
    }

    fn awaits(&mut self, question: u64) {
        self.awaited = question;
        self.waiting = self.seen.in_flight;
        self.learnt = true;
    }

    /// What is usual lately.
    pub(super) fn habits(&self, at_once: u64) -> String {
        match self.seen.asked {
            Asked::Probe { .. } if self.seen.in_flight <= at_once => {
                let shown = at_once / STRETCH;
                let requests = if shown == 1 { "request" } else { "requests" };
                format!("; its service answers probes while {shown} {requests} wait, as was seen lately")
            }
            Asked::Probe { answered, longest } if answered >= ENOUGH => {
                let longest = in_words(longest);
                format!("; it gave {answered} answers lately, and quiets of its service lasted {longest} at most")
            }
            _ => String::new(),
        }
    }

    pub(super) fn reason(&self, now: Moment, proof: &str) -> String {
        let quiet_ms = self.quiet_since().map_or(0, |since| now.since(since).as_millis());
        let (in_flight, requests) =
            (self.seen.in_flight, if self.seen.in_flight == 1 { "request" } else { "requests" });
        format!(
            "nothing received for {quiet_ms} ms with {in_flight} {requests} in flight while others are well, and {proof}"
        )
    }
}
