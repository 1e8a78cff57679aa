//! The edge around the core: it probes, observes, judges, chooses, repeats, holds and drains.
//!
//! What is decided is decided by the core; this module only does what a shell does: it keeps the state, asks at
//! the right moments and carries the answers out. It serves the newest snapshot it was given, also after it was
//! started again, and knows processes only by what they answer.

mod checking;
mod choice;
mod requests;
mod rules;
mod target;

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use evenkeel_core::{
    ejection::Ejector,
    retry::Budget,
    silence::{Asked, ENOUGH, Silence},
    snapshot::{Duty, Service, Snapshot},
    status::Health,
};

pub use self::target::Target;
use self::{checking::Probe, choice::Chooser, requests::Request};
use crate::{
    context::Context,
    fact::Failure,
    fleet::{Fleet, Key},
    queue::{EdgeEvent, NodeEvent, Report, Which},
};

/// How often the rules that look at all instances are asked.
pub const TICK: Duration = Duration::from_millis(50);

/// The edge process. A new life begins with [`Edge::restart`].
#[derive(Debug)]
pub struct Edge {
    service: Service,
    /// Who knows whether an instance lives.
    asked: Asked,
    /// The newest snapshot, as it is on disk.
    snapshot: Option<Rc<Snapshot>>,
    targets: BTreeMap<Key, Target>,
    silence: Silence<Key>,
    ejector: Ejector<Key>,
    budget: Budget,
    chooser: Chooser,
    requests: BTreeMap<u64, Request>,
    attempts: BTreeMap<u64, requests::Attempt>,
    held: VecDeque<u64>,
    probes: BTreeMap<u64, Probe>,
    /// Names tries and probes, over all lives.
    last_name: u64,
}

impl Edge {
    /// An edge without a snapshot.
    pub fn new(service: Service, kernel_tells: bool, ctx: &mut Context) -> Self {
        let probed = Asked::Probe { answered: ENOUGH, longest: Duration::ZERO };
        let edge = Self {
            asked: if kernel_tells { Asked::Kernel } else { probed },
            silence: Silence::new(service.limits.silent_after_ms),
            ejector: Ejector::new(service.ejection.clone()),
            budget: Budget::new(ctx.now),
            chooser: Chooser::new(service.balance),
            service,
            snapshot: None,
            targets: BTreeMap::new(),
            requests: BTreeMap::new(),
            attempts: BTreeMap::new(),
            held: VecDeque::new(),
            probes: BTreeMap::new(),
            last_name: 0,
        };
        start_ticking(ctx);
        edge
    }

    /// Ends: every client that waits loses its connection.
    pub fn end(&mut self, ctx: &mut Context) {
        for request in std::mem::take(&mut self.requests).into_keys() {
            requests::ended(request, Some(Failure::EdgeEnded), ctx);
        }
        self.targets.clear();
        self.attempts.clear();
        self.held.clear();
        self.probes.clear();
    }

    /// Begins a new life with nothing but the snapshot on disk. The context's life was counted up before.
    pub fn restart(&mut self, fleet: &Fleet, ctx: &mut Context) {
        self.silence = Silence::new(self.service.limits.silent_after_ms);
        self.ejector = Ejector::new(self.service.ejection.clone());
        self.budget = Budget::new(ctx.now);
        self.chooser = Chooser::new(self.service.balance);
        start_ticking(ctx);
        if let Some(snapshot) = self.snapshot.clone() {
            self.apply(snapshot, fleet, ctx);
        }
        ctx.to_node(NodeEvent::Hello);
    }

    /// Something reached the edge.
    pub fn on(&mut self, event: EdgeEvent, fleet: &mut Fleet, ctx: &mut Context) {
        match event {
            EdgeEvent::Tick => {
                self.tick(fleet, ctx);
                ctx.edge_after(TICK, EdgeEvent::Tick);
            }
            EdgeEvent::ProbeDue(key, which) => self.probe_due(key, which, fleet, ctx),
            EdgeEvent::Probed { probe, result } => self.probed(probe, result, fleet, ctx),
            EdgeEvent::Request(request, method) => self.request(request, method, fleet, ctx),
            EdgeEvent::TryEnded { attempt, end } => self.try_ended(attempt, end, fleet, ctx),
            EdgeEvent::Snapshot(snapshot) => self.apply(snapshot, fleet, ctx),
            EdgeEvent::Linked => self.tell_everything(ctx),
        }
        self.release_held(fleet, ctx);
    }

