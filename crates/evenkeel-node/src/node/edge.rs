//! What the edge reports: verdicts, drained instances, holds, counters.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use evenkeel_core::{
    ambiguity::{Ambiguity, Named},
    balance::client_hash,
    health::{ENLISTED, KEPT},
    journal::{Level, Reason},
    link::{self, Counters, EventKind, ProxyFault, ToNode},
    snapshot::Duty,
    stack::Service,
    status::{Health, InstanceId, Phase},
    supervise::Event,
    time::Moment,
};
use tokio::sync::mpsc;

use super::{Node, instances::Place, slot::Verdict, vital::Pulse};
use crate::{
    edge_link::{EdgeLink, FromEdge},
    words::counted,
};

/// Refused requests are summed up so often, so that a hostile client cannot fill the journal.
const REFUSALS_EVERY: Duration = Duration::from_mins(1);

/// How often a client is named for one ambiguity that its requests have, and how many are in that time.
const NAMED_EVERY: Duration = Duration::from_hours(1);
const MOST_NAMED: usize = 1_000;

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
    refusals: Sampled,
    /// Connections closed for want of a PROXY header, by listener.
    proxy_faults: BTreeMap<(String, ProxyFault), Sampled>,
    /// Clients whose requests are ambiguous: listener, what it is, the client's number, whether it passed.
    ambiguous: Named<(String, Ambiguity, u64, bool)>,
}

/// Lets one of many alike through, and counts the others.
#[derive(Debug, Default)]
struct Sampled(Option<(Instant, u64)>);

impl Sampled {
    /// Whether this one is to be said, and in words how many were not since the last one.
    fn take(&mut self) -> Option<String> {
        let now = Instant::now();
        if let Some((last, more)) = &mut self.0
            && now.duration_since(*last) < REFUSALS_EVERY
        {
            *more += 1;
            return None;
        }
        let more = self.0.replace((now, 0)).map_or(0, |(_, more)| more);
        Some(if more > 0 {
            format!(" ({} before it)", counted(more, "more sample", "more samples"))
        } else {
            String::new()
        })
    }
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
            refusals: Sampled::default(),
            proxy_faults: BTreeMap::new(),
            ambiguous: Named::new(NAMED_EVERY, MOST_NAMED),
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

    /// The instance of this name and generation, if it has a process.
    fn place_of_id(&self, id: &InstanceId) -> Option<Place> {
        let (service, number) = id.name.rsplit_once('/')?;
        let place = (service.to_owned(), number.parse().ok()?);
        let slot = self.slots.get(&place)?;
        (slot.supervisor.memory().generation == id.generation && slot.duty().is_some()).then_some(place)
    }

    fn verdict(&mut self, id: &InstanceId, health: Health, reason: String) {
        let phase = |node: &Self| node.place_of_id(id).map(|place| node.slots[&place].supervisor.phase());
        let (before, expected) = (phase(self), self.is_expected(id, health));
        // Nothing changed for an instance that is kept: of its service that is said once.
        let kept = health == Health::Healthy && reason.starts_with(KEPT);
        let known = self.know_verdict(id, health, Some(&reason));
        // That an instance got ready, or still is after a restart of ours, is said elsewhere.
        let got_ready = health == Health::Healthy && before != phase(self);
        if !known || expected || got_ready || kept {
            return;
        }
        // With a minimum of capacity the edge says next who gets requests although it is not healthy.
        let keeps_some = self.service_of(id).is_some_and(|service| service.min_capacity > 0);
        let (level, message) = match health {
            Health::Healthy => (Level::Info, "healthy: it gets requests"),
            Health::Unhealthy if reason.ends_with(ENLISTED) => (Level::Warning, "unhealthy, and it gets requests"),
            Health::Ejected if reason.ends_with(ENLISTED) => (Level::Warning, "ejected, and it gets requests"),
            Health::Unhealthy if keeps_some => {
                (Level::Warning, "unhealthy: it gets no new requests while enough others are healthy")
            }
            Health::Ejected if keeps_some => {
                (Level::Warning, "ejected: it gets no requests for a while, if enough others are healthy")
            }
            Health::Unhealthy => (Level::Warning, "unhealthy: it gets no new requests"),
            Health::Silent => (Level::Warning, "silent: it gets no new requests"),
            Health::Ejected => (Level::Warning, "ejected: it gets no requests for a while"),
            Health::Unknown | Health::Draining => return,
        };
        self.note(level, &id.name, health.as_str(), message, vec![Reason::seen(reason)]);
    }

