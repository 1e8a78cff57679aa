//! Which instance gets a request now.
//!
//! Only instances that are healthy, on duty and below their bound come into question; those that this request
//! has already tried come last. The algorithms are pure and live in core; here the candidates are gathered and
//! the choice is entered, so that it counts from this moment on.

use std::{
    cell::Cell,
    net::IpAddr,
    rc::Rc,
    sync::atomic::{
        Ordering::{Relaxed, SeqCst},
        fence,
    },
};

use evenkeel_core::{
    balance::{Candidate, Scales, client_hash, power_of_two, random, rendezvous},
    slow_start,
    snapshot::{Balance, Duty, Sticky},
    status::Health,
};

use crate::{
    choosing::Table,
    clock,
    local::{InstanceLocal, ServiceLocal, Turns},
    shared::InstanceShared,
    thread::Thread,
    view::InstanceView,
};

/// Why nobody can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nobody {
    /// No instance is healthy.
    Healthy,
    /// All healthy ones are at their bound.
    Free,
}

impl Nobody {
    /// In words.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "no instance is healthy",
            Self::Free => "all instances are at their limit",
        }
    }
}

/// Instances that a request has tried; compared, never followed. Later ones push out the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried([*const InstanceShared; 4], usize);

impl Default for Tried {
    fn default() -> Self {
        Self([std::ptr::null(); 4], 0)
    }
}

impl Tried {
    /// Notes a try.
    pub(crate) fn push(&mut self, instance: &InstanceLocal) {
        self.0[self.1 % 4] = std::sync::Arc::as_ptr(&instance.shared);
        self.1 += 1;
    }

    /// Whether nobody was tried.
    pub(crate) fn is_empty(&self) -> bool {
        self.1 == 0
    }

    fn has(&self, instance: &InstanceLocal) -> bool {
        self.1 > 0 && self.0.contains(&std::sync::Arc::as_ptr(&instance.shared))
    }
}

/// A request in flight at an instance. Dropping it is what ends it.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) service: Rc<ServiceLocal>,
    pub(crate) instance: Rc<InstanceLocal>,
    /// The instance must still prove itself.
    pub(crate) trial: bool,
    thread: Rc<Thread>,
    waits: Cell<bool>,
    cut_offs: u32,
}

/// Who asks for an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asks<'a> {
    pub(crate) tried: &'a Tried,
    pub(crate) client: IpAddr,
    /// Should it fail, it could be sent elsewhere: an instance on trial may have it.
    pub(crate) movable: bool,
    /// Where it belongs, by its head.
    pub(crate) tie: Tie,
}

/// Where a request belongs, by what its head says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tie {
    /// By what it is hashed; without it by the client's address.
    pub(crate) hash: Option<u64>,
    pub(crate) sticky: Stays,
}

/// Whether a client stays with its instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stays {
    /// It does not, or its address alone says where.
    #[default]
    No,
    /// With the instance of this hash.
    Hash(u64),
    /// With the instance of this key, which its cookie names, if it has one.
    Cookie(Option<u64>),
}

/// Which zone comes into question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    Any,
    Preferred,
    Others,
}

/// Chooses an instance and enters the request there.
pub(crate) fn pick(thread: &Rc<Thread>, service: &Rc<ServiceLocal>, asks: Asks<'_>) -> Result<Flight, Nobody> {
    let zone = zone(service);
    let chosen = {
        let turns = &mut *service.turns.borrow_mut();
        let choose_among = |turns: &mut Turns, zone, asks| choose_among(thread, turns, service, zone, asks);
        let mut chosen = choose_among(turns, zone, asks);
        if asks.tried.1 > 0 {
            // Another zone rather than whoever was tried; if nobody else is left, one that was tried may have recovered.
            let anew = Asks { tried: &Tried::default(), ..asks };
            chosen = chosen.or_else(|| choose_among(turns, Zone::Any, asks));
            chosen = chosen.or_else(|| choose_among(turns, zone, anew));
        }
        chosen
    };
    match chosen {
        Some(place) => Flight::enter(thread, service, place).ok_or(Nobody::Free),
        None if has_healthy(service) => Err(Nobody::Free),
        None => Err(Nobody::Healthy),
    }
}

/// The preferred zone while somebody in it is healthy, unless the service is to stay away from it and can.
fn zone(service: &ServiceLocal) -> Zone {
    let config = service.config();
    if config.prefer.is_none() {
        return Zone::Any;
    }
    let healthy = |preferred| {
        let mut places = service.view().instances.iter().enumerate();
        places.any(|(place, instance)| instance.preferred == preferred && serves(service, place))
    };
    if config.away && healthy(false) {
        Zone::Others
    } else if healthy(true) {
        Zone::Preferred
    } else {
        Zone::Any
    }
}

