//! The node process around the core: a supervisor for each instance, rollouts, snapshots for the edge.
//!
//! Whatever must survive its restart is written down before it is acted upon, and after a restart it looks at what
//! the guard holds and carries on. It starts, stops and kills nothing that a supervisor did not ask for.

mod outputs;
mod pausing;
mod reconcile;
mod scaling;

use std::collections::BTreeMap;

use evenkeel_core::{
    rollout::Desired,
    snapshot::{Duty, Service},
    stack::Elastic,
    status::{ExitStatus, Health, InstanceId, Phase},
    supervise::{Event, Memory, Policy, Supervisor},
    time::Moment,
};

use crate::{
    Sabotage,
    context::Context,
    fact::Fact,
    fault::{Boot, Change},
    fleet::{Fleet, Key, State},
    queue::{EdgeEvent, NodeEvent, Report},
};

/// The node process and its disk.
#[derive(Debug)]
pub struct Node {
    /// Whether it runs.
    pub up: bool,
    slots: BTreeMap<u32, Slot>,
    disk: Disk,
    policy: Policy,
    service: Service,
    /// What the edge was told last; `None`: it must be told anew.
    published: Option<Vec<(InstanceId, Duty)>>,
    /// The earliest moment at which a supervisor will be called.
    armed: Option<Moment>,
    elastic: Option<Elastic>,
    scaling: Option<scaling::Scaling>,
}

/// What survives a restart.
#[derive(Debug)]
struct Disk {
    desired: Desired,
    /// Whether an operator fixed the number of an elastic service.
    pinned: bool,
    paused: Option<pausing::Pause>,
    boot: Boot,
    revision: u64,
    version: u64,
    slots: BTreeMap<u32, Stored>,
    /// The newest generation of each number there ever was: a number may be used again, a generation may not.
    generations: BTreeMap<u32, u64>,
}

#[derive(Clone, Debug)]
struct Stored {
    memory: Memory,
    started: Moment,
    digest: String,
    boot: Boot,
    process: Option<Key>,
}

/// One instance.
#[derive(Debug)]
pub struct Slot {
    supervisor: Supervisor,
    /// The specification it was created from.
    digest: String,
    /// How that specification boots.
    boot: Boot,
    /// The process of the newest generation, until its end has been reported.
    process: Option<Key>,
}

impl Slot {
    /// Where its process stands.
    pub fn phase(&self) -> Phase {
        self.supervisor.phase()
    }

    /// How its specification boots.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// The specification it was created from.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its process, until its end has been reported.
    pub fn process(&self) -> Option<Key> {
        self.process
    }
}

impl Node {
    /// A node process that has just read its stack.
    pub fn new(service: Service, policy: Policy, replicas: u32, elastic: Option<Elastic>) -> Self {
        let desired = Desired { replicas, digest: "v1".to_owned() };
        Self {
            up: true,
            slots: BTreeMap::new(),
            disk: Disk {
                desired,
                pinned: false,
                paused: None,
                boot: Boot::Normal,
                revision: 1,
                version: 0,
                slots: BTreeMap::new(),
                generations: BTreeMap::new(),
            },
            policy,
            service,
            published: None,
            armed: None,
            elastic,
            scaling: None,
        }
    }

    /// What the stack says, and how instances of its specification boot.
    pub fn wanted(&self) -> (&Desired, Boot) {
        (&self.disk.desired, self.disk.boot)
    }

    /// Its instances by number.
    pub fn slots(&self) -> &BTreeMap<u32, Slot> {
        &self.slots
    }

    /// Ends. What it knew beyond its disk is lost.
    pub fn end(&mut self) {
        self.up = false;
        self.slots.clear();
        self.scaling = None;
    }

    /// Starts again: adopts what runs. The context's life was counted up before.
    pub fn restart(&mut self, fleet: &mut Fleet, ctx: &mut Context) {
        self.up = true;
        self.published = None;
        self.armed = None;
        for (number, stored) in self.disk.slots.clone() {
            self.adopt(number, stored, fleet, ctx);
        }
        ctx.to_edge(EdgeEvent::Linked);
        self.begin_scaling(ctx);
        self.go_on_with_pause(ctx);
        self.settle(fleet, ctx);
    }

    /// Something reached the node process.
    pub fn on(&mut self, event: NodeEvent, fleet: &mut Fleet, ctx: &mut Context) {
        match event {
            NodeEvent::Wake => self.wake(fleet, ctx),
            NodeEvent::Exited(key, status) => self.exited(key, status, fleet, ctx),
            NodeEvent::NotStarted(number, generation) => {
                if self.slot_of(number, generation).is_some_and(|slot| slot.process.is_none()) {
                    ctx.seen("supervise: not started");
                    let reason = "no such file".to_owned();
                    ctx.fact(Fact::EndSeen { number });
                    self.step(number, Event::NotStarted { reason }, fleet, ctx);
                }
            }
            NodeEvent::Report(key, report) => self.report(key, report, fleet, ctx),
            NodeEvent::Hello => self.published = None,
            NodeEvent::Change(change) => self.change(change, fleet, ctx),
            NodeEvent::Counted { in_flight, come } => self.counted(in_flight, come, ctx),
            NodeEvent::Look => self.look(ctx),
            NodeEvent::PauseOver => self.pause_over(fleet, ctx),
        }
        self.settle(fleet, ctx);
    }

