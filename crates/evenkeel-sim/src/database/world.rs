//! The world: one loop that takes the next event and hands it on.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use evenkeel_core::{
    failover::{Rule, Rules},
    time::Moment,
};

use super::{
    agent::Agent,
    checks::{Checks, Violation},
    clients::{Edge, Ledger},
    event::{Event, Message, Queued},
    instance::Instance,
    network::{Network, Place},
    scenario::{Doing, Fault, Scenario},
    store::Store,
};
use crate::rng::Rng;

/// How many edges there are.
pub(super) const EDGES: usize = 2;
const WRITERS: usize = 4;
/// The name of the only database.
pub(super) const SYSTEM: &str = "world";

/// How a seed is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The rules in force.
    pub rules: Rules,
    /// Print what happens.
    pub text: bool,
}

/// What a run showed.
#[derive(Debug)]
pub struct Outcome {
    /// The first violation, at which the run stopped.
    pub violation: Option<Violation>,
    /// What was seen how often.
    pub coverage: BTreeMap<String, u64>,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// How often somebody became primary.
    pub changes: u64,
}
/// One member: its agent, its instance, its machine.
pub(super) struct Node {
    pub(super) agent: Agent,
    pub(super) instance: Instance,
    pub(super) frozen_until: Option<Moment>,
    pub(super) crashed: bool,
}

/// Everything there is.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) options: Options,
    pub(super) now: Moment,
    pub(super) numbered: u64,
    pub(super) queue: BinaryHeap<Reverse<Queued>>,
    pub(super) rng: Rng,
    pub(super) nodes: Vec<Node>,
    pub(super) store: Store,
    pub(super) network: Network,
    pub(super) edges: [Edge; EDGES],
    pub(super) ledger: Ledger,
    pub(super) checks: Checks,
    pub(super) coverage: BTreeMap<String, u64>,
    pub(super) connections: u64,
    pub(super) orders: u64,
    pub(super) changes: u64,
    /// What is waited for, and what goes wrong then.
    pub(super) ambush: Option<(Doing, Vec<(u64, Fault)>)>,
    /// Who did what was waited for last, and whom it concerned.
    pub(super) doer: Option<(usize, Option<usize>)>,
    pub(super) over: bool,
}

/// Runs the scenario of this seed to its end or to the first violation.
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut world = World::new(Scenario::draw(seed), options);
    while world.checks.found.is_none() && !world.over {
        let Some(Reverse(Queued(at, _, event))) = world.queue.pop() else { break };
        world.now = at;
        world.take(event);
    }
    Outcome {
        violation: world.checks.found,
        coverage: world.coverage,
        acknowledged: world.ledger.acknowledged.len() as u64,
        changes: world.changes,
    }
}