/// Whether this request has tried every healthy instance, and there is at least one.
pub(crate) fn all_tried(service: &ServiceLocal, tried: &Tried) -> bool {
    let mut serving = (0..service.instances.len()).filter(|&place| serves(service, place)).peekable();
    serving.peek().is_some() && serving.all(|place| tried.has(&service.instances[place]))
}

/// Whether some instance of the service could serve if it were below its bound. A page always can.
pub(crate) fn has_healthy(service: &ServiceLocal) -> bool {
    service.config().page.is_some() || (0..service.instances.len()).any(|place| serves(service, place))
}

fn serves(service: &ServiceLocal, place: usize) -> bool {
    service.view().instances[place].duty == Duty::Serve && service.instances[place].shared.takes_requests()
}

/// Whether another instance than this one is healthy and has proven itself.
pub(crate) fn has_proven_other(service: &ServiceLocal, instance: &InstanceLocal) -> bool {
    let other = |place: usize| !std::ptr::eq(&raw const *service.instances[place], instance);
    let mut places = (0..service.instances.len()).filter(|&place| other(place) && serves(service, place));
    places.any(|place| !service.view().instances[place].trial)
}

/// The same, below its bound.
pub(crate) fn has_free_other(service: &ServiceLocal, instance: &InstanceLocal) -> bool {
    let most = service.config().limits.in_flight_per_instance;
    (0..service.instances.len()).any(|place| {
        let other = &service.instances[place];
        let free = most == 0 || other.shared.in_flight.load(Relaxed) < most;
        let proven = !service.view().instances[place].trial;
        free && proven && serves(service, place) && !std::ptr::eq(&raw const **other, instance)
    })
}

/// Whether nothing is known yet of some instance that should serve: it may be healthy in a moment.
pub(crate) fn awaits_probe(service: &ServiceLocal) -> bool {
    let mut serving = service.view().instances.iter().filter(|instance| instance.duty == Duty::Serve);
    serving.any(|instance| instance.shared.health() == Health::Unknown && !instance.shared.was_probed())
}

fn choose_among(
    thread: &Thread,
    turns: &mut Turns,
    service: &ServiceLocal,
    zone: Zone,
    asks: Asks<'_>,
) -> Option<usize> {
    let view = service.view();
    if view.config.balance == Balance::LeastConnections && !view.choosing.special && !view.trials {
        // What most services have needs nobody to remember the candidates.
        let candidate = candidate(service, zone, asks.tried);
        return turns.least.choose_of(service.instances.len(), candidate);
    }
    gather(&mut turns.candidates, service, zone, asks.tried);
    if !view.choosing.special && !view.trials {
        return choose(thread, turns, service, asks);
    }
    let slow_start_ms = view.config.choice.slow_start_ms;
    if slow_start_ms > 0 {
        warm(&mut turns.candidates, service, clock::millis(thread.now()), slow_start_ms);
    }
    if let Stays::Cookie(Some(named)) = asks.tie.sticky
        && let Some(place) = turns.candidates.iter().position(|one| one.open && one.key == named)
        && may_have(&view.instances[place], asks)
    {
        return Some(place);
    }
    if view.trials || slow_start_ms > 0 {
        choose_by_shares(thread, turns, service, asks)
    } else {
        choose(thread, turns, service, asks)
    }
}

/// Whether this request may go to an instance: not if it must be sheltered from what could not be sent elsewhere.
fn may_have(instance: &InstanceView, asks: Asks<'_>) -> bool {
    asks.movable || !(instance.trial && instance.sheltered)
}

/// Instances that became healthy a short time ago have a part of their weight.
fn warm(candidates: &mut [Candidate], service: &ServiceLocal, now_ms: u64, slow_start_ms: u64) {
    for (candidate, instance) in candidates.iter_mut().zip(&service.instances) {
        let permille = match instance.shared.warming_since_ms() {
            0 => 1000,
            since_ms => slow_start::permille(since_ms, now_ms, slow_start_ms),
        };
        candidate.weight = candidate.weight.max(1) * permille;
    }
}

/// What the weight of an instance is where slow start counts, once it has the whole.
fn whole_weight(weight: u16) -> u32 {
    u32::from(weight).max(1) * 1000
}

