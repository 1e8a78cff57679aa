//! Supervision of one instance: when its process is started, killed, stopped and given up on.
//!
//! A [`Supervisor`] is a state machine: `on(event, now)` takes what was seen and returns what to do, each
//! decision with its reasons. The caller carries the outputs out in their order and calls again at
//! [`Supervisor::deadline`]. Whether an instance is wanted at all is decided by [`crate::rollout`]; a supervisor
//! only learns of it by [`Event::Retire`]. It never measures time itself and never starts a process.
//!
//! The first start again after an exit is immediate; then the delay doubles from [`Policy::delay`] to
//! [`Policy::max_delay`]. After [`Policy::attempts`] exits in a row without having been healthy in between it
//! gives up. An instance that was healthy at all waits at most [`SHORT_DELAY`], so that a series of unrelated
//! deaths costs little capacity, and one that was healthy for [`Policy::reset`] starts the count anew.

mod words;

use std::time::Duration;

use crate::{
    journal::{Level, Reason},
    pause::Stance,
    status::{ExitStatus, Health, Phase},
    time::Moment,
};

/// Longest delay before a new start of an instance that had been healthy.
pub const SHORT_DELAY: Duration = Duration::from_secs(1);

/// How long a kill or the end of a stop may go unconfirmed before the instance is killed again.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// The settings of the service that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a start may take until the instance is healthy for the first time.
    pub start_timeout: Duration,
    /// How long requests may finish before a stop sends its signal.
    pub drain: Duration,
    /// How long after the signal whatever is left is killed.
    pub grace: Duration,
    /// How long the liveness check must fail before the instance is killed; `None`: there is no such check.
    pub liveness_after: Option<Duration>,
    /// Delay after the second exit in a row.
    pub delay: Duration,
    /// Longest delay.
    pub max_delay: Duration,
    /// So long healthy, and the count of exits starts anew.
    pub reset: Duration,
    /// Exits in a row without being healthy after which to give up; at least 1.
    pub attempts: u32,
    /// Whether a restart or a kill that is due is done; otherwise it is said once and done when this changes.
    pub stance: Stance,
    /// Whether an operator drains it: then no probe can show that it is ready, so it is not killed for that.
    pub drained: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_mins(1),
            drain: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            liveness_after: None,
            delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(30),
            reset: Duration::from_secs(10),
            attempts: 10,
            stance: Stance::Act,
            drained: false,
        }
    }
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed; due at [`Supervisor::deadline`], harmless at any other moment.
    Tick,
    /// The guard could not start the process.
    NotStarted {
        /// Cause in words.
        reason: String,
    },
    /// The process ended, and so did all that it had started.
    Exited {
        /// How.
        status: ExitStatus,
        /// Descendants that outlived it and were killed.
        leftovers: u32,
    },
    /// The edge's verdict about this generation.
    Health {
        /// The verdict.
        health: Health,
        /// What led to it.
        reason: String,
    },
    /// The liveness check changed for this generation.
    Liveness {
        /// Whether it passes.
        passing: bool,
        /// What the last probe saw.
        reason: String,
    },
    /// It was draining and has nothing in flight any more.
    Drained,
    /// It is not wanted any more.
    Retire {
        /// Why, as a clause.
        reason: String,
    },
    /// An operator asks to try again after it gave up.
    TryAgain {
        /// What was asked, as a clause.
        reason: String,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start a process under the supervisor's (new) generation.
    Spawn,
    /// Send the stop signal; whatever is left after the grace period is killed.
    Stop {
        /// The grace period.
        grace: Duration,
    },
    /// Kill the process and its descendants now.
    Kill,
    /// The generation that ended needs no further attention of the guard.
    Forget,
    /// The instance is over and can be removed.
    Gone,
    /// Write this down.
    Record(Decision),
}

/// A decision or observation for the journal; the caller adds subject and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How much it matters.
    pub level: Level,
    /// A stable word.
    pub kind: &'static str,
    /// One sentence.
    pub message: String,
    /// What led to it.
    pub reasons: Vec<Reason>,
}

/// What survives a restart of whoever runs the supervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The generation of the newest start; 0 before the first one.
    pub generation: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// Exits in a row that count for the delay.
    pub exits: u32,
    /// Exits in a row without having been healthy.
    pub fruitless: u32,
    /// Whether the newest generation was healthy at least once.
    pub ready: bool,
    /// Why it is being stopped for good, if it is.
    pub leaving: Option<String>,
    /// Whether it gave up.
    pub gave_up: bool,
}

