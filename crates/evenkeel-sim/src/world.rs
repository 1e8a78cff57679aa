//! The world: one loop that takes the next event, hands it on, and lets the invariants judge what happened.

use std::time::Duration;

use evenkeel_core::{status::ExitStatus, time::Moment};

use crate::{
    client::Ledger,
    context::Context,
    coverage::Coverage,
    edge::Edge,
    fact::Fact,
    fault::{Boot, Change, Fault},
    fleet::{Fleet, Key, Mode},
    invariants::{self, Invariant, View},
    node::Node,
    queue::{EdgeEvent, Event, Inbox, NodeEvent},
    rng::Rng,
    sabotage::Sabotage,
    scenario::Scenario,
};

/// When the first client comes: instances have had time to start.
const FIRST_CLIENT: Duration = Duration::from_secs(3);

/// How often the edge tells the node process its counters.
const COUNTS_EVERY: Duration = Duration::from_millis(250);

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Make the text of the trace.
    pub text: bool,
    /// Switch a rule off.
    pub sabotage: Option<Sabotage>,
    /// Judge by this invariant alone.
    pub only: Option<&'static str>,
}

/// What a run showed.
#[derive(Debug)]
pub struct Outcome {
    /// The first violation, at which the run stopped.
    pub violation: Option<Violation>,
    /// Equal for equal runs.
    pub hash: u64,
    /// What was seen.
    pub coverage: Coverage,
    /// The trace, if asked for.
    pub lines: Vec<String>,
    /// How many requests clients sent.
    pub requests: u64,
    /// How many events happened.
    pub events: u64,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// When.
    pub at: Moment,
    /// What happened, in words.
    pub what: String,
}

/// Runs the scenario of this seed to its end or to the first violation.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = World::new(Scenario::draw(seed), options);
    let mut events = 0;
    let mut violation = None;
    while violation.is_none() && !world.over {
        let (at, event) = world.ctx.queue.pop().expect("the end is an event");
        world.ctx.now = at;
        world.take(event);
        events += 1;
        violation = world.judge();
    }
    Outcome {
        violation,
        hash: world.ctx.trace.hash(),
        coverage: world.ctx.coverage,
        requests: world.ledger.entries().len() as u64,
        lines: world.ctx.trace.into_lines(),
        events,
    }
}

struct World {
    scenario: Scenario,
    ctx: Context,
    fleet: Fleet,
    edge: Edge,
    node: Node,
    ledger: Ledger,
    clients: Rng,
    /// Until when the edge is not scheduled; what reaches it meanwhile waits in the inbox.
    edge_asleep: Option<Moment>,
    edge_up: bool,
    inbox: Inbox,
    invariants: Vec<Box<dyn Invariant>>,
    over: bool,
}

impl World {
    fn new(scenario: Scenario, options: &Options) -> Self {
        let mut rng = Rng::new(scenario.seed ^ 0x5eed);
        let clients = rng.split();
        let mut ctx = Context::new(rng, options.text, options.sabotage);
        let mut fleet = Fleet::default();
        let edge = Edge::new(scenario.service.clone(), scenario.kernel_tells, &mut ctx);
        let mut node =
            Node::new(scenario.service.clone(), scenario.policy.clone(), scenario.replicas, scenario.elastic.clone());
        node.restart(&mut fleet, &mut ctx);
        ctx.after(FIRST_CLIENT, Event::Arrive);
        if scenario.elastic.is_some() {
            ctx.after(COUNTS_EVERY, Event::Count);
        }
        for (at, (moment, _)) in scenario.faults.iter().enumerate() {
            ctx.queue.push(*moment, Event::Fault(at));
        }
        ctx.queue.push(scenario.calm_at, Event::FaultsOver);
        ctx.queue.push(scenario.ends_at, Event::End);
        let mut invariants = invariants::all();
        invariants.retain(|invariant| options.only.is_none_or(|only| only == invariant.name()));
        Self {
            scenario,
            ctx,
            fleet,
            edge,
            node,
            ledger: Ledger::default(),
            clients,
            edge_asleep: None,
            edge_up: true,
            inbox: Inbox::new(),
            invariants,
            over: false,
        }
    }