/// Instances on trial get no more than their share, and those that are sheltered nothing that could not be sent elsewhere,
/// unless there is nobody else. Who starts slowly gets no less either where instances are compared by load: while nobody
/// has much in flight a small weight alone would lose every time, and then have the whole share at once.
fn choose_by_shares(thread: &Thread, turns: &mut Turns, service: &ServiceLocal, asks: Asks<'_>) -> Option<usize> {
    let (config, instances) = (service.config(), &service.view().instances);
    let by_load = matches!(config.balance, Balance::LeastConnections | Balance::PowerOfTwo);
    let slowly = config.choice.slow_start_ms > 0 && by_load && !is_hashed(service, asks);
    let has_share = |candidate: &Candidate, instance: &InstanceView| {
        instance.trial || (slowly && candidate.weight < whole_weight(instance.weight))
    };
    let mut scales = Scales::default();
    for (candidate, instance) in turns.candidates.iter().zip(instances).filter(|(candidate, _)| candidate.open) {
        let (weight, in_flight) = (u64::from(candidate.weight), u64::from(candidate.in_flight));
        scales.weight += weight;
        scales.in_flight += in_flight;
        if has_share(candidate, instance) {
            scales.trial_weight += weight;
            scales.trial_in_flight += in_flight;
        }
    }
    if scales.trial_weight == 0 || scales.trial_weight == scales.weight {
        return choose(thread, turns, service, asks);
    }
    let takes =
        |candidate: &Candidate, instance: &InstanceView| has_share(candidate, instance) && may_have(instance, asks);
    let close = |turns: &mut Turns, closes: &dyn Fn(&Candidate, &InstanceView) -> bool| {
        let those = turns.candidates.iter_mut().zip(instances);
        let those = those.filter(|(candidate, instance)| closes(candidate, instance));
        those.for_each(|(candidate, _)| candidate.open = false);
    };
    let might = turns
        .candidates
        .iter()
        .zip(instances)
        .any(|(candidate, instance)| candidate.open && takes(candidate, instance));
    if might && turns.trial.earns(scales) {
        let chosen = if is_hashed(service, asks) {
            // Only clients that it would have anyway: the others stay where they are.
            choose(thread, turns, service, asks)
                .filter(|&place| instances[place].trial && may_have(&instances[place], asks))
        } else {
            // The turns of the others are not disturbed: theirs go on with the next request.
            close(turns, &|candidate, instance| !takes(candidate, instance));
            turns.least_on_trial.choose(&turns.candidates)
        };
        if chosen.is_some() {
            turns.trial.spend();
            return chosen;
        }
    }
    close(turns, &has_share);
    choose(thread, turns, service, asks)
}

fn gather(candidates: &mut Vec<Candidate>, service: &ServiceLocal, zone: Zone, tried: &Tried) {
    candidates.clear();
    candidates.extend((0..service.instances.len()).map(candidate(service, zone, tried)));
}

/// The instance at a place as the algorithms see it.
fn candidate(service: &ServiceLocal, zone: Zone, tried: &Tried) -> impl Fn(usize) -> Candidate {
    let limit = service.config().limits.in_flight_per_instance;
    let (instances, views) = (&service.instances, &service.view().instances);
    move |place| {
        let (one, view) = (&instances[place], &views[place]);
        let in_flight = one.shared.in_flight.load(Relaxed);
        let here = zone == Zone::Any || view.preferred == (zone == Zone::Preferred);
        let serves = view.duty == Duty::Serve && one.shared.takes_requests();
        let open = here && serves && (limit == 0 || in_flight < limit) && !tried.has(one);
        Candidate { key: one.key, weight: u32::from(view.weight), in_flight, open }
    }
}

/// By which hash a client stays with an instance, if it does so without a cookie.
fn sticks_by(service: &ServiceLocal, asks: Asks<'_>) -> Option<u64> {
    match (service.config().choice.sticky.as_ref()?, asks.tie.sticky) {
        (Sticky::Address, _) => Some(client_hash(asks.client)),
        (Sticky::Header(_), Stays::Hash(hash)) => Some(hash),
        _ => None,
    }
}

/// Whether who sends a request decides where it goes.
fn is_hashed(service: &ServiceLocal, asks: Asks<'_>) -> bool {
    let hashes = matches!(service.config().balance, Balance::IpHash | Balance::Maglev | Balance::ConsistentHash);
    hashes || sticks_by(service, asks).is_some()
}