    /// The stack changes; also while no node process runs, since it reads the stack when it starts.
    pub fn change(&mut self, change: Change, fleet: &mut Fleet, ctx: &mut Context) {
        if !matches!(change, Change::Pause(_)) {
            self.ordered();
        }
        match change {
            Change::Pause(length) => self.pause(length, ctx),
            Change::Scale(replicas) => self.order(Some(replicas), ctx),
            Change::Auto => self.order(None, ctx),
            Change::Restart => {
                for slot in self.slots.values_mut() {
                    slot.digest.push('*');
                }
                for number in self.slots.keys().copied().collect::<Vec<_>>() {
                    self.keep(number);
                }
                ctx.fact(Fact::Ordered { replicas: self.disk.desired.replicas, pinned: self.disk.pinned });
            }
            Change::Apply(boot) => {
                self.disk.revision += 1;
                self.disk.desired.digest = format!("v{}", self.disk.revision);
                self.disk.boot = boot;
            }
            Change::TryAgain => {
                let gave_up = |(_, slot): &(&u32, &Slot)| slot.phase() == Phase::GaveUp;
                for number in self.slots.iter().filter(gave_up).map(|(number, _)| *number).collect::<Vec<_>>() {
                    let reason = "an operator asked for it".to_owned();
                    ctx.fact(Fact::TriedAgain { number });
                    self.step(number, Event::TryAgain { reason }, fleet, ctx);
                }
            }
        }
    }

    fn slot_of(&self, number: u32, generation: u64) -> Option<&Slot> {
        let same = |slot: &&Slot| slot.supervisor.memory().generation == generation;
        self.slots.get(&number).filter(same)
    }

    fn adopt(&mut self, number: u32, stored: Stored, fleet: &mut Fleet, ctx: &mut Context) {
        let Stored { memory, started, digest, boot, process } = stored;
        let process = process.filter(|_| !ctx.off(Sabotage::ForgetProcesses));
        let supervisor = match process {
            Some(_) => Supervisor::adopt(memory, started, &self.policy, ctx.now),
            None => Supervisor::new(memory, ctx.now),
        };
        match (process, supervisor.phase()) {
            (None, _) => ctx.seen("node: resumed without a process"),
            (_, Phase::Draining) => ctx.seen("node: adopted draining"),
            (_, Phase::Running) => ctx.seen("node: adopted running"),
            _ => ctx.seen("node: adopted starting"),
        }
        let slot = Slot { supervisor, digest, boot, process };
        self.slots.insert(number, slot);
        if let Some(key) = process
            && let State::Dead(status) = fleet.get(key).state
        {
            ctx.seen("node: exit found at adoption");
            self.exited(key, status, fleet, ctx);
        }
    }

    fn wake(&mut self, fleet: &mut Fleet, ctx: &mut Context) {
        self.armed = None;
        let policy = self.policy_in_force(ctx);
        let due = |slot: &Slot| slot.supervisor.deadline(&policy).is_some_and(|at| at <= ctx.now);
        let due: Vec<u32> = self.slots.iter().filter(|(_, slot)| due(slot)).map(|(number, _)| *number).collect();
        for number in due {
            self.step(number, Event::Tick, fleet, ctx);
        }
    }

    fn exited(&mut self, key: Key, status: ExitStatus, fleet: &mut Fleet, ctx: &mut Context) {
        let found = self.slots.iter_mut().find(|(_, slot)| slot.process == Some(key));
        let Some((&number, slot)) = found else {
            return ctx.seen("node: late report dropped");
        };
        slot.process = None;
        ctx.fact(Fact::EndSeen { number });
        self.step(number, Event::Exited { status, leftovers: 0 }, fleet, ctx);
    }

    fn report(&mut self, key: Key, report: Report, fleet: &mut Fleet, ctx: &mut Context) {
        let process = fleet.get(key);
        let (number, generation) = (process.number, process.id.generation);
        if self.slot_of(number, generation).is_none() {
            return ctx.seen("node: late report dropped");
        }
        let event = match report {
            Report::Health(health, reason) => {
                // A verdict about a process that has ended says nothing any more.
                if self.slots.get(&number).is_some_and(|slot| slot.process == Some(key)) {
                    let healthy = health == Health::Healthy;
                    ctx.fact(Fact::VerdictSeen { number, healthy });
                }
                Event::Health { health, reason }
            }
            Report::Liveness(passing) => Event::Liveness { passing, reason: "no answer in time".to_owned() },
            Report::Drained => Event::Drained,
        };
        self.step(number, event, fleet, ctx);
    }
}
