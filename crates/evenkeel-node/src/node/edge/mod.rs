//! What the edge reports: verdicts, drained instances, holds, counters.
//!
//! Here is the link, and whom a message concerns. What verdicts mean is in `verdicts`; how events become entries of the
//! journal in `told`; and which of the many that clients cause are told at all in `sampled`. [`Edge`] belongs to the
//! node; nothing here decides about health, which is the edge's.

mod sampled;
mod told;
mod verdicts;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::OwnedFd,
};

use evenkeel_core::{
    journal::Level,
    link::{self, Counters, EventKind, ToNode},
    snapshot::Duty,
    status::InstanceId,
    supervise::Event,
    time::Moment,
};
use tokio::sync::mpsc;

use self::sampled::Samples;
use super::{Node, slot::Verdict, vital::Pulse};
use crate::edge_link::{EdgeLink, FromEdge};

/// What is known of the edge.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) pid: Option<u32>,
    /// How often it was started before, by the guard's count.
    pub(super) starts: u64,
    /// How often it ended while we looked.
    pub(super) exits: u64,
    /// The snapshot that all its threads serve.
    pub(super) applied: u64,
    /// Events that found no room, on its side.
    pub(super) dropped: u64,
    /// Verdicts about fixed instances, by name.
    pub(super) fixed: BTreeMap<String, Verdict>,
    /// Names of fixed instances, and of which snapshot they are.
    fixed_names: (u64, BTreeSet<String>),
    /// Services whose instances get requests although they are not healthy, and why.
    pub(super) short: BTreeMap<String, String>,
    /// Whether it still speaks; `None` while there is no link.
    pub(super) pulse: Option<Pulse>,
    link: Option<EdgeLink>,
    links: u64,
    inbox: mpsc::Sender<FromEdge>,
    samples: Samples,
}

impl Edge {
    pub(super) fn new(inbox: mpsc::Sender<FromEdge>) -> Self {
        Self {
            pid: None,
            starts: 0,
            exits: 0,
            applied: 0,
            dropped: 0,
            fixed: BTreeMap::new(),
            fixed_names: Default::default(),
            short: BTreeMap::new(),
            pulse: None,
            link: None,
            links: 0,
            inbox,
            samples: Samples::new(),
        }
    }

    /// Takes a new link; a former one is closed.
    pub(super) fn connect(&mut self, fd: OwnedFd, now: Moment) -> io::Result<()> {
        self.links += 1;
        self.pulse = Some(Pulse::new(now));
        self.link = Some(EdgeLink::open(self.links, fd, self.inbox.clone())?);
        self.applied = 0;
        Ok(())
    }

    pub(super) fn disconnect(&mut self) {
        self.link = None;
        self.pulse = None;
        self.applied = 0;
    }

    pub(super) fn link(&self) -> Option<&EdgeLink> {
        self.link.as_ref()
    }
}

impl Node {
    /// Takes one message, unless it comes from a link that is no longer in use.
    pub(super) fn edge_said(&mut self, said: FromEdge) {
        let current = self.edge.link().map(|link| link.number);
        match said {
            FromEdge::Message { link, message } if Some(link) == current => self.edge_message(*message),
            FromEdge::Closed { link, reason } if Some(link) == current => {
                // Why it ended is for the guard to report, which sees the process.
                tracing::info!(reason, "the link to the edge is closed");
                self.edge.disconnect();
            }
            FromEdge::Message { .. } | FromEdge::Closed { .. } => {}
        }
    }

    fn edge_message(&mut self, message: ToNode) {
        let (serves, now) = (matches!(message, ToNode::Applied { .. }), self.clock.now());
        if let Some(pulse) = &mut self.edge.pulse {
            pulse.heard(serves, now);
        }
        match message {
            ToNode::Hello { version, pid } => {
                // It says it again where it still holds.
                self.edge.short.clear();
                if version != link::VERSION {
                    let problem =
                        format!("the edge (process {pid}) speaks version {version} of the link; it is not used");
                    self.note(Level::Error, "edge", "version", problem.clone(), Vec::new());
                    self.problems.insert("link", problem);
                    self.edge.disconnect();
                }
            }
            ToNode::Applied { version } => {
                self.edge.applied = version;
                self.problems.remove("refused");
            }
            ToNode::Refused { version, reason } => {
                let problem = format!("the edge refused snapshot {version} and serves the one before: {reason}");
                self.note(Level::Error, "edge", "refused", problem.clone(), Vec::new());
                self.problems.insert("refused", problem);
            }
            ToNode::Events { events, dropped } => {
                self.edge.dropped += dropped;
                for event in events {
                    self.edge_event(event);
                }
            }
            ToNode::Counters(counters) => self.counters(*counters),
        }
    }