    /// The service that an instance belongs to, as the stack has it.
    fn service_of(&self, id: &InstanceId) -> Option<&Service> {
        id.name.split_once('/').and_then(|(service, _)| self.revision.stack.services.get(service))
    }

    /// Whether a verdict only repeats what was known before this process or the edge was started again.
    fn is_expected(&self, id: &InstanceId, health: Health) -> bool {
        let slot = self.place_of_id(id).map(|place| &self.slots[&place]);
        health == Health::Healthy && slot.is_some_and(|slot| slot.adopted && slot.supervisor.memory().ready)
    }

    /// Keeps a verdict and tells supervision. `None` as reason: heard again, not a change by itself.
    fn know_verdict(&mut self, id: &InstanceId, health: Health, reason: Option<&str>) -> bool {
        let Some(place) = self.place_of_id(id) else {
            return self.know_fixed_verdict(id, health, reason);
        };
        let slot = self.slots.get_mut(&place).expect("its place was found");
        let changed = slot.verdict.health != health;
        slot.adopted &= matches!(health, Health::Unknown);
        if changed || reason.is_some() {
            slot.verdict.health = health;
            reason.unwrap_or_default().clone_into(&mut slot.verdict.reason);
            if matches!(health, Health::Unknown | Health::Unhealthy) && !slot.verdict.reason.is_empty() {
                slot.check_saw.clone_from(&slot.verdict.reason);
            }
        }
        if changed {
            let reason = reason.unwrap_or_default().to_owned();
            self.feed(&place, Event::Health { health, reason });
        }
        true
    }

    /// Whether the snapshot has an instance of this name that is not ours to start. Asked for each of very many.
    fn is_fixed(&mut self, name: &str) -> bool {
        let (version, names) = &mut self.edge.fixed_names;
        if *version != self.snapshot.version {
            *version = self.snapshot.version;
            let instances = self.snapshot.services.iter().flat_map(|service| &service.instances);
            *names = instances.filter(|one| one.id.generation == 0).map(|one| one.id.name.clone()).collect();
            // Whoever gets an address again later is another one, and a name may have many over time.
            self.edge.fixed.retain(|name, _| names.contains(name));
        }
        names.contains(name)
    }

    fn know_fixed_verdict(&mut self, id: &InstanceId, health: Health, reason: Option<&str>) -> bool {
        if id.generation != 0 || !self.is_fixed(&id.name) {
            return false;
        }
        let verdict = self.edge.fixed.entry(id.name.clone()).or_default();
        if verdict.health != health || reason.is_some() {
            verdict.health = health;
            reason.unwrap_or_default().clone_into(&mut verdict.reason);
        }
        true
    }

    fn liveness(&mut self, id: &InstanceId, passing: bool, reason: String) {
        let Some(place) = self.place_of_id(id) else { return };
        let slot = self.slots.get_mut(&place).expect("its place was found");
        let running = slot.supervisor.phase() == Phase::Running;
        // What it shows while it starts is no news.
        if running && slot.not_live == passing {
            slot.not_live = !passing;
            let (level, kind, message) = if passing {
                (Level::Info, "live", "its liveness check passes again")
            } else {
                (Level::Warning, "not-live", "its liveness check fails")
            };
            self.note(level, &id.name, kind, message, vec![Reason::seen(reason.clone())]);
        }
        self.feed(&place, Event::Liveness { passing, reason });
    }