    fn take(&mut self, event: Event) {
        let (fleet, ctx) = (&mut self.fleet, &mut self.ctx);
        match event {
            Event::Arrive => self.arrive(),
            Event::Count => self.count(),
            Event::Edge(life, event) => self.for_edge(life, event),
            Event::Node(life, event) if life == ctx.node_life && self.node.up => self.node.on(event, fleet, ctx),
            Event::Node(..) => {}
            Event::Process { key, pace, timer } => fleet.timer(key, pace, timer, ctx),
            Event::GraceOver(key) => fleet.grace_over(key, ctx),
            Event::Thaw(key) => fleet.get_mut(key).thaw(ctx),
            Event::Calm(key) => fleet.get_mut(key).set_mode(Mode::Normal, ctx),
            Event::Fault(at) => self.strike(self.scenario.faults[at].1),
            Event::EdgeUp => {
                ctx.line("edge-up", 0, 0, || "the edge is back".to_owned());
                ctx.fact(Fact::Interrupted);
                self.edge_up = true;
                self.edge.restart(fleet, ctx);
                self.drain_inbox();
            }
            Event::EdgeWakes => self.edge_wakes(),
            Event::NodeUp => {
                ctx.line("node-up", 0, 0, || "the node process is back".to_owned());
                ctx.fact(Fact::Interrupted);
                self.node.restart(fleet, ctx);
            }
            Event::LinkQuick => {
                ctx.link_delay = Duration::ZERO;
                ctx.fact(Fact::Interrupted);
            }
            Event::FaultsOver => self.faults_over(),
            Event::End => self.over = true,
        }
    }

    fn arrive(&mut self) {
        let now = self.ctx.now;
        if now < self.scenario.ends_at {
            let mean_us = u64::try_from(self.scenario.every_at(now).as_micros()).expect("milliseconds fit");
            let pause = self.clients.micros(0, 2 * mean_us);
            self.ctx.after(pause, Event::Arrive);
        }
        let (request, method) = self.ledger.arrive(&mut self.clients, now);
        self.ctx.line("request", request, 0, || format!("request {request}: {method}"));
        self.for_edge(self.ctx.edge_life, EdgeEvent::Request(request, method));
    }

    /// The edge counts as long as it runs; whoever listens then hears of it.
    fn count(&mut self) {
        self.ctx.after(COUNTS_EVERY, Event::Count);
        if self.edge_up && self.edge_asleep.is_none() {
            let in_flight = self.edge.load() as u64;
            let come = self.ledger.entries().len() as u64;
            self.ctx.to_node(NodeEvent::Counted { in_flight, come });
        }
    }

    fn for_edge(&mut self, life: u64, event: EdgeEvent) {
        if life != self.ctx.edge_life {
            return;
        }
        if self.edge_asleep.is_some() || !self.edge_up {
            self.inbox.push_back(event);
        } else {
            self.edge.on(event, &mut self.fleet, &mut self.ctx);
        }
    }

    fn edge_wakes(&mut self) {
        if self.edge_asleep.is_some_and(|until| until <= self.ctx.now) {
            self.edge_asleep = None;
            self.ctx.line("edge-wakes", 0, 0, || "the edge goes on".to_owned());
            self.ctx.fact(Fact::Interrupted);
            self.drain_inbox();
        }
    }

    fn drain_inbox(&mut self) {
        if self.edge_up && self.edge_asleep.is_none() {
            // As events of their own, so that each is judged in the state that it leaves behind.
            for event in std::mem::take(&mut self.inbox) {
                self.ctx.edge_after(Duration::ZERO, event);
            }
        }
    }

    fn faults_over(&mut self) {
        self.ctx.line("calm", 0, 0, || "the last fault is over".to_owned());
        if self.scenario.try_again {
            self.change(Change::TryAgain);
        }
    }

    fn change(&mut self, change: Change) {
        if let Change::Apply(boot) = change {
            let broken = boot != Boot::Normal;
            self.ctx.fact(Fact::Applied { broken });
        }
        if self.node.up {
            let event = NodeEvent::Change(change);
            self.node.on(event, &mut self.fleet, &mut self.ctx);
        } else {
            self.node.change(change, &mut self.fleet, &mut self.ctx);
        }
    }

