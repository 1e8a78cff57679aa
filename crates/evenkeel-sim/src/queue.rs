//! The heap of events: what happens next.
//!
//! Ordered by moment and, within one moment, by the order in which events were put in, so that the order never
//! depends on addresses or on luck. Bounded: a world that fills it is broken, and says so.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
    rc::Rc,
};

use evenkeel_core::{
    snapshot::Snapshot,
    status::{ExitStatus, Health},
    time::Moment,
};

use crate::{
    fault::Change,
    fleet::{Key, Timer},
};

/// Most events that wait at once. A run of one service has some hundreds.
const BOUND: usize = 100_000;

/// Something that happens at its moment.
#[derive(Clone, Debug)]
pub enum Event {
    /// The next client comes.
    Arrive,
    /// The edge tells the node process its counters.
    Count,
    /// Something reaches the edge of this life; an edge that was started again never sees it.
    Edge(u64, EdgeEvent),
    /// Something reaches the node process of this life.
    Node(u64, NodeEvent),
    /// A timer of a process, which counts only if the process was not stopped since `pace`.
    Process {
        /// Which process.
        key: Key,
        /// Counts how often the process was frozen or thawed.
        pace: u64,
        /// What for.
        timer: Timer,
    },
    /// The grace period of a stop is over.
    GraceOver(Key),
    /// A frozen process goes on.
    Thaw(Key),
    /// A process is well again after it was slow or failed.
    Calm(Key),
    /// A fault of the scenario, by its place.
    Fault(usize),
    /// The edge has been started again.
    EdgeUp,
    /// The edge's pause ends.
    EdgeWakes,
    /// The node process has been started again.
    NodeUp,
    /// Messages between edge and node process are quick again.
    LinkQuick,
    /// The last fault is over.
    FaultsOver,
    /// The run ends.
    End,
}

/// What reaches the edge.
#[derive(Clone, Debug)]
pub enum EdgeEvent {
    /// Its timer for the rules that look at all instances.
    Tick,
    /// A probe of this instance is due.
    ProbeDue(Key, Which),
    /// A probe ended or ran out of time.
    Probed {
        /// Names the probe.
        probe: u64,
        /// `Err` with its cause.
        result: Result<(), &'static str>,
    },
    /// A client's request and its method.
    Request(u64, &'static str),
    /// A try ended.
    TryEnded {
        /// Names the try.
        attempt: u64,
        /// How.
        end: TryEnd,
    },
    /// A snapshot from the node process.
    Snapshot(Rc<Snapshot>),
    /// There is a new node process at the other end of the link.
    Linked,
}

/// Which of an instance's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The check that decides about requests.
    Check,
    /// The liveness check.
    Liveness,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryEnd {
    /// With a whole answer of this status.
    Answered(u16),
    /// The connection was refused: nothing was sent.
    Refused,
    /// The connection was cut before the answer was whole.
    Cut,
}

/// What reaches the node process.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// A supervisor asked to be called.
    Wake,
    /// The guard reports the end of a process.
    Exited(Key, ExitStatus),
    /// The guard could not start a process for this number and generation.
    NotStarted(u32, u64),
    /// The edge says something about an instance.
    Report(Key, Report),
    /// The edge has been started again.
    Hello,
    /// The stack changed.
    Change(Change),
    /// What the edge counts.
    Counted {
        /// Requests in flight and held.
        in_flight: u64,
        /// Requests that have come so far.
        come: u64,
    },
    /// Time to ask how many instances are wanted.
    Look,
    /// The time of a pause is over.
    PauseOver,
}

/// What the edge says about an instance.
#[derive(Clone, Debug)]
pub enum Report {
    /// The verdict changed.
    Health(Health, String),
    /// The liveness check changed.
    Liveness(bool),
    /// Nothing is in flight any more.
    Drained,
}

/// Events by moment.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Entry>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry {
    at: Moment,
    sequence: u64,
    event: Event,
}

impl Queue {
    /// `event` happens at `at`.
    pub fn push(&mut self, at: Moment, event: Event) {
        assert!(self.heap.len() < BOUND, "events are made faster than they are dealt with");
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, event });
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<(Moment, Event)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}

/// What waits for an edge that is stopped or not there: nothing is refused, since the guard holds the listeners.
pub type Inbox = VecDeque<EdgeEvent>;

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_moment_then_in_turn() {
        let mut queue = Queue::default();
        queue.push(Moment::from_millis(2), Event::Fault(0));
        queue.push(Moment::from_millis(1), Event::Fault(1));
        queue.push(Moment::from_millis(1), Event::Fault(2));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert!(matches!(order[..], [Event::Fault(1), Event::Fault(2), Event::Fault(0)]));
    }
}
