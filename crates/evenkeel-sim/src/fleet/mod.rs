//! The fleet: all processes of instances there are and were, and what the guard does with them.
//!
//! It belongs to neither edge nor node process, so both may end without any process noticing. A process's key is
//! its place in the order of starts; the edge and the invariants know instances by it.

mod process;

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{
    status::{ExitStatus, InstanceId},
    time::Moment,
};

pub use self::process::{Mode, Process, State, Timer};
use crate::{
    context::Context,
    fact::Fact,
    fault::Boot,
    queue::{EdgeEvent, Event, NodeEvent, TryEnd},
};

/// Names a process for all time.
pub type Key = u64;

/// All processes.
#[derive(Debug, Default)]
pub struct Fleet {
    processes: Vec<Process>,
    by_id: BTreeMap<(u32, u64), Key>,
    /// How a number boots for a while, whatever its specification says.
    afflictions: BTreeMap<u32, (Boot, Moment)>,
    next_ignores_term: bool,
}

impl Fleet {
    /// This process, dead or alive.
    pub fn get(&self, key: Key) -> &Process {
        &self.processes[usize::try_from(key).expect("a key is an index")]
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> &mut Process {
        &mut self.processes[usize::try_from(key).expect("a key is an index")]
    }

    /// The newest process of this number and generation.
    pub fn find(&self, number: u32, generation: u64) -> Option<Key> {
        self.by_id.get(&(number, generation)).copied()
    }

    /// Those that live.
    pub fn alive(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_alive())
    }

    /// For a while this number boots like this.
    pub fn afflict(&mut self, number: u32, boot: Boot, until: Moment) {
        self.afflictions.insert(number, (boot, until));
    }

    /// How a process of this number would boot now.
    pub fn boots(&self, number: u32, boot: Boot, now: Moment) -> Boot {
        match self.afflictions.get(&number) {
            Some((afflicted, until)) if now < *until => *afflicted,
            _ => boot,
        }
    }

    /// Starts a process; `None` when it cannot be started.
    pub fn spawn(&mut self, number: u32, generation: u64, boot: Boot, ctx: &mut Context) -> Option<Key> {
        let boot = self.boots(number, boot, ctx.now);
        if boot == Boot::NotStartable {
            return None;
        }
        let key = self.processes.len() as Key;
        let id = InstanceId { name: format!("shop/{number}"), generation };
        ctx.line("spawn", key, u64::from(number), || format!("{id} is process {key}, boots {boot:?}"));
        let mut process = Process::new(key, id, number);
        process.ignores_term = std::mem::take(&mut self.next_ignores_term);
        match boot {
            Boot::Normal => process.arm(Timer::Ready, ctx.rng.millis(50, 600), ctx),
            Boot::Slowly => process.arm(Timer::Ready, ctx.rng.millis(1_500, 6_500), ctx),
            Boot::Exits => process.arm(Timer::Exit, ctx.rng.millis(5, 400), ctx),
            Boot::NeverReady | Boot::NotStartable => {}
        }
        self.processes.push(process);
        self.by_id.insert((number, generation), key);
        ctx.fact(Fact::Spawned { key });
        Some(key)
    }

    /// Kills a process, if it lives.
    pub fn kill(&mut self, key: Key, ctx: &mut Context) {
        self.die(key, ExitStatus::Signal(9), ctx);
    }

    /// Sends the stop signal; what is left after `grace` is killed.
    pub fn stop(&mut self, key: Key, grace: Duration, ctx: &mut Context) {
        if self.get(key).is_alive() {
            ctx.after(grace, Event::GraceOver(key));
            self.get_mut(key).terminate(ctx);
        }
    }

    /// The grace period of a stop is over.
    pub fn grace_over(&mut self, key: Key, ctx: &mut Context) {
        if self.get(key).is_alive() {
            ctx.seen("supervise: killed after its grace");
            self.kill(key, ctx);
        }
    }

    /// A process, or the next one that starts, will not end when it is asked to.
    pub fn ignore_term(&mut self, key: Option<Key>) {
        match key {
            Some(key) => self.get_mut(key).ignores_term = true,
            None => self.next_ignores_term = true,
        }
    }

    /// A timer of a process came due.
    pub fn timer(&mut self, key: Key, pace: u64, timer: Timer, ctx: &mut Context) {
        let process = self.get_mut(key);
        if !process.take(pace, timer) {
            return;
        }
        match timer {
            Timer::Ready => process.ready(ctx),
            Timer::Finish(attempt) => process.finish(attempt, ctx),
            Timer::Exit => {
                let status = if process.terminated { ExitStatus::Signal(15) } else { ExitStatus::Code(1) };
                self.die(key, status, ctx);
            }
        }
    }

    /// The process ends: connections are cut, and the guard tells the node process.
    pub fn die(&mut self, key: Key, status: ExitStatus, ctx: &mut Context) {
        let process = self.get_mut(key);
        if !process.is_alive() {
            return;
        }
        ctx.trace.line(ctx.now, "exit", key, 0, || format!("{} ended: {status}", process.id));
        process.state = State::Dead(status);
        process.well_since = None;
        process.frozen = false;
        let (attempts, probes) = process.let_go();
        for attempt in attempts {
            let end = TryEnd::Cut;
            ctx.edge_after(Duration::from_micros(200), EdgeEvent::TryEnded { attempt, end });
        }
        for probe in probes {
            let result = Err("connection cut");
            ctx.edge_after(Duration::from_micros(200), EdgeEvent::Probed { probe, result });
        }
        let delay = ctx.rng.millis(1, 4);
        ctx.node_after(delay, NodeEvent::Exited(key, status));
    }
}