    fn strike(&mut self, fault: Fault) {
        self.ctx.seen(fault.name());
        self.ctx.line("fault", 0, 0, || format!("{fault:?}"));
        if !matches!(fault, Fault::Change(Change::Apply(_))) {
            self.ctx.fact(Fact::Disturbed);
        }
        match fault {
            Fault::EdgeStall(lasts) => self.stall_edge(lasts),
            Fault::EdgeRestart(away) => self.end_edge(away),
            Fault::NodeRestart(away) => self.end_node(away),
            Fault::MessageDelay(delay, lasts) => {
                self.ctx.link_delay = delay;
                self.ctx.fact(Fact::Interrupted);
                self.ctx.after(lasts, Event::LinkQuick);
            }
            Fault::Change(change) => self.change(change),
            Fault::CrashAll => {
                let all: Vec<Key> = self.fleet.alive().map(|process| process.key).collect();
                for key in all {
                    self.fleet.kill(key, &mut self.ctx);
                }
            }
            _ => self.strike_one(fault),
        }
    }

    fn strike_one(&mut self, fault: Fault) {
        let (fleet, ctx) = (&mut self.fleet, &mut self.ctx);
        let alive: Vec<Key> = fleet.alive().map(|process| process.key).collect();
        let who = |number: u64| {
            let places = alive.len() as u64;
            let place = number.checked_rem(places)?;
            Some(alive[usize::try_from(place).expect("a place is an index")])
        };
        match fault {
            Fault::Crash(number) => {
                if let Some(key) = who(number) {
                    fleet.die(key, ExitStatus::Signal(11), ctx);
                }
            }
            Fault::Hang(number, lasts) => {
                if let Some(key) = who(number).filter(|key| !fleet.get(*key).frozen) {
                    fleet.get_mut(key).freeze(ctx);
                    ctx.after(lasts, Event::Thaw(key));
                }
            }
            Fault::Slow(number, lasts) => {
                if let Some(key) = who(number) {
                    fleet.get_mut(key).set_mode(Mode::Slow, ctx);
                    ctx.after(lasts, Event::Calm(key));
                }
            }
            Fault::Fails(number, errors, lasts) => {
                if let Some(key) = who(number) {
                    fleet.get_mut(key).set_mode(Mode::Fails(errors), ctx);
                    ctx.after(lasts, Event::Calm(key));
                }
            }
            Fault::Boots(number, boot, lasts) => {
                if let Some(key) = who(number) {
                    fleet.afflict(fleet.get(key).number, boot, ctx.now + lasts);
                    fleet.die(key, ExitStatus::Code(1), ctx);
                }
            }
            Fault::IgnoresTerm(number) => fleet.ignore_term(who(number)),
            _ => unreachable!("every other fault concerns more than one process"),
        }
    }

    fn stall_edge(&mut self, lasts: Duration) {
        let until = self.ctx.now + lasts;
        self.edge_asleep = Some(self.edge_asleep.map_or(until, |before| before.max(until)));
        self.ctx.fact(Fact::Interrupted);
        self.ctx.after(lasts, Event::EdgeWakes);
    }

    fn end_edge(&mut self, away: Duration) {
        if self.edge_up {
            self.ctx.fact(Fact::Interrupted);
            self.edge_up = false;
            self.edge_asleep = None;
            // What was accepted is lost with the edge; what waits in the kernel's queue is not.
            self.inbox.retain(|event| matches!(event, EdgeEvent::Request(..)));
            self.edge.end(&mut self.ctx);
            self.ctx.edge_life += 1;
            self.ctx.after(away, Event::EdgeUp);
        }
    }

    fn end_node(&mut self, away: Duration) {
        if self.node.up {
            self.ctx.fact(Fact::Interrupted);
            self.ctx.node_life += 1;
            self.node.end();
            self.ctx.after(away, Event::NodeUp);
        }
    }

    fn judge(&mut self) -> Option<Violation> {
        let facts = std::mem::take(&mut self.ctx.facts);
        for fact in &facts {
            if let Fact::Ended { request, failed } = fact {
                self.ledger.end(*request, *failed);
            }
        }
        let view = View {
            now: self.ctx.now,
            scenario: &self.scenario,
            edge: &self.edge,
            node: &self.node,
            fleet: &self.fleet,
            ledger: &self.ledger,
            link_delay: self.ctx.link_delay,
        };
        let mut violation = None;
        for invariant in &mut self.invariants {
            let over = self.over;
            let mut judged = facts.iter().try_for_each(|fact| invariant.on(fact, &view));
            if over && judged.is_ok() {
                judged = invariant.at_end(&view);
            }
            if let Err(what) = judged {
                let (invariant, at) = (invariant.name(), view.now);
                violation = Some(Violation { invariant, at, what });
                break;
            }
        }
        self.ctx.facts = facts;
        self.ctx.facts.clear();
        violation
    }
}
