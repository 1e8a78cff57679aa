//! One process of an instance: it boots, serves, may freeze, be slow, fail, and ends.
//!
//! A frozen process still has a kernel that accepts connections for it: requests and probes wait there and are
//! acted upon when it goes on, even where whoever sent them has long given up.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{
    status::{ExitStatus, InstanceId},
    time::Moment,
};

use crate::{
    context::Context,
    fact::Fact,
    fault::Errors,
    fleet::Key,
    queue::{EdgeEvent, Event, TryEnd},
};

/// A process.
#[derive(Debug)]
pub struct Process {
    /// Its key.
    pub key: Key,
    /// Name and generation.
    pub id: InstanceId,
    /// The instance's number.
    pub number: u32,
    /// Where it stands.
    pub state: State,
    /// How it treats requests.
    pub mode: Mode,
    /// Whether it is stopped without having ended.
    pub frozen: bool,
    /// It was sent the stop signal.
    pub terminated: bool,
    /// It does not end when it is asked to.
    pub ignores_term: bool,
    /// Since when nothing at all is wrong with it.
    pub well_since: Option<Moment>,
    /// When it went on last after it was frozen.
    pub thawed: Option<Moment>,
    pace: u64,
    timers: BTreeMap<Timer, Moment>,
    works: BTreeMap<u64, Work>,
    probes: Vec<u64>,
}

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does not listen yet.
    Booting,
    /// It serves.
    Serving,
    /// It ended like this.
    Dead(ExitStatus),
}

/// How a process treats requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    Normal,
    /// They take long.
    Slow,
    /// They fail.
    Fails(Errors),
}

/// What a process waits for. While it is frozen, no timer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// It begins to serve.
    Ready,
    /// It ends by itself.
    Exit,
    /// This try is answered.
    Finish(u64),
}

#[derive(Debug)]
struct Work {
    request: u64,
    idempotent: bool,
    end: Option<TryEnd>,
}