impl World {
    fn new(scenario: Scenario, options: Options) -> Self {
        let rng = Rng::new(scenario.seed ^ 0xdb);
        let nodes = (0..scenario.members)
            .map(|_| Node { agent: Agent::default(), instance: Instance::new(), frozen_until: None, crashed: false })
            .collect();
        let mut world = Self {
            store: Store::new(!options.rules.has(Rule::CompareAndSwap)),
            scenario,
            options,
            now: Moment::ORIGIN,
            numbered: 0,
            queue: BinaryHeap::new(),
            rng,
            nodes,
            network: Network::default(),
            edges: [Edge::default(); EDGES],
            ledger: Ledger::default(),
            checks: Checks::default(),
            coverage: BTreeMap::new(),
            connections: 0,
            orders: 0,
            changes: 0,
            ambush: None,
            doer: None,
            over: false,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.scenario.members {
            self.restart_agent(node);
        }
        for writer in 0..WRITERS {
            self.after(Duration::from_secs(2), Event::Write { writer });
        }
        for at in 0..self.scenario.faults.len() {
            let moment = self.scenario.faults[at].0;
            self.at(moment, Event::Fault(at));
        }
        self.at(self.scenario.ends_at, Event::End);
    }

    pub(super) fn at(&mut self, at: Moment, event: Event) {
        self.numbered += 1;
        self.queue.push(Reverse(Queued(at.max(self.now), self.numbered, event)));
    }

    pub(super) fn after(&mut self, by: Duration, event: Event) {
        self.at(self.now + by, event);
    }

    pub(super) fn say(&mut self, what: impl FnOnce() -> String) {
        if self.options.text {
            println!("{:8} ms {}", self.now.as_nanos() / 1_000_000, what());
        }
    }

    pub(super) fn count(&mut self, what: &str) {
        *self.coverage.entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn send(&mut self, from: Place, to: Place, what: Message) {
        if let Some(takes) = self.network.carry(from, to, &mut self.rng) {
            self.after(takes, Event::Message { from, to, what });
        }
    }

    /// Which node an event happens on, so that it waits while that one stands still.
    fn place(event: &Event) -> Option<(usize, bool)> {
        Some(match event {
            Event::Tick { node, .. }
            | Event::Held { node, .. }
            | Event::Swapped { node, .. }
            | Event::Unanswered { node, .. }
            | Event::Answered { node, .. }
            | Event::Done { node, .. } => (*node, true),
            Event::Message { to: Place::Node(node), what, .. } => {
                (*node, matches!(what, Message::Report(_) | Message::AskPromise { .. } | Message::Promise { .. }))
            }
            Event::Started { node, .. }
            | Event::Promoted { node, .. }
            | Event::InEffect { node, .. }
            | Event::LeftoversGone { node, .. }
            | Event::Stopped { node, .. }
            | Event::Rebuilt { node, .. }
            | Event::Initialised { node, .. }
            | Event::Guard { node, .. } => (*node, false),
            _ => return None,
        })
    }

    fn take(&mut self, event: Event) {
        if let Some((node, agent)) = Self::place(&event) {
            let node = &self.nodes[node];
            let waits = if agent { node.agent.frozen_until.max(node.frozen_until) } else { node.frozen_until };
            if let Some(until) = waits.filter(|until| self.now < *until) {
                // Which of its processes runs first when a machine goes on is anybody's guess.
                let late = if matches!(event, Event::Guard { .. }) { self.rng.millis(0, 30) } else { Duration::ZERO };
                self.at(until + late, event);
                return;
            }
        }
        match event {
            Event::Tick { node, life } => self.tick(node, life),
            Event::Read { node, life, question } => self.read(node, life, question),
            Event::Held { node, life, question, record, revision } => {
                self.held(node, life, question, *record, revision);
            }
            Event::Swap { node, life, question, record, expects } => self.swap(node, life, question, *record, expects),
            Event::Swapped { node, life, question, record, taken } => {
                self.swapped(node, life, question, *record, taken);
            }
            Event::Unanswered { node, life, question } => self.unanswered(node, life, question),
            Event::Done { node, life, step } => self.done(node, life, step),
            Event::Answered { node, life } => self.heard_own(node, life),
            Event::Message { from, to, what } => self.message(from, to, what),
            Event::Started { node, life, primary } => self.started(node, life, primary),
            Event::Promoted { node, life, token } => self.promoted(node, life, token),
            Event::InEffect { node, life } => self.in_effect(node, life),
            Event::LeftoversGone { node, life } => self.leftovers_gone(node, life),
            Event::Stopped { node, life } => self.stopped(node, life),
            Event::Rebuilt { node, from, token, copy } => self.rebuilt(node, from, token, copy),
            Event::Initialised { node, token } => self.initialised(node, token),
            Event::Guard { node, armed } => self.guard(node, armed),
            Event::Write { writer } => self.write(writer),
            Event::Over { node } => self.node_back(node),
            Event::Fault(at) => self.strike(self.scenario.faults[at].1.clone()),
            Event::Strike(fault) => self.strike(*fault),
            Event::Mend(fault) => self.mend(&fault),
            Event::End => self.end(),
        }
    }

    fn end(&mut self) {
        self.over = true;
        let late = self.ledger.last_answer.is_none_or(|at| self.now.since(at) > Duration::from_secs(5));
        if late {
            let at = self.now;
            let why = format!("{:?}", self.store.record);
            self.checks.broken(
                "it recovers",
                at,
                format!("no write was acknowledged for five seconds at the end: {why}"),
            );
        }
    }
}