    fn note_event(&self, subject: &str, what: EventKind) {
        let subject = if subject.is_empty() { "edge" } else { subject };
        let (level, kind, message, reasons) = match what {
            EventKind::HoldStarted { reason } => {
                (Level::Warning, "holding", "requests are held".to_owned(), vec![Reason::seen(reason)])
            }
            EventKind::HoldEnded { held, expired: 0 } => {
                let requests = counted(held, "held request", "held requests");
                (Level::Info, "released", format!("{requests} went on"), Vec::new())
            }
            EventKind::HoldEnded { held, expired } => {
                let requests = counted(held, "request was", "requests were");
                let message = format!("{requests} held; {expired} of them got 503 because it took too long");
                (Level::Error, "released", message, Vec::new())
            }
            EventKind::Moved { requests, reason } => {
                let requests = counted(requests, "request in flight was", "requests in flight were");
                let message = format!("{requests} sent to other instances");
                (Level::Info, "moved", message, vec![Reason::seen(reason)])
            }
            EventKind::CapacityShort { reason } => {
                let message = "too few instances are healthy: those that still answer get requests too".to_owned();
                let rule = Reason::rule("`min_capacity`: whoever answers is better than nobody");
                (Level::Warning, "too-few-healthy", message, vec![Reason::seen(reason), rule])
            }
            EventKind::CapacityBack { reason, enough: true } => {
                let message = "only healthy instances get requests again".to_owned();
                (Level::Info, "enough-healthy", message, vec![Reason::seen(reason)])
            }
            EventKind::CapacityBack { reason, enough: false } => {
                let message = "too few instances are healthy, and nobody else answers".to_owned();
                (Level::Warning, "nobody-answers", message, vec![Reason::seen(reason)])
            }
            EventKind::BudgetExhausted => {
                let message = "the retry budget is used up: failures reach clients until it recovers".to_owned();
                (Level::Error, "budget-exhausted", message, Vec::new())
            }
            EventKind::RateLimited { route, client, limit } => {
                let message = format!("clients of {route} get 429: they ask more often than they may");
                let seen = Reason::seen(format!("{client} was refused"));
                (Level::Warning, "rate-limited", message, vec![seen, Reason::rule(limit)])
            }
            EventKind::RateLimitEnded { route, refused } => {
                let requests = counted(refused, "request was", "requests were");
                let message = format!("no client of {route} asks too often any more; {requests} refused with 429");
                (Level::Info, "rate-limit-ended", message, Vec::new())
            }
            EventKind::Retried { reason, next, others } => {
                let others = match others {
                    0 => String::new(),
                    n => format!(" ({} before it)", counted(n, "more", "more")),
                };
                let next = next.map(|next| Reason::seen(format!("it was sent to {next} next")));
                let reasons = std::iter::once(Reason::seen(reason)).chain(next).collect();
                (Level::Info, "retried", format!("a request was tried again{others}"), reasons)
            }
            other => match of_state(other) {
                Some(told) => told,
                None => return,
            },
        };
        self.note(level, subject, kind, message, reasons);
    }

    fn refusal(&mut self, status: u16, reason: &str) {
        if let Some(more) = self.edge.refusals.take() {
            let message = format!("a request was refused with {status}{more}");
            self.note(Level::Info, "edge", "refused-request", message, vec![Reason::seen(reason)]);
        }
    }

    /// Either the proxy sends no header, or somebody else is in its network: whoever looks needs to know which.
    fn proxy_fault(&mut self, listener: &str, peer: &str, fault: ProxyFault, reason: &str) {
        let sampled = self.edge.proxy_faults.entry((listener.to_owned(), fault)).or_default();
        let Some(more) = sampled.take() else { return };
        let message = match fault {
            ProxyFault::Missing => format!("a connection was closed: it began without a PROXY header{more}"),
            ProxyFault::Malformed => format!("a connection was closed: its PROXY header is malformed{more}"),
            ProxyFault::Late => format!("a connection was closed: its PROXY header did not come in time{more}"),
        };
        let fix = match fault {
            ProxyFault::Missing | ProxyFault::Late => format!(
                "have {peer} send it (`send-proxy-v2` in HAProxy, `proxy_protocol on` in nginx), or leave it out of \
                 `listeners.{listener}.trusted`, if it is no proxy"
            ),
            ProxyFault::Malformed => {
                format!("look what {peer} sends: version 1 or 2 of the PROXY protocol is understood")
            }
        };
        let rule =
            format!("with `listeners.{listener}.proxy_protocol`, connections from `trusted` networks begin with one");
        let reasons = vec![Reason::seen(format!("{peer}: {reason}")), Reason::rule(rule), Reason::rule(fix)];
        self.note(Level::Warning, &format!("listeners.{listener}"), "proxy-header", message, reasons);
    }