impl Process {
    pub(super) fn new(key: Key, id: InstanceId, number: u32) -> Self {
        Self {
            key,
            id,
            number,
            state: State::Booting,
            mode: Mode::Normal,
            frozen: false,
            terminated: false,
            ignores_term: false,
            well_since: None,
            thawed: None,
            pace: 0,
            timers: BTreeMap::new(),
            works: BTreeMap::new(),
            probes: Vec::new(),
        }
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, State::Dead(_))
    }

    /// Whether it serves as it should.
    pub fn is_well(&self) -> bool {
        self.well_since.is_some()
    }

    /// It, or rather its kernel, receives a request.
    pub fn receive(&mut self, attempt: u64, request: u64, idempotent: bool, ctx: &mut Context) {
        if self.state != State::Serving || self.terminated {
            let end = TryEnd::Refused;
            ctx.edge_after(Duration::from_micros(200), EdgeEvent::TryEnded { attempt, end });
            return;
        }
        let work = Work { request, idempotent, end: None };
        self.works.insert(attempt, work);
        if !self.frozen {
            self.execute(attempt, ctx);
        }
    }

    /// It, or rather its kernel, receives a probe. Whether an answer is on its way.
    pub fn probe(&mut self, probe: u64, ctx: &mut Context) -> bool {
        if self.state == State::Serving && self.frozen {
            self.probes.push(probe);
            return false;
        }
        let result = match self.state {
            State::Serving if !self.terminated => Ok(()),
            State::Booting if self.timers.is_empty() => Err("status 503"),
            State::Serving | State::Booting | State::Dead(_) => Err("connect: refused"),
        };
        let delay = ctx.rng.micros(300, 3_000);
        ctx.edge_after(delay, EdgeEvent::Probed { probe, result });
        true
    }

    /// Stops running.
    pub fn freeze(&mut self, ctx: &mut Context) {
        self.frozen = true;
        self.well_since = None;
        self.pace += 1;
        for due in self.timers.values_mut() {
            // What is left of it, counted from the clock's origin.
            *due = Moment::ORIGIN + due.since(ctx.now);
        }
        ctx.line("freeze", self.key, 0, || format!("{} is stopped", self.id));
        ctx.fact(Fact::Frozen { key: self.key, frozen: true });
    }

    /// Goes on.
    pub fn thaw(&mut self, ctx: &mut Context) {
        if !self.frozen {
            return;
        }
        self.frozen = false;
        self.thawed = Some(ctx.now);
        self.pace += 1;
        ctx.line("thaw", self.key, 0, || format!("{} goes on", self.id));
        ctx.fact(Fact::Frozen { key: self.key, frozen: false });
        for (timer, left) in std::mem::take(&mut self.timers) {
            self.arm(timer, left.since(Moment::ORIGIN), ctx);
        }
        let waiting: Vec<u64> = self.works.iter().filter(|(_, work)| work.end.is_none()).map(|(at, _)| *at).collect();
        for attempt in waiting {
            self.execute(attempt, ctx);
        }
        for probe in std::mem::take(&mut self.probes) {
            // Threads wake in any order, so an old request may be answered before an old probe.
            let delay = ctx.rng.micros(300, 150_000);
            ctx.edge_after(delay, EdgeEvent::Probed { probe, result: Ok(()) });
        }
        self.settle(ctx.now);
    }

    /// Treats requests like this from now on.
    pub fn set_mode(&mut self, mode: Mode, ctx: &mut Context) {
        ctx.line("mode", self.key, 0, || format!("{} is {mode:?}", self.id));
        self.mode = mode;
        self.well_since = None;
        self.settle(ctx.now);
    }

    /// Is asked to end: accepts nothing more, finishes what it has for a moment, and ends.
    pub(super) fn terminate(&mut self, ctx: &mut Context) {
        ctx.line("terminate", self.key, 0, || format!("{} is asked to end", self.id));
        if self.ignores_term || self.terminated {
            return;
        }
        self.terminated = true;
        self.well_since = None;
        self.timers.remove(&Timer::Ready);
        let delay = ctx.rng.millis(5, 200);
        if self.frozen {
            self.timers.insert(Timer::Exit, Moment::ORIGIN + delay);
        } else {
            self.arm(Timer::Exit, delay, ctx);
        }
    }

    pub(super) fn ready(&mut self, ctx: &mut Context) {
        self.state = State::Serving;
        ctx.line("serves", self.key, 0, || format!("{} begins to serve", self.id));
        self.settle(ctx.now);
    }

    pub(super) fn finish(&mut self, attempt: u64, ctx: &mut Context) {
        if let Some(end) = self.works.remove(&attempt).and_then(|work| work.end) {
            ctx.edge_after(Duration::from_micros(100), EdgeEvent::TryEnded { attempt, end });
        }
    }

    /// Starts a timer.
    pub(super) fn arm(&mut self, timer: Timer, delay: Duration, ctx: &mut Context) {
        self.timers.insert(timer, ctx.now + delay);
        let (key, pace) = (self.key, self.pace);
        ctx.after(delay, Event::Process { key, pace, timer });
    }

    /// Whether a timer that came due still counts; it is spent.
    pub(super) fn take(&mut self, pace: u64, timer: Timer) -> bool {
        self.is_alive() && self.pace == pace && self.timers.remove(&timer).is_some()
    }

    /// The tries and probes that end with it.
    pub(super) fn let_go(&mut self) -> (Vec<u64>, Vec<u64>) {
        self.timers.clear();
        let attempts = std::mem::take(&mut self.works).into_keys().collect();
        (attempts, std::mem::take(&mut self.probes))
    }

    fn execute(&mut self, attempt: u64, ctx: &mut Context) {
        let work = self.works.get_mut(&attempt).expect("only what was received is executed");
        let usual = if ctx.rng.chance(2) { ctx.rng.millis(300, 1_200) } else { ctx.rng.millis(1, 20) };
        let (end, takes) = match self.mode {
            Mode::Normal => (TryEnd::Answered(200), usual),
            Mode::Slow => (TryEnd::Answered(200), ctx.rng.millis(300, 2_500)),
            Mode::Fails(Errors::Cut) => (TryEnd::Cut, ctx.rng.millis(1, 10)),
            Mode::Fails(Errors::Status) => (TryEnd::Answered(503), ctx.rng.millis(1, 10)),
        };
        work.end = Some(end);
        let (request, idempotent) = (work.request, work.idempotent);
        ctx.line("execute", request, self.key, || format!("request {request} by {}", self.id));
        ctx.fact(Fact::Executed { request, idempotent, key: self.key });
        self.arm(Timer::Finish(attempt), takes, ctx);
    }

    fn settle(&mut self, now: Moment) {
        let well = self.state == State::Serving && self.mode == Mode::Normal && !self.frozen && !self.terminated;
        if well && self.well_since.is_none() {
            self.well_since = Some(now);
        }
    }
}
