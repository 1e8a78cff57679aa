//! What every part of the world needs: the clock, the heap, randomness, and where to write things down.
//!
//! It also is the link between edge and node process: messages keep their order, take their time, and are lost
//! when the receiver they were sent to is no more.

use std::time::Duration;

use evenkeel_core::time::Moment;

use crate::{
    coverage::Coverage,
    fact::Fact,
    queue::{EdgeEvent, Event, NodeEvent, Queue},
    rng::Rng,
    sabotage::Sabotage,
    trace::Trace,
};

/// The common part of the world.
#[derive(Debug)]
pub struct Context {
    /// The present moment.
    pub now: Moment,
    /// What happens next.
    pub queue: Queue,
    /// Randomness of everything that is not drawn beforehand.
    pub rng: Rng,
    /// What happened, for people.
    pub trace: Trace,
    /// What was seen at all.
    pub coverage: Coverage,
    /// What happened, for invariants; emptied after each event.
    pub facts: Vec<Fact>,
    /// Which rule is off.
    pub sabotage: Option<Sabotage>,
    /// Counts the starts of the edge.
    pub edge_life: u64,
    /// Counts the starts of the node process.
    pub node_life: u64,
    /// What a message between edge and node process takes beyond the usual.
    pub link_delay: Duration,
    newest_to_edge: Moment,
    newest_to_node: Moment,
}

impl Context {
    /// At the beginning of time.
    pub fn new(rng: Rng, text: bool, sabotage: Option<Sabotage>) -> Self {
        Self {
            now: Moment::ORIGIN,
            queue: Queue::default(),
            rng,
            trace: Trace::new(text),
            coverage: Coverage::default(),
            facts: Vec::new(),
            sabotage,
            edge_life: 1,
            node_life: 1,
            link_delay: Duration::ZERO,
            newest_to_edge: Moment::ORIGIN,
            newest_to_node: Moment::ORIGIN,
        }
    }

    /// `event` happens after `delay`.
    pub fn after(&mut self, delay: Duration, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    /// The edge that runs now sees `event` after `delay`.
    pub fn edge_after(&mut self, delay: Duration, event: EdgeEvent) {
        self.after(delay, Event::Edge(self.edge_life, event));
    }

    /// The node process that runs now sees `event` after `delay`, not by the link.
    pub fn node_after(&mut self, delay: Duration, event: NodeEvent) {
        self.after(delay, Event::Node(self.node_life, event));
    }

    /// Sends a message to the edge.
    pub fn to_edge(&mut self, event: EdgeEvent) {
        let at = self.now + self.link_delay + self.rng.micros(200, 2_000);
        self.newest_to_edge = self.newest_to_edge.max(at);
        self.queue.push(self.newest_to_edge, Event::Edge(self.edge_life, event));
    }

    /// Sends a message to the node process.
    pub fn to_node(&mut self, event: NodeEvent) {
        let at = self.now + self.link_delay + self.rng.micros(200, 2_000);
        self.newest_to_node = self.newest_to_node.max(at);
        self.queue.push(self.newest_to_node, Event::Node(self.node_life, event));
    }

    /// A branch or output was seen.
    pub fn seen(&mut self, what: &'static str) {
        self.coverage.count(what);
    }

    /// Something happened.
    pub fn fact(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// Writes a line of the trace.
    pub fn line(&mut self, word: &'static str, a: u64, b: u64, text: impl FnOnce() -> String) {
        self.trace.line(self.now, word, a, b, text);
    }

    /// Whether this rule is off.
    pub fn off(&self, rule: Sabotage) -> bool {
        self.sabotage == Some(rule)
    }
}