/// One instance's supervision.
#[derive(Clone, Debug)]
pub struct Supervisor {
    memory: Memory,
    phase: Phase,
    started: Moment,
    /// Since when the edge's verdict has been healthy.
    healthy_since: Option<Moment>,
    /// Since when the liveness check has failed, and what it saw.
    failing: Option<(Moment, String)>,
    /// Why this generation was killed by us; the exit that follows is explained by it.
    killed: Option<String>,
    /// When the present phase must be looked at again, whatever else happens.
    wake: Option<Moment>,
    /// Whether it was said that something is due and not done.
    said: bool,
}

impl Supervisor {
    /// An instance that has no process. It starts at its first `Tick`. `memory` may stem from a former life.
    pub fn new(memory: Memory, now: Moment) -> Self {
        let phase = if memory.gave_up { Phase::GaveUp } else { Phase::Waiting };
        let wake = (phase == Phase::Waiting).then_some(now);
        Self { memory, phase, started: now, healthy_since: None, failing: None, killed: None, wake, said: false }
    }

    /// An instance whose process runs since `started`, taken over from whoever supervised it before.
    pub fn adopt(memory: Memory, started: Moment, policy: &Policy, now: Moment) -> Self {
        let (phase, wake) = match (&memory.leaving, memory.ready) {
            (Some(_), _) => (Phase::Draining, Some(now + policy.drain)),
            (None, true) => (Phase::Running, None),
            (None, false) => (Phase::Starting, Some(started + policy.start_timeout)),
        };
        Self { memory, phase, started, healthy_since: None, failing: None, killed: None, wake, said: false }
    }

    /// The same, but its next start waits until `at`: what was left of a delay when its former keeper ended.
    #[must_use]
    pub fn not_before(mut self, at: Moment) -> Self {
        self.wake = self.wake.map(|wake| wake.max(at));
        self
    }

    /// When its next start is due, while it has no process.
    pub fn start_due(&self) -> Option<Moment> {
        self.wake.filter(|_| self.phase == Phase::Waiting)
    }

    /// Where the process stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What must be kept so that a successor can carry on.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// When the newest generation was started.
    pub fn started(&self) -> Moment {
        self.started
    }

    /// Whether it was killed and will be started again, so that it must get no more requests.
    pub fn is_doomed(&self) -> bool {
        self.killed.is_some()
    }

    /// Why this generation was killed by us, if it was.
    pub fn killed(&self) -> Option<&str> {
        self.killed.as_deref()
    }

    /// Whether it is healthy by the last verdict.
    pub fn is_healthy(&self) -> bool {
        self.healthy_since.is_some() && self.killed.is_none()
    }

    /// When to call with [`Event::Tick`] if nothing else happens before.
    pub fn deadline(&self, policy: &Policy) -> Option<Moment> {
        let due = [self.wake, self.liveness_deadline(policy)].into_iter().flatten().min();
        due.filter(|_| !(self.said && self.is_held(policy)))
    }

    /// Whether what is due next is an automatic decision, and those are not carried out now. What an operator
    /// ordered, and the end of what has begun, are none.
    fn is_held(&self, policy: &Policy) -> bool {
        let automatic = match self.phase {
            // A first start, or one after an operator's word, follows no exit.
            Phase::Waiting => self.memory.exits > 0,
            Phase::Starting | Phase::Running => self.killed.is_none(),
            Phase::Draining | Phase::Stopping | Phase::GaveUp => false,
        };
        automatic && policy.stance != Stance::Act
    }

    /// Whether it has no process and gets none, since automatic decisions are not carried out.
    pub fn is_waiting_for_leave(&self, policy: &Policy) -> bool {
        self.phase == Phase::Waiting && self.is_held(policy)
    }

    /// Says once what is due and not done.
    fn hold(&mut self, decision: Decision) -> Vec<Output> {
        if std::mem::replace(&mut self.said, true) { Vec::new() } else { vec![Output::Record(decision)] }
    }