    /// What the edge knows of this process.
    pub fn target(&self, key: Key) -> Option<&Target> {
        self.targets.get(&key)
    }

    /// What the edge knows of all processes of its snapshot.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.values()
    }

    /// How many instances get requests.
    pub fn healthy(&self) -> usize {
        self.targets().filter(|target| target.health == Health::Healthy).count()
    }

    /// Requests in flight and held, over all instances.
    pub fn load(&self) -> usize {
        self.attempts.len() + self.held.len()
    }

    /// How many requests are in flight there.
    pub fn in_flight(&self, key: Key) -> u64 {
        self.target(key).map_or(0, |target| target.in_flight)
    }

    fn name(&mut self) -> u64 {
        self.last_name += 1;
        self.last_name
    }

    /// Serves another snapshot: what is known of instances that stay is kept.
    fn apply(&mut self, snapshot: Rc<Snapshot>, fleet: &Fleet, ctx: &mut Context) {
        ctx.seen("edge: snapshot applied");
        ctx.line("apply", snapshot.version, 0, || format!("the edge applies snapshot {}", snapshot.version));
        let service = &snapshot.services[0];
        let mut stay = BTreeMap::new();
        for instance in &service.instances {
            let number = number_of(&instance.id.name);
            let key = fleet.find(number, instance.id.generation);
            let key = key.expect("the node process publishes only what the guard started");
            let target = self.targets.remove(&key).unwrap_or_else(|| {
                let delay = ctx.rng.micros(0, 20_000);
                ctx.edge_after(delay, EdgeEvent::ProbeDue(key, Which::Check));
                ctx.edge_after(delay, EdgeEvent::ProbeDue(key, Which::Liveness));
                Target::new(key, instance, service.check.as_ref())
            });
            stay.insert(key, Target { duty: instance.duty, ..target });
        }
        for key in std::mem::replace(&mut self.targets, stay).into_keys() {
            ctx.seen("edge: instance removed");
            self.probes.retain(|_, probe| probe.key != key);
            self.ejector.on(evenkeel_core::ejection::Event::Gone { key }, ctx.now);
        }
        self.snapshot = Some(snapshot);
        for key in self.targets.keys().copied().collect::<Vec<_>>() {
            self.judge(key, ctx);
            self.report_drained(key, ctx);
        }
    }

    /// A node process that has just been started knows nothing of what was said to its predecessor.
    fn tell_everything(&mut self, ctx: &mut Context) {
        for target in self.targets.values_mut() {
            target.told_drained = false;
            let health = Report::Health(target.health, target.reason.clone());
            ctx.to_node(NodeEvent::Report(target.key, health));
            if let Some(passing) = target.live {
                tell_liveness(target.key, passing, ctx);
            }
        }
        for key in self.targets.keys().copied().collect::<Vec<_>>() {
            self.report_drained(key, ctx);
        }
    }

    /// Says once that a draining instance has nothing in flight any more.
    fn report_drained(&mut self, key: Key, ctx: &mut Context) {
        if let Some(target) = self.targets.get_mut(&key)
            && target.duty == Duty::Drain
            && target.in_flight == 0
            && !target.told_drained
        {
            target.told_drained = true;
            ctx.seen("edge: drained reported");
            ctx.to_node(NodeEvent::Report(key, Report::Drained));
        }
    }
}

fn start_ticking(ctx: &mut Context) {
    let delay = ctx.rng.micros(0, 50_000);
    ctx.edge_after(delay, EdgeEvent::Tick);
}

fn tell_liveness(key: Key, passing: bool, ctx: &mut Context) {
    if !ctx.off(crate::Sabotage::DropLiveness) {
        ctx.to_node(NodeEvent::Report(key, Report::Liveness(passing)));
    }
}

/// The number in an instance's name.
fn number_of(name: &str) -> u32 {
    let number = name.rsplit('/').next().and_then(|digits| digits.parse().ok());
    number.expect("names of instances end in their number")
}