    fn edge_event(&mut self, event: link::Event) {
        let link::Event { instance, service, what, .. } = event;
        match (what, instance) {
            (EventKind::Health { health, reason }, Some(id)) => self.verdict(&id, health, reason),
            (EventKind::Liveness { passing, reason }, Some(id)) => self.liveness(&id, passing, reason),
            (EventKind::Drained, Some(id)) => {
                self.emptied(&id);
                self.has_left(&id);
                // The counters that said otherwise are older.
                if let Some(verdict) = self.verdict_mut(&id) {
                    verdict.in_flight = 0;
                }
                if let Some(place) = self.place_of_id(&id) {
                    self.feed(&place, Event::Drained);
                }
            }
            (EventKind::Complained { text, cut, unsaid }, Some(id)) => {
                if self.verdict_mut(&id).is_some() {
                    self.logs.told(&id.name, &text, cut, unsaid);
                }
            }
            (EventKind::Rejected { status, reason }, _) => self.refusal(status, &reason),
            (EventKind::Ambiguous { listener, client, request, kind, reported }, _) => {
                self.ambiguous(&listener, client, &request, kind, reported);
            }
            (EventKind::ProxyHeader { listener, peer, fault, reason }, _) => {
                self.proxy_fault(&listener, &peer, fault, &reason);
            }
            (what, id) => {
                let news = match &what {
                    EventKind::FellBack { to, .. } => self.fell_back(&service, to),
                    EventKind::Returned { .. } => self.came_back(&service),
                    EventKind::CapacityShort { reason } => {
                        self.edge.short.insert(service.clone(), reason.clone()).is_none()
                    }
                    EventKind::CapacityBack { .. } => self.edge.short.remove(&service).is_some(),
                    _ => true,
                };
                if news {
                    let subject = id.map_or(service, |id| id.name);
                    self.note_event(&subject, what);
                }
            }
        }
    }

    fn counters(&mut self, counters: Counters) {
        let now = self.clock.now();
        self.traffic.update(counters, now);
        if let Some(kept) = self.traffic.due_to_keep(now) {
            self.totals_file.write(kept.to_bytes());
        }
        self.deploys_counted();
        let services = self.traffic.newest().services.clone();
        let mut in_flight: BTreeMap<InstanceId, u64> = BTreeMap::new();
        for instance in services.into_iter().flat_map(|service| service.instances) {
            self.know_verdict(&instance.id, instance.health, None);
            if let Some(verdict) = self.verdict_mut(&instance.id) {
                verdict.in_flight = instance.in_flight;
            }
            in_flight.insert(instance.id, instance.in_flight);
        }
        self.find_emptied(&in_flight);
        self.find_drained(&in_flight);
    }

    /// Has totals written down that were not yet.
    pub(super) fn keep_totals(&mut self) {
        if let Some(kept) = self.traffic.changed_to_keep(self.clock.now()) {
            self.totals_file.write(kept.to_bytes());
        }
    }

    /// An instance is drained too when the edge serves a snapshot in which it drains and counts nothing in flight
    /// there: the edge says `Drained` once, and we may not have been there to hear it.
    fn find_drained(&mut self, in_flight: &BTreeMap<InstanceId, u64>) {
        let applied = self.edge.applied;
        let drained = self.slots.iter().filter(|(_, slot)| {
            slot.duty() == Some(Duty::Drain)
                && slot.drained_from.is_some_and(|version| applied >= version)
                && in_flight.get(&slot.id()).copied().unwrap_or(0) == 0
        });
        for place in drained.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
            self.feed(&place, Event::Drained);
        }
    }
}