    /// Takes one event and says what to do, in order.
    pub fn on(&mut self, policy: &Policy, event: Event, now: Moment) -> Vec<Output> {
        match event {
            Event::Tick => self.tick(policy, now),
            Event::NotStarted { reason } => self.ended(policy, &words::not_started(&reason), Ended::Never, now),
            Event::Exited { status, leftovers } => {
                let lived = now.since(self.started);
                self.ended(policy, &words::exited(status, lived, leftovers), Ended::Lived, now)
            }
            Event::Health { health, reason } => self.health(policy, health, &reason, now),
            Event::Liveness { passing, reason } => self.liveness(passing, reason, now),
            Event::Drained if self.phase == Phase::Draining => self.stop(policy, "nothing is in flight any more", now),
            Event::Drained => Vec::new(),
            Event::Retire { reason } => self.retire(policy, reason, now),
            Event::TryAgain { reason } => self.try_again(&reason, now),
        }
    }

    fn liveness_deadline(&self, policy: &Policy) -> Option<Moment> {
        let may_kill = self.phase == Phase::Running && self.killed.is_none();
        let (since, _) = self.failing.as_ref().filter(|_| may_kill)?;
        Some(*since + policy.liveness_after?)
    }

    fn tick(&mut self, policy: &Policy, now: Moment) -> Vec<Output> {
        if self.liveness_deadline(policy).is_some_and(|at| at <= now) {
            return self.kill_for_liveness(policy, now);
        }
        if self.wake.is_none_or(|at| now < at) {
            return Vec::new();
        }
        match self.phase {
            Phase::Waiting if self.is_held(policy) => self.hold(words::start_held(policy)),
            Phase::Waiting => self.spawn(policy, now),
            Phase::Draining => self.stop(policy, "the time for draining is over", now),
            Phase::Starting if self.killed.is_none() && policy.drained => {
                self.wake = Some(now + policy.start_timeout);
                Vec::new()
            }
            Phase::Starting if self.killed.is_none() => self.kill_for_start(policy, now),
            Phase::Starting | Phase::Running | Phase::Stopping => {
                self.wake = Some(now + CONFIRM_WITHIN);
                vec![Output::Kill]
            }
            Phase::GaveUp => {
                self.wake = None;
                Vec::new()
            }
        }
    }

    fn spawn(&mut self, policy: &Policy, now: Moment) -> Vec<Output> {
        if self.memory.generation > 0 {
            self.memory.restarts += u64::from(self.memory.exits > 0);
        }
        self.memory.generation += 1;
        self.memory.ready = false;
        self.phase = Phase::Starting;
        self.started = now;
        self.healthy_since = None;
        self.failing = None;
        self.killed = None;
        self.said = false;
        self.wake = Some(now + policy.start_timeout);
        vec![Output::Spawn]
    }

    fn kill_for_start(&mut self, policy: &Policy, now: Moment) -> Vec<Output> {
        self.kill(policy, words::start_timeout(policy), now)
    }

    fn kill_for_liveness(&mut self, policy: &Policy, now: Moment) -> Vec<Output> {
        let (since, seen) = self.failing.clone().expect("a liveness deadline exists only while the check fails");
        self.kill(policy, words::liveness(policy, now.since(since), &seen), now)
    }

    /// Kills it so that it is started again.
    fn kill(&mut self, policy: &Policy, decision: Decision, now: Moment) -> Vec<Output> {
        if self.is_held(policy) {
            return self.hold(decision);
        }
        self.killed = Some(decision.message.clone());
        self.wake = Some(now + CONFIRM_WITHIN);
        vec![Output::Record(decision), Output::Kill]
    }

    fn health(&mut self, policy: &Policy, health: Health, reason: &str, now: Moment) -> Vec<Output> {
        if matches!(self.phase, Phase::Waiting | Phase::GaveUp) {
            // A verdict that was on its way when the process ended says nothing any more.
            return Vec::new();
        }
        if health != Health::Healthy {
            if self.healthy_since.is_some_and(|since| now.since(since) >= policy.reset) {
                self.memory.exits = 0;
            }
            self.healthy_since = None;
            return Vec::new();
        }
        self.healthy_since.get_or_insert(now);
        self.memory.fruitless = 0;
        if self.phase != Phase::Starting || self.killed.is_some() {
            return Vec::new();
        }
        self.phase = Phase::Running;
        self.memory.ready = true;
        self.said = false;
        self.wake = None;
        // What the liveness check saw of a process that was still starting says nothing.
        self.failing = self.failing.take().map(|(_, seen)| (now, seen));
        vec![Output::Record(words::ready(now.since(self.started), reason))]
    }