fn choose(thread: &Thread, turns: &mut Turns, service: &ServiceLocal, asks: Asks<'_>) -> Option<usize> {
    let (config, choosing) = (service.config(), &service.view().choosing);
    if choosing.special
        && let Some(hash) = sticks_by(service, asks)
    {
        return rendezvous(&turns.candidates, hash);
    }
    match config.balance {
        Balance::RoundRobin => turns.round_robin.choose(&turns.candidates),
        Balance::WeightedRoundRobin => turns.weighted.choose(&turns.candidates),
        Balance::LeastConnections => turns.least.choose(&turns.candidates),
        Balance::IpHash => rendezvous(&turns.candidates, client_hash(asks.client)),
        Balance::Random => random(&turns.candidates, turns.draws.draw()),
        Balance::PowerOfTwo => by_latency(thread, turns, service),
        Balance::Maglev | Balance::ConsistentHash => {
            let hash = asks.tie.hash.unwrap_or_else(|| client_hash(asks.client));
            match &*choosing.table {
                Table::Maglev(table) => table.choose(&turns.candidates, hash),
                Table::Ring(ring) => ring.choose(&turns.candidates, hash, config.choice.hash_bound_percent),
                Table::None => rendezvous(&turns.candidates, hash),
            }
        }
    }
}

fn by_latency(thread: &Thread, turns: &mut Turns, service: &ServiceLocal) -> Option<usize> {
    let now = thread.now();
    let remembered = |place: usize| service.instances[place].latency.get();
    let place = power_of_two(&turns.candidates, turns.draws.draw(), now, remembered)?;
    let latency = &service.instances[place].latency;
    let mut remembered = latency.get();
    remembered.chosen(now);
    latency.set(remembered);
    Some(place)
}

/// Whether a client keeps the cookie that names this instance although another one had its request: it is only at its
/// limit, or must not have what could not be sent elsewhere.
pub(crate) fn keeps_cookie(service: &ServiceLocal, tried: &Tried, named: u64) -> bool {
    let zone = zone(service);
    service.instances.iter().enumerate().any(|(place, one)| {
        let here = zone == Zone::Any || service.view().instances[place].preferred == (zone == Zone::Preferred);
        one.key == named && here && serves(service, place) && !tried.has(one)
    })
}

impl Flight {
    /// `None` if other threads have filled the instance meanwhile.
    fn enter(thread: &Rc<Thread>, service: &Rc<ServiceLocal>, place: usize) -> Option<Self> {
        let instance = &service.instances[place];
        let limit = service.config().limits.in_flight_per_instance;
        let before = instance.shared.in_flight.fetch_add(1, Relaxed);
        if limit > 0 && before >= limit {
            instance.shared.in_flight.fetch_sub(1, Relaxed);
            return None;
        }
        let cell = instance.cell();
        cell.tries.add(1);
        cell.in_flight.add(1);
        let flight = Self {
            service: Rc::clone(service),
            instance: Rc::clone(instance),
            trial: service.view().instances[place].trial,
            thread: Rc::clone(thread),
            waits: Cell::new(false),
            cut_offs: instance.shared.cut_offs.load(Relaxed),
        };
        flight.set_waiting(true);
        Some(flight)
    }

    /// It stays where it is and goes on for long: what its service has beside that is let go of.
    pub(crate) fn settle(&mut self) {
        self.service = self.service.bare();
    }

    /// Whether the instance is to answer now. It is not while the client still sends, and not once its answer has begun:
    /// nothing that it does not say then speaks against it.
    pub(crate) fn set_waiting(&self, waits: bool) {
        if self.waits.replace(waits) == waits {
            return;
        }
        let cell = self.instance.cell();
        let waiting = cell.waiting.get();
        if !waits {
            cell.waiting.set(waiting.saturating_sub(1));
            return;
        }
        if waiting == 0 {
            cell.busy_since_ms.set(clock::millis(self.thread.now()));
        }
        cell.waiting.add(1);
    }

    /// The instance cut this try off, or the stream or tunnel that had become of it. Returns whether no other request was
    /// there to be the cause: none is in flight now, and no other was cut off meanwhile.
    pub(crate) fn cut_off(&self) -> bool {
        let others = self.instance.shared.cut_offs.fetch_add(1, Relaxed).wrapping_sub(self.cut_offs);
        others == 0 && self.instance.shared.in_flight.load(Relaxed) <= 1
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.set_waiting(false);
        self.instance.shared.in_flight.fetch_sub(1, Relaxed);
        let cell = self.instance.cell();
        cell.in_flight.set(cell.in_flight.get().saturating_sub(1));
        let shared = &self.service.view().shared;
        if self.service.config().limits.in_flight_per_instance > 0 {
            // Either this sees who is held, or who is held sees the slot.
            fence(SeqCst);
            if shared.holding.load(Relaxed) > 0 {
                crate::hold::slot_free(&self.thread, shared);
            }
        }
    }
}