    /// What was put right is refused elsewhere; that is what somebody wants to know before the listener is made strict:
    /// of every client, and everything that it sends.
    fn ambiguous(&mut self, listener: &str, client: IpAddr, request: &str, ambiguity: Ambiguity, reported: bool) {
        let now = self.clock.now();
        if !self.edge.ambiguous.is_due((listener.to_owned(), ambiguity, client_hash(client), reported), now) {
            return;
        }
        let (level, kind, message, rule) = if reported {
            let message = format!("an ambiguous request to listener {listener} was forwarded in one meaning");
            let rule = format!("`listeners.{listener}.strict` is \"report\": otherwise it would be refused or altered");
            (Level::Warning, "ambiguous-request", message, rule)
        } else {
            let message = format!("fields of a request to listener {listener} were left out");
            let rule = "many applications read `_` and `-` in names alike, so such names could pass for others";
            (Level::Info, "left-out-fields", message, rule.to_owned())
        };
        let sent = Reason::seen(format!("{request} from {client}"));
        self.note(level, "edge", kind, message, vec![Reason::seen(ambiguity.in_words()), sent, Reason::rule(rule)]);
    }

    fn counters(&mut self, counters: Counters) {
        let now = self.clock.now();
        if let Some(base) = self.traffic.update(counters, now)
            && let Err(error) = self.dir.save_totals(base)
        {
            tracing::warn!(%error, "totals of a former edge cannot be kept");
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

    fn verdict_mut(&mut self, id: &InstanceId) -> Option<&mut Verdict> {
        match self.place_of_id(id) {
            Some(place) => self.slots.get_mut(&place).map(|slot| &mut slot.verdict),
            None => self.edge.fixed.get_mut(&id.name),
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

/// How an event is told that says how a service or its check is, rather than what became of requests; `None`: it is told
/// elsewhere.
fn of_state(what: EventKind) -> Option<(Level, &'static str, String, Vec<Reason>)> {
    Some(match what {
        EventKind::FellBack { to, reason } => {
            (Level::Warning, "fell-back", format!("{to} answers instead"), vec![Reason::seen(reason)])
        }
        EventKind::Returned { from } => {
            (Level::Info, "returned", format!("what is preferred answers again instead of {from}"), Vec::new())
        }
        EventKind::CheckUnproven { reason } => {
            let message = "its changed check fails everywhere so far: who was healthy is kept so".to_owned();
            let rule = Reason::rule("a changed check counts once somebody has passed it");
            (Level::Warning, "check-unproven", message, vec![Reason::seen(reason), rule])
        }
        EventKind::ChecksStretched { instances, interval_ms } => {
            let every = Duration::from_millis(interval_ms);
            let message =
                format!("no healthy instance is probed more often than every {every:?}, whatever is configured");
            let reason =
                Reason::seen(format!("there are {instances} instances, and probes are started at a bounded rate"));
            (Level::Warning, "checks-stretched", message, vec![reason])
        }
        EventKind::ChecksInTime { instances } => {
            let message = "every check is made as often as it is configured again".to_owned();
            (Level::Info, "checks-in-time", message, vec![Reason::seen(format!("there are {instances} instances"))])
        }
        EventKind::Scarce { what, reason } => {
            let reasons = vec![Reason::seen(reason), Reason::rule(what.fix())];
            (Level::Error, "exhausted", what.as_str().to_owned(), reasons)
        }
        EventKind::CheckProven { by } => {
            let message = "its changed check counts from now on".to_owned();
            (Level::Info, "check-proven", message, vec![Reason::seen(format!("{by} passed it"))])
        }
        // Told elsewhere, or what became of requests, which is told before this is asked.
        EventKind::Health { .. }
        | EventKind::Liveness { .. }
        | EventKind::Drained
        | EventKind::Complained { .. }
        | EventKind::Rejected { .. }
        | EventKind::Ambiguous { .. }
        | EventKind::ProxyHeader { .. }
        | EventKind::HoldStarted { .. }
        | EventKind::HoldEnded { .. }
        | EventKind::Moved { .. }
        | EventKind::CapacityShort { .. }
        | EventKind::CapacityBack { .. }
        | EventKind::BudgetExhausted
        | EventKind::RateLimited { .. }
        | EventKind::RateLimitEnded { .. }
        | EventKind::Retried { .. } => return None,
    })
}