    fn liveness(&mut self, passing: bool, reason: String, now: Moment) -> Vec<Output> {
        if passing {
            self.failing = None;
            self.said &= self.phase != Phase::Running;
        } else if self.failing.is_none() {
            self.failing = Some((now, reason));
        }
        Vec::new()
    }

    fn retire(&mut self, policy: &Policy, reason: String, now: Moment) -> Vec<Output> {
        match self.phase {
            Phase::Draining | Phase::Stopping => Vec::new(),
            Phase::Waiting | Phase::GaveUp => {
                let record = Output::Record(words::removed(&reason));
                self.memory.leaving = Some(reason);
                self.wake = None;
                vec![record, Output::Gone]
            }
            // The edge may have seen it pass its check, and have sent requests, before we were told.
            Phase::Starting | Phase::Running => {
                let record = Output::Record(words::draining(policy, &reason));
                self.memory.leaving = Some(reason);
                self.phase = Phase::Draining;
                self.wake = Some(now + policy.drain);
                vec![record]
            }
        }
    }

    fn stop(&mut self, policy: &Policy, why: &str, now: Moment) -> Vec<Output> {
        let leaving = self.memory.leaving.as_deref().unwrap_or("it is not wanted any more");
        let record = Output::Record(words::stopping(policy, leaving, why));
        self.phase = Phase::Stopping;
        self.wake = Some(now + policy.grace + CONFIRM_WITHIN);
        vec![record, Output::Stop { grace: policy.grace }]
    }

    fn ended(&mut self, policy: &Policy, how: &str, life: Ended, now: Moment) -> Vec<Output> {
        let mut outputs = match life {
            Ended::Never => Vec::new(),
            Ended::Lived => vec![Output::Forget],
        };
        match self.phase {
            // A late report about a generation that is already accounted for.
            Phase::Waiting | Phase::GaveUp => {}
            Phase::Draining | Phase::Stopping => {
                self.wake = None;
                outputs.push(Output::Record(words::stopped(how, self.memory.leaving.as_deref())));
                outputs.push(Output::Gone);
            }
            Phase::Starting | Phase::Running => outputs.push(Output::Record(self.after_exit(policy, how, now))),
        }
        outputs
    }

    /// Counts the exit, and either waits for the next start or gives up.
    fn after_exit(&mut self, policy: &Policy, how: &str, now: Moment) -> Decision {
        if self.healthy_since.take().is_some_and(|since| now.since(since) >= policy.reset) {
            self.memory.exits = 0;
        }
        let (was_ready, killed) = (self.memory.ready, self.killed.take());
        self.memory.exits = self.memory.exits.saturating_add(1);
        self.memory.fruitless = if was_ready { 0 } else { self.memory.fruitless.saturating_add(1) };
        self.failing = None;
        if self.memory.fruitless >= policy.attempts {
            self.phase = Phase::GaveUp;
            self.memory.gave_up = true;
            self.wake = None;
            return words::gave_up(policy, how, killed.as_deref());
        }
        let delay = self.delay(policy, was_ready);
        self.phase = Phase::Waiting;
        self.wake = Some(now + delay);
        self.said = self.is_held(policy);
        words::restarting(policy, how, killed.as_deref(), delay, &self.memory, was_ready)
    }

    /// Zero after the first exit in a row, then doubling.
    fn delay(&self, policy: &Policy, was_ready: bool) -> Duration {
        let Some(doublings) = self.memory.exits.checked_sub(2) else {
            return Duration::ZERO;
        };
        let longest = if was_ready { policy.max_delay.min(SHORT_DELAY) } else { policy.max_delay };
        policy.delay.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(longest)
    }

    fn try_again(&mut self, reason: &str, now: Moment) -> Vec<Output> {
        if self.phase != Phase::GaveUp {
            return Vec::new();
        }
        self.phase = Phase::Waiting;
        self.memory.gave_up = false;
        self.memory.exits = 0;
        self.memory.fruitless = 0;
        self.wake = Some(now);
        vec![Output::Record(words::trying_again(reason))]
    }
}

/// Whether there had been a process at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Never,
    Lived,
}

#[cfg(test)]
mod tests;
